"""`/live.ts`: the stream as it is now, or was some seconds ago (`?back=SECONDS`), without RTP.

A viewer is a place in the track and nothing more. Its stream begins where decoding can start, with
the tables that a decoder needs first, and goes on with every byte in order. If it reads so slowly
that its place is overwritten, it is moved to the newest entry point.
"""

import math
from collections.abc import Callable, Sequence

from relaylib.errors import HttpError
from relaylib.media.form import Form
from relaylib.media.mpegts import PACKET_SIZE
from relaylib.track.track import Track
from relaylib.web.reply import Piece, Response
from relaylib.web.request import HttpRequest, quoted
from relaylib.web.stream_state import StreamState

KIND = "video/mp2t"

STALE = 10.0
"""Seconds after its last bytes at which a stream is not live any more."""

Refresh = Callable[[], object]

_STUFFING = b"\xff" * PACKET_SIZE


class Live:
    """The resource. Without a track there is no stream; `refresh` brings the track up to date."""

    def __init__(self, track: Track | None, refresh: Refresh) -> None:
        self._track = track
        self._refresh = refresh

    def respond(self, request: HttpRequest, now: float) -> Response:
        """Begin a stream.

        Raises:
            HttpError: there is no stream, or it is no transport stream, or `back` is no number.
        """
        back = read_back(request)
        self._refresh()
        track = available(self._track, now)
        return Response(LiveStream(track, now - back, live=not back), KIND, is_media=True)

    def restore(self, saved: StreamState) -> "LiveStream":
        """Go on with a stream of the previous program; the track may have begun anew."""
        if self._track is None:
            raise ValueError("no track")
        return LiveStream.restore(self._track, saved)


def available(track: Track | None, now: float) -> Track:
    """Return the track if it has a live stream.

    Raises:
        HttpError: there is no stream, or it is no transport stream.
    """
    if track is None:
        raise HttpError(503, "el relay no tiene memoria para los que miran por HTTP")
    if now - track.heard > STALE:
        raise HttpError(503, "ninguna fuente emite: pruebe cuando haya una")
    if track.form is Form.RTP_OTHER:
        kind = track.payload_type
        raise HttpError(503, f"la fuente envia RTP sin MPEG-TS (tipo {kind}): use rtp_mpegts")
    if track.form is Form.OPAQUE:
        raise HttpError(503, "la fuente no envia MPEG-TS: solo se puede ver por UDP")
    return track


def read_back(request: HttpRequest) -> float:
    """Read the seconds in `?back=`.

    Raises:
        HttpError: it is no number of seconds.
    """
    text = request.query.get("back", "0")
    try:
        back = float(text)
    except ValueError:
        back = -1.0
    if 0 <= back < math.inf:
        return back
    raise HttpError(400, f"back={quoted(text)} no es un numero de segundos, como back=20", "query")


class LiveStream:
    """The stream of one viewer: the bytes of `first`, then those of the track from a place on."""

    __slots__ = ("_at", "_first", "_track", "skipped")

    def __init__(self, track: Track, time: float, *, live: bool) -> None:
        self._track = track
        self.skipped = 0
        self._begin(time, live=live)

    @classmethod
    def restore(cls, track: Track, saved: StreamState) -> "LiveStream":
        stream = cls.__new__(cls)
        stream._track, stream._at = track, saved.at
        stream._first, stream.skipped = saved.first, saved.skipped
        if saved.at > track.end:  # checked now: soon other bytes will be at this place
            stream._move(math.inf)
        return stream

    def export(self) -> StreamState:
        return StreamState(self._at, self._first, self.skipped)

    def _begin(self, time: float, *, live: bool) -> None:
        """Begin where decoding can start; if unknown, at that time, or with the next bytes."""
        track = self._track
        entry = track.entry(time)
        if entry is not None:
            self._first, self._at = entry.tables, entry.at
        else:
            self._first, self._at = b"", track.end if live else track.find(time)

    def look(self, until: float, most: int) -> Sequence[Piece]:
        """Return the next bytes; see `reply.StreamBody`."""
        track = self._track
        if self._at < track.oldest:
            self._move(until)
        if self._first:
            return (self._first,)
        return track.pieces(self._at, min(self._at + most, track.end))

    def delay(self, now: float) -> float | None:
        """Return how far behind it is; see `reply.MediaStream`."""
        track = self._track
        return 0.0 if self._at >= track.end else now - track.time(max(self._at, track.oldest))

    def _move(self, now: float) -> None:
        """Skip what has been overwritten, and first fill up the packet that was under way."""
        self.skipped += 1
        begun = -len(self._first) % PACKET_SIZE if self._first else self._at % PACKET_SIZE
        filling = _STUFFING[: -begun % PACKET_SIZE]
        self._begin(now, live=True)
        self._first = filling + self._first

    def taken(self, byte_count: int) -> None:
        """Note how much was sent; see `reply.StreamBody`."""
        if self._first:
            self._first = self._first[byte_count:]
        else:
            self._at += byte_count
