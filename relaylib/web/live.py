"""`/live.ts`: the stream as it is now, or was some seconds ago (`?back=SECONDS`), without RTP.

A viewer is a place in the shared history and nothing more. It begins at a random access point, with
the tables that a decoder needs before that, and then gets every octet that came, in order. If it
reads so slowly that its place is overwritten, it is moved to the newest random access point.
"""

import math
from collections.abc import Callable, Sequence

from relaylib.errors import HttpError
from relaylib.media.form import Form
from relaylib.media.mpegts import PACKET_SIZE
from relaylib.stream.history import History
from relaylib.stream.payload import Cursor, Cuts
from relaylib.web.reply import Piece, Response
from relaylib.web.request import Request, quoted
from relaylib.web.stream_state import StreamState

KIND = "video/mp2t"

STALE = 10.0
"""Seconds after which what came last is no live stream."""

_STUFFING = b"\xff" * PACKET_SIZE


class Live:
    """The resource. Without a history there is none; `form` is what the source sends."""

    def __init__(self, history: History | None, form: Callable[[], Form]) -> None:
        self._cuts = None if history is None else Cuts(history, form)

    def respond(self, request: Request, now: float) -> Response:
        """Begin a stream.

        Raises:
            HttpError: there is none, or it is no transport stream, or `back` is no number.
        """
        back = read_back(request)
        cuts = available(self._cuts, now)
        return Response(LiveStream(cuts, now - back, live=not back), KIND, is_media=True)

    def restore(self, saved: StreamState) -> "LiveStream":
        """Go on with a stream of the previous program."""
        if self._cuts is None:
            raise ValueError("no history")
        return LiveStream.restore(self._cuts, saved)


def available(cuts: Cuts | None, now: float) -> Cuts:
    """Make sure that there is a stream.

    Raises:
        HttpError: there is none, or it is no transport stream.
    """
    if cuts is None:
        raise HttpError(503, "el relay no guarda historial (--timeshift)")
    history = cuts.history
    if history.end == history.oldest or history[history.end - 1].time < now - STALE:
        raise HttpError(503, "ninguna fuente emite: pruebe cuando haya una")
    if cuts.form() is Form.OPAQUE:
        raise HttpError(503, "la fuente no envia MPEG-TS: solo se puede ver por UDP")
    return cuts


def read_back(request: Request) -> float:
    """Read `?back=`.

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
    """What one viewer gets."""

    __slots__ = ("_cursor", "_cuts", "_first", "_octets", "skipped")

    def __init__(self, cuts: Cuts, time: float, *, live: bool) -> None:
        self._cuts = cuts
        self._octets = 0  # of the last packet, which may have been sent in part
        self.skipped = 0
        self._begin(time, live=live)

    @classmethod
    def restore(cls, cuts: Cuts, saved: StreamState) -> "LiveStream":
        stream = cls.__new__(cls)
        number, skip, stream._octets = saved.place
        stream._cuts, stream._cursor = cuts, Cursor(number, skip)
        stream._first, stream.skipped = saved.first, saved.skipped
        return stream

    def export(self) -> StreamState:
        return StreamState([*self._cursor, self._octets], self._first, self.skipped)

    def _begin(self, time: float, *, live: bool) -> None:
        """Begin where decoding can start; where nobody knows, at that time, or with what comes."""
        history = self._cuts.history
        point = history.access(time)
        if point is not None:
            self._first, self._cursor = point.tables, self._cuts.at(point)
        else:
            self._first = b""
            self._cursor = Cursor(history.end if live else history.find(time).number)

    def look(self, until: float, most: int) -> Sequence[Piece]:
        """Return what comes next; see `reply.Stream`."""
        history = self._cuts.history
        if not history.oldest <= self._cursor.number <= history.end:  # beyond: it has begun anew
            self._move(until)
        if self._first:
            return (self._first,)
        return self._cuts.cut(self._cursor, until, most).pieces

    def delay(self, now: float) -> float | None:
        """Return how far behind it is; see `reply.MediaStream`."""
        history, number = self._cuts.history, self._cursor.number
        if number >= history.end:
            return 0.0
        return now - history[max(number, history.oldest)].time

    def _move(self, now: float) -> None:
        """Leave out what has been overwritten; a packet that was begun is filled up before."""
        self.skipped += 1
        filling = _STUFFING[: -self._octets % PACKET_SIZE]
        self._begin(now, live=True)
        self._first = filling + self._first

    def taken(self, octets: int) -> None:
        """Note how much was sent; see `reply.Stream`."""
        self._octets = (self._octets + octets) % PACKET_SIZE
        if self._first:
            self._first = self._first[octets:]
            return
        self._cursor = self._cuts.behind(self._cursor, octets)
