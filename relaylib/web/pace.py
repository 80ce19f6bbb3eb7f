"""When streams are written: all of them from one timer, so that writes are few and large.

A write of a datagram costs as much as one of thirty. So bytes gather for a while
(`--http-coalesce`), and then every stream is written what is there, up to several times what has
come meanwhile. A viewer that is behind catches up no faster than that, since a burst at the speed
of a network would push other viewers' datagrams out of its queues. A stream of so high a rate that
a write would not fit the kernel's buffer is written more often.

A turn writes some streams, and the next turn goes on: there are other sockets, too. Between any two
writes the ingest may be read, because UDP loses what waits for too long, and HTTP loses nothing.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from relaylib.net.loop import Loop

PER_TURN = 32
"""Streams written in a turn: about a millisecond."""

LARGEST = 128 * 1024
"""Bytes of a write at the stream's own rate: a third of `SEND_BUFFER`."""

_SMALLEST = 64 * 1024
"""Bytes that a stream may always be written at once, however little has come: 10 Mb/s."""

_CATCH_UP = 4
"""Multiple of the stream's own rate at which a stream that is behind is written."""

_WEIGHT = 1 / 8  # of the newest period in the average rate


class StreamWriter(Protocol):
    """A connection that carries a stream."""

    def write_on(self, until: float, most: int) -> None:
        """Write what had come at `until`, up to about `most` bytes."""

    def abort(self, reason: str) -> None:
        """End, and have itself removed."""


class Pace:
    """Writes streams. `byte_count` returns the bytes of the live stream since the start.

    `is_running`: the timer runs, as there are streams to write.
    """

    def __init__(self, loop: Loop, coalesce: float, byte_count: Callable[[], int]) -> None:
        self._loop = loop
        self._coalesce = coalesce
        self._bytes = byte_count
        self._writers: dict[StreamWriter, None] = {}
        self._waiting: deque[StreamWriter] = deque()
        self._until = self._since = loop.now
        self._counted = 0
        self._rate = 0.0
        self.is_running = False

    @property
    def most(self) -> int:
        """Bytes that a stream may be written at once."""
        return max(_SMALLEST, int(_CATCH_UP * self._rate * self.period))

    @property
    def period(self) -> float:
        """Seconds between two writes."""
        return min(self._coalesce, LARGEST / self._rate) if self._rate else self._coalesce

    def add(self, writer: StreamWriter) -> None:
        """Write this stream, too, from now on."""
        self._writers[writer] = None
        if not self.is_running:
            self.is_running = True
            self._since, self._counted = self._loop.time(), self._bytes()
            self._loop.call_later(self._loop.until_step(self.period), self._tick)

    def remove(self, writer: StreamWriter) -> None:
        """Write this stream no more."""
        self._writers.pop(writer, None)

    def _tick(self) -> None:
        self._until = self._loop.time()
        self._measure()
        self._most = self.most
        self._waiting.extend(self._writers)
        self._write_some()

    def _measure(self) -> None:
        elapsed, self._since = self._until - self._since, self._until
        byte_count, self._counted = self._bytes() - self._counted, self._bytes()
        rate = max(0, byte_count) / max(elapsed, 0.001)
        self._rate += (rate - self._rate) * (_WEIGHT if self._rate else 1.0)

    def _write_some(self) -> None:
        """Write some of the streams that wait; when none is left, let bytes gather."""
        try:
            for _ in range(min(PER_TURN, len(self._waiting))):
                self._write(self._waiting.popleft())
                self._loop.read_priority()
        finally:  # a bug costs only the stream in which it occurs
            self._go_on()

    def _write(self, writer: StreamWriter) -> None:
        if writer not in self._writers:
            return
        try:
            writer.write_on(self._until, self._most)
        except Exception:
            writer.abort("bug")
            raise

    def _go_on(self) -> None:
        if self._waiting:
            self._loop.call_soon(self._write_some)
        elif self._writers:
            self._loop.call_later(self._loop.until_step(self.period), self._tick)
        else:
            self.is_running = False
