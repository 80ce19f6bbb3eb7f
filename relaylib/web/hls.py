"""`/live.m3u8` and `/hls/RUN/NUMBER.ts`: the stream in segments, for who fetches and for caches.

A segment is a range of the history and nothing more: it is read there when somebody asks, without a
copy, and once for all who ask meanwhile. What is cut where is found out when a playlist is asked
for, from the random access points that the history has meanwhile. So nothing is done where nobody
watches.

A playlist lists less than the history has (`_floor`), because who has just read it may still ask
for its first segment. That is less than RFC 8216 wants (6.2.2): for as long as the longest playlist
lasted, which would halve how far one can go back. If the history overtakes a segment that is being
sent, its connection ends before all of it is there: a length that does not fit, but never a wrong
octet.

A range of a segment is not to be had: no player needs that, and a cache wants the whole.
"""

import math
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from itertools import islice, takewhile

from relaylib.errors import HttpError
from relaylib.media import mpegts
from relaylib.media.form import Form
from relaylib.media.mpegts import PACKET_SIZE, SYNC_BYTE
from relaylib.net.loop import Loop
from relaylib.stream.history import AccessPoint, History
from relaylib.stream.payload import MOST_PIECES, Cursor, Cuts, pieces
from relaylib.web.live import KIND
from relaylib.web.playlist import TARGET, Mark, Playlist, Segment, Spot
from relaylib.web.reply import FOREVER, Piece, Response, StreamEndError
from relaylib.web.request import Request
from relaylib.web.stream_state import StreamState

PLAYLIST = "application/vnd.apple.mpegurl"

PREFIX = "hls/"

SILENCE = 1.0
"""Seconds without a datagram that end a timeline."""

_SUSPICIOUS = 3.0
"""Seconds between two random access points that are looked through for a silence."""

KEPT = 4
"""Segments whose pieces are kept for who asks next: players begin three from the end. In RTP a
segment of 2 MB has 1,500 pieces, which take 0.4 MB."""

_SEGMENT = re.compile(r"/hls/([0-9a-f]+)/(0|[1-9][0-9]{0,15})\.ts")


class Hls:
    """The resource; without a history there is none.

    `form` is what the source sends, `sources` at which runs of the history another one began.
    """

    def __init__(
        self,
        loop: Loop,
        history: History | None,
        form: Callable[[], Form],
        sources: Callable[[], Iterable[int]],
        saved: Playlist | None = None,
    ) -> None:
        self._loop = loop
        self._history = history
        self._form = form
        self._sources = sources
        self._contents: dict[int, Content] = {}
        self._text, self._listed_as = b"", ""
        self._playlist = saved or Playlist(_new_run())
        if not _fits(self._playlist, history):
            self._playlist = Playlist(_new_run())

    def export(self) -> Playlist:
        """Return what the next program needs to go on."""
        return self._playlist

    def respond(self, request: Request, now: float) -> Response:
        """Answer with the playlist or a segment.

        Raises:
            HttpError: there is none.
        """
        history = self._history
        if history is None:
            raise HttpError(503, "el relay no guarda historial (--timeshift)")
        self._playlist.forget(history.oldest)
        if request.path == "/live.m3u8":
            return self._list(history, now)
        asked = _SEGMENT.fullmatch(request.path)
        segment = None
        if asked is not None and asked[1] == self._playlist.run:
            segment = self._playlist.find(int(asked[2]))
        if segment is None:
            raise HttpError(404, "ese segmento no existe, o ya no: empiece por /live.m3u8")
        return self._send(history, segment)

    # --- the playlist

    def _list(self, history: History, now: float) -> Response:
        self._cut(history)
        playlist = self._playlist
        listed = playlist.listed(max(self._floor(history), now - history.seconds))
        if not listed:
            raise HttpError(503, "ninguna fuente emite, o todavia no hay ningun segmento")
        etag = f"{playlist.run}-{listed[0].sequence}-{playlist.sequence}-{playlist.target}"
        if etag != self._listed_as:  # or somebody has just asked for the same
            text = playlist.text(listed, PREFIX, self._loop.dated)
            self._text, self._listed_as = text.encode(), etag
        return Response(
            self._text,
            PLAYLIST,
            cache=f"public, max-age={playlist.target // 2}",
            etag=etag,
            compress=True,
            is_media=True,
        )

    def _floor(self, history: History) -> float:
        """Return since when segments are listed: some time will pass until they are asked for."""
        if not history.oldest or history.oldest == history.end:
            return -math.inf
        oldest, newest = history[history.oldest].time, history[history.end - 1].time
        return oldest + min(2.0 * max(TARGET, self._playlist.target), (newest - oldest) / 4)

    def _cut(self, history: History) -> None:
        """Take the random access points that are new."""
        playlist, cuts = self._playlist, Cuts(history, self._form)
        epoch = self._loop.epoch() / 1e9
        known = playlist.latest.spot[0] if playlist.latest else history.oldest
        following = takewhile(
            lambda each: each.number >= max(known, history.oldest), reversed(history.points)
        )
        for point in reversed(list(following)):
            spot: Spot = cuts.at(point)
            if playlist.latest is None or spot > playlist.latest.spot:
                playlist.take(self._mark(history, point, spot), epoch, self._form())

    def _mark(self, history: History, point: AccessPoint, spot: Spot) -> Mark:
        ended = self._ended(history, point)
        last = max(history.oldest, (point.number if ended is None else ended) - 1)
        return Mark(
            (spot[0], spot[1]),
            point.time,
            _stamp(history, point),
            point.tables,
            history[last].time,
            None if ended is None else (ended, 0),
        )

    def _ended(self, history: History, point: AccessPoint) -> int | None:
        """Return the run at which something else began since the latest mark, if it did."""
        latest = self._playlist.latest
        if latest is None:
            return None
        began = [each for each in self._sources() if latest.spot[0] < each <= point.number]
        if began:
            return began[0]
        if point.time - latest.time < _SUSPICIOUS:
            return None
        before = latest.time
        for number in range(latest.spot[0], point.number + 1):
            time = history[number].time
            if time - before > SILENCE:
                return number
            before = time
        return None

    # --- segments

    def _send(self, history: History, segment: Segment) -> Response:
        content = self._content(history, segment)
        return Response(
            Body(history, segment.sequence, content),
            KIND,
            cache=FOREVER,
            etag=f"{self._playlist.run}-{segment.sequence}",
            is_media=True,
            length=sum(len(piece) for _, piece in content),
        )

    def _content(self, history: History, segment: Segment) -> "Content":
        """Find the pieces of a segment, unless somebody has just asked for it.

        Raises:
            HttpError: it is not there any more.
        """
        content = self._contents.pop(segment.sequence, None) or self._found(history, segment)
        if segment.begin[0] < history.oldest:
            raise HttpError(404, "ese segmento ya no esta")
        self._contents[segment.sequence] = content
        if len(self._contents) > KEPT:
            del self._contents[next(iter(self._contents))]
        return content

    def _found(self, history: History, segment: Segment) -> "Content":
        content = list[tuple[int, Piece]]()
        if segment.tables:
            content.append((segment.begin[0], segment.tables))
        begin, end = Cursor(*segment.begin), Cursor(*segment.end)
        for piece in pieces(history, segment.form, begin, end):
            content.append(piece)
            self._loop.read_priority()
        return content

    def restore(self, saved: StreamState) -> "Body":
        """Go on with a segment that the previous program was sending."""
        sequence, sent = saved.place
        segment = self._playlist.find(sequence)
        if self._history is None or segment is None:
            raise ValueError("no such segment")
        return Body(self._history, sequence, self._content(self._history, segment), sent)


