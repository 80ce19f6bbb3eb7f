"""`/live.m3u8` and `/hls/RUN/NUMBER.ts`: the stream in segments, for players and caches.

A segment is two places of the track and nothing more: it is read there when it is asked for,
without a copy. The playlist is cut as the stream comes, from its entry points, so that a request
costs the same whatever the track holds.

A playlist lists less than the track has (`_floor`), because a player that has just read it may
still ask for its first segment. RFC 8216 (6.2.2) wants more: a segment is to be there for as long
as the longest playlist lasted, which would halve how far viewers can go back. If the track
overtakes a segment that is being sent, its connection ends early: the length does not fit, but no
byte is wrong.

A range of a segment cannot be had: no player needs one, and a cache wants the whole.
"""

import math
import re
import secrets
from collections.abc import Sequence

from relaylib.errors import HttpError
from relaylib.net.loop import Loop
from relaylib.track.track import Entry, Track
from relaylib.web.live import KIND, Refresh, available
from relaylib.web.playlist import TARGET, Mark, Playlist, Segment
from relaylib.web.reply import FOREVER, Piece, Response, StreamEndError
from relaylib.web.request import HttpRequest
from relaylib.web.stream_state import StreamState

PLAYLIST = "application/vnd.apple.mpegurl"

PREFIX = "hls/"

PERIOD = 0.5
"""Seconds between two looks for entry points."""

AT_ONCE = 32
"""Entry points that are taken in one look: a millisecond, after a start with a full track. Between
two of them the ingest is read, if it is time to."""

_SEGMENT = re.compile(r"/hls/([0-9a-f]+)/(0|[1-9][0-9]{0,15})\.ts")


class Hls:
    """The resource; without a track it has no segments. `refresh` brings it up to date."""

    def __init__(
        self,
        loop: Loop,
        track: Track | None,
        refresh: Refresh,
        saved: Playlist | None = None,
    ) -> None:
        self._loop = loop
        self._track = track
        self._refresh = refresh
        self._text, self._listed_as = b"", ""
        self._playlist = saved if saved and _fits(saved, track) else Playlist(_new_run())
        if track is not None:
            loop.call_in_step(PERIOD, lambda: self._cut(track))

    def export(self) -> Playlist:
        """Return what the next program needs to go on."""
        return self._playlist

    def respond(self, request: HttpRequest, now: float) -> Response:
        """Answer with the playlist or a segment.

        Raises:
            HttpError: there is no such playlist or segment.
        """
        track = self._track
        if track is None:
            raise HttpError(503, "el relay no tiene memoria para los que miran por HTTP")
        self._playlist.forget(track.oldest)
        if request.path == "/live.m3u8":
            return self._list(track, now)
        asked = _SEGMENT.fullmatch(request.path)
        segment = None
        if asked is not None and asked[1] == self._playlist.run:
            segment = self._playlist.find(int(asked[2]))
        if segment is None:
            raise HttpError(404, "ese segmento no existe, o ya no: empiece por /live.m3u8")
        return Response(
            Body(track, segment),
            KIND,
            cache=FOREVER,
            etag=f"{self._playlist.run}-{segment.sequence}",
            is_media=True,
            length=len(segment.tables) + segment.end - segment.begin,
        )

    # --- the playlist

    def _list(self, track: Track, now: float) -> Response:
        self._refresh()
        self._cut(track)
        playlist = self._playlist
        listed = playlist.listed(max(self._floor(track), now - track.seconds))
        if not listed:
            available(track, now)  # raises the error that says what is missing
            raise HttpError(503, "ninguna fuente emite, o todavia no hay ningun segmento")
        etag = f"{playlist.run}-{listed[0].sequence}-{playlist.sequence}-{playlist.target}"
        if etag != self._listed_as:  # otherwise the same playlist was asked for just before
            text = playlist.text(listed, PREFIX, self._dated)
            self._text, self._listed_as = text.encode(), etag
        return Response(
            self._text,
            PLAYLIST,
            cache=f"public, max-age={playlist.target // 2}",
            etag=etag,
            compress=True,
            is_media=True,
        )

    def _dated(self, seconds: float) -> str:
        """Write the date of a segment; between those of a thousand the ingest is read."""
        self._loop.read_priority()
        return self._loop.dated(seconds)

    def _floor(self, track: Track) -> float:
        """Return the time from which segments are listed: older ones may be gone when asked for."""
        if not track.oldest:
            return -math.inf
        oldest, newest = track.time(track.oldest), track.time(track.end)
        return oldest + min(2.0 * max(TARGET, self._playlist.target), (newest - oldest) / 4)

    def _cut(self, track: Track) -> None:
        """Take the new entry points."""
        playlist, epoch = self._playlist, self._loop.epoch() / 1e9
        playlist.forget(track.oldest)
        known = playlist.latest.at if playlist.latest else -1
        for entry in track.entries_behind(max(known, track.oldest - 1))[:AT_ONCE]:
            playlist.take(self._mark(track, entry), epoch)
            self._loop.read_priority()

    def _mark(self, track: Track, entry: Entry) -> Mark:
        latest = self._playlist.latest
        broken = track.break_behind(latest.at) if latest else None
        before = track.time(max(track.oldest, entry.at - 1))
        ended = None
        if broken is not None and broken.at <= entry.at:
            ended, before = broken.at, broken.before
        return Mark(entry.at, entry.time, entry.stamp, entry.tables, before, ended)

    def restore(self, saved: StreamState) -> "Body":
        """Go on with a segment that the previous program was sending."""
        segment = None if saved.number is None else self._playlist.find(saved.number)
        if self._track is None or segment is None:
            raise ValueError("no such segment")
        return Body(self._track, segment, saved.at)


class Body:
    """The bytes of a segment, `sent` of them already: a stream with an end."""

    __slots__ = ("_segment", "_sent", "_track", "skipped")

    def __init__(self, track: Track, segment: Segment, sent: int = 0) -> None:
        self._track = track
        self._segment = segment
        self._sent = sent
        self.skipped = 0

    def look(self, until: float, most: int) -> Sequence[Piece]:
        """Return the next bytes; see `reply.StreamBody`."""
        segment, tables = self._segment, self._segment.tables
        if self._sent < len(tables):
            return (memoryview(tables)[self._sent :],)
        at = segment.begin + self._sent - len(tables)
        if at < self._track.oldest:
            raise StreamEndError("overtaken")
        return self._track.pieces(at, min(at + most, segment.end))

    def taken(self, byte_count: int) -> None:
        """Note how much was sent; see `reply.StreamBody`."""
        self._sent += byte_count

    def export(self) -> StreamState:
        return StreamState(self._sent, number=self._segment.sequence)


def _new_run() -> str:
    """Make a name for a run that no earlier run has."""
    return secrets.token_hex(5)


def _fits(playlist: Playlist, track: Track | None) -> bool:
    """Tell whether a playlist is about this track, which may have begun anew with the program."""
    places = [each.end for each in playlist.segments[-1:]]
    places += [playlist.latest.at] if playlist.latest else []
    return track is not None and all(place <= track.end for place in places)
