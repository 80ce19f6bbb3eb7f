"""`/live.m3u8` and `/hls/RUN/NUMBER.ts`: the stream in segments, for who fetches and for caches.

A segment is a range of the history and nothing more: it is read there when somebody asks, without a
copy. What is cut where is found out when a playlist is asked for, from the random access points
that the history has meanwhile. So nothing is done where nobody watches.

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
from relaylib.stream.payload import Cursor, Cuts, payload
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

_AT_ONCE = 256
"""Runs that are measured without a look at the ingest: 0.2 ms."""

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
        self._lengths: dict[int, int] = {}
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
            raise HttpError(503, "el relay no guarda historia (--timeshift)")
        self._playlist.forget(history.oldest)
        if request.path == "/live.m3u8":
            return self._list(history, now)
        asked = _SEGMENT.fullmatch(request.path)
        segment = None
        if asked is not None and asked[1] == self._playlist.run:
            segment = self._playlist.find(int(asked[2]))
        if segment is None:
            raise HttpError(404, "ese segmento no esta, o ya no")
        return self._send(history, segment)

    # --- the playlist

    def _list(self, history: History, now: float) -> Response:
        self._cut(history)
        playlist = self._playlist
        listed = playlist.listed(max(self._floor(history), now - history.seconds))
        if not listed:
            raise HttpError(503, "no llega ninguna fuente, o todavia no hay ningun segmento")
        text = playlist.text(listed, PREFIX, self._loop.dated).encode()
        return Response(
            text,
            PLAYLIST,
            cache=f"public, max-age={playlist.target // 2}",
            etag=f"{playlist.run}-{listed[0].sequence}-{playlist.sequence}-{playlist.target}",
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
        return Response(
            Body(history, segment, length := self._length(history, segment)),
            KIND,
            cache=FOREVER,
            etag=f"{self._playlist.run}-{segment.sequence}",
            is_media=True,
            length=length,
        )

    def _length(self, history: History, segment: Segment) -> int:
        """Measure a segment, once."""
        length = self._lengths.get(segment.sequence)
        if length is None:
            first = self._playlist.segments[0].sequence
            self._lengths = {at: each for at, each in self._lengths.items() if at >= first}
            length = self._lengths[segment.sequence] = self._measured(history, segment)
        return length

    def _measured(self, history: History, segment: Segment) -> int:
        length = len(segment.tables) - segment.begin[1] + segment.end[1]
        numbers = iter(range(segment.begin[0], segment.end[0]))
        while some := list(islice(numbers, _AT_ONCE)):
            if segment.begin[0] < history.oldest:
                raise HttpError(404, "ese segmento ya no esta")
            for number in some:
                length += sum(map(len, payload(history.run(number), segment.form)))
            self._loop.read_priority()
        return length

    def restore(self, saved: StreamState) -> "Body":
        """Go on with a segment that the previous program was sending."""
        sequence, sent = saved.place
        segment = self._playlist.find(sequence)
        if self._history is None or segment is None or segment.begin[0] < self._history.oldest:
            raise ValueError("no such segment")
        return Body(self._history, segment, self._length(self._history, segment), sent)


class Body:
    """The octets of a segment, `sent` of them already: a stream with an end."""

    __slots__ = ("_cursor", "_cuts", "_length", "_segment", "_sent", "skipped")

    def __init__(self, history: History, segment: Segment, length: int, sent: int = 0) -> None:
        self._cuts = Cuts(history, lambda: segment.form)
        self._segment = segment
        self._length = length
        self._sent = 0
        self._cursor = Cursor(*segment.begin)
        self.skipped = 0
        if sent:
            self.taken(sent)

    def look(self, until: float, most: int) -> Sequence[Piece]:
        """Return what comes next; see `reply.Stream`."""
        if self._cursor.number < self._cuts.history.oldest:
            raise StreamEndError("overtaken")
        tables = self._segment.tables[self._sent :]
        if tables:
            return (tables,)
        pieces, left = [], self._length - self._sent
        for piece in self._cuts.cut(self._cursor, until, min(most, left)).pieces:
            pieces.append(piece[:left])
            left -= len(pieces[-1])
            if left <= 0:
                break
        return pieces

    def taken(self, octets: int) -> None:
        """Note how much was sent; see `reply.Stream`."""
        before = max(0, len(self._segment.tables) - self._sent)
        self._sent += octets
        if octets > before:
            self._cursor = self._cuts.behind(self._cursor, octets - before)

    def export(self) -> StreamState:
        return StreamState([self._segment.sequence, self._sent])


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