Content = Sequence[tuple[int, Piece]]
"""The pieces of a segment, each with the number of the run until which it is good."""


class Body:
    """The octets of a segment, `sent` of them already: a stream with an end."""

    __slots__ = ("_at", "_content", "_history", "_offset", "_sent", "_sequence", "skipped")

    def __init__(self, history: History, sequence: int, content: Content, sent: int = 0) -> None:
        self._history = history
        self._sequence = sequence
        self._content = content
        self._at = self._offset = self._sent = 0  # the piece that is next, and where in it
        self.skipped = 0
        self.taken(sent)

    def look(self, until: float, most: int) -> Sequence[Piece]:
        """Return what comes next; see `reply.Stream`."""
        following = islice(self._content, self._at, self._at + MOST_PIECES)
        found, octets = list[Piece](), -self._offset
        for number, piece in following:
            if number < self._history.oldest:
                raise StreamEndError("overtaken")
            found.append(piece)
            octets += len(piece)
            if octets >= most:
                break
        if found and self._offset:
            found[0] = memoryview(found[0])[self._offset :]
        return found

    def taken(self, octets: int) -> None:
        """Note how much was sent; see `reply.Stream`."""
        self._sent += octets
        self._offset += octets
        while self._offset and self._offset >= (length := len(self._content[self._at][1])):
            self._offset -= length
            self._at += 1

    def export(self) -> StreamState:
        return StreamState([self._sequence, self._sent])


def _new_run() -> str:
    """Name a run, as none was named before."""
    return secrets.token_hex(5)


def _fits(playlist: Playlist, history: History | None) -> bool:
    """Tell whether a playlist is about this history: that may have begun anew with the program."""
    spots = [each.end for each in playlist.segments[-1:]]
    spots += [playlist.latest.spot] if playlist.latest else []
    return history is not None and all(spot[0] < history.end for spot in spots)


def _stamp(history: History, point: AccessPoint) -> int | None:
    """Return the time stamp of the packet at a point: the DTS, or else the PTS."""
    datagram = history.run(point.number).datagrams()[point.datagram]
    packet = bytes(datagram[point.offset : point.offset + PACKET_SIZE])
    if len(packet) < PACKET_SIZE or packet[0] != SYNC_BYTE:
        return None
    header = mpegts.pes_header(packet)
    return mpegts.stamp(packet, header.stamps[-1]) if header else None
