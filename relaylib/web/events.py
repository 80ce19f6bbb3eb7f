"""`/events`: server-sent events that feed the page, made once for all its readers.

An event is made when the first reader is due to get it, so without readers none is made. The last
few are kept. A reader is a place among them; if its next event is no longer there, it reads too
slowly and is cut off: a browser comes again by itself, and begins with the present state.

An event comes each `PERIOD`, whether anything has changed or not; with the longest
`--http-coalesce`, each second. So a connection on which nothing came for some seconds is dead, and
no other heartbeat is needed.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import math
from collections import deque
from collections.abc import Sequence

from relaylib.web.reply import Piece, Response, StreamEndError
from relaylib.web.request import HttpRequest
from relaylib.web.series import Series
from relaylib.web.status import StatusResource, encode
from relaylib.web.stream_state import StreamState

KIND = "text/event-stream"

PERIOD = 0.75
"""Seconds from one event to the next: a change shows within a second."""

KEPT = 8
"""Events that a reader may be late, beside what its socket holds."""

_RETRY = b"retry: 1000\n\n"
"""Milliseconds after which a browser comes again."""


class Events:
    """The resource `/events`."""

    def __init__(self, status: StatusResource, series: Series) -> None:
        self._status = status
        self._feed = Feed(status, series)

    def respond(self, _request: HttpRequest, now: float) -> Response:
        """Begin with everything."""
        first = _RETRY + _event(self._status.encoded(now))
        return Response(EventStream(self._feed, first), KIND)

    def restore(self, saved: StreamState) -> "EventStream":
        """Go on with a reader of the previous program, which may have got an event in part."""
        return EventStream(self._feed, saved.first)


class Feed:
    """The latest events; `end` is the number that the next one gets."""

    def __init__(self, status: StatusResource, series: Series) -> None:
        self._status = status
        self._series = series
        self._events: deque[bytes] = deque(maxlen=KEPT)
        self._made_at = -math.inf
        self._second = series.end
        self.end = 0

    def advance(self, now: float) -> None:
        """Make the next event, if it is due."""
        if now - self._made_at < PERIOD:
            return
        self._made_at = now
        self._events.append(_event(encode(self._status.build(self._second))))
        self._second = self._series.end
        self.end += 1

    def event(self, number: int) -> bytes | None:
        """Return an event; None: it is not kept any more."""
        at = number - self.end
        return self._events[at] if -len(self._events) <= at < 0 else None


def _event(status: bytes) -> bytes:
    return b"event: status\ndata: " + status + b"\n\n"


class EventStream:
    """What one reader gets: `first`, then events."""

    __slots__ = ("_feed", "_first", "_number", "_sent", "skipped")

    def __init__(self, feed: Feed, first: bytes) -> None:
        self.skipped = 0
        self._feed = feed
        self._first: Piece = first
        self._number = feed.end
        self._sent = 0

    def look(self, until: float, most: int) -> Sequence[Piece]:
        """Return the rest of an event, or of `first`; see `reply.StreamBody`."""
        self._feed.advance(until)
        if self._first:
            return (memoryview(self._first)[:most],)
        if self._number >= self._feed.end:
            return ()
        event = self._feed.event(self._number)
        if event is None:
            raise StreamEndError("too_slow")
        return (memoryview(event)[self._sent : self._sent + most],)

    def taken(self, byte_count: int) -> None:
        """Note how much was sent; see `reply.StreamBody`."""
        if self._first:
            self._first = memoryview(self._first)[byte_count:]
            return
        self._sent += byte_count
        event = self._feed.event(self._number)
        if event is None or self._sent >= len(event):
            self._number, self._sent = self._number + 1, 0

    def export(self) -> StreamState | None:
        """Return the rest of the event under way; see `reply.StreamBody`."""
        if self._first:
            return StreamState(0, bytes(self._first))
        if not self._sent:
            return StreamState(0)
        event = self._feed.event(self._number)
        return None if event is None else StreamState(0, event[self._sent :])
