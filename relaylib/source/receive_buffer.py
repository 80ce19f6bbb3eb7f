"""The ingest's receive buffer: its size, and the datagrams that the kernel dropped at it."""

import socket
from dataclasses import dataclass

import structlog

from relaylib.media.catalogue import sentence
from relaylib.media.verdict import Remedy, Told
from relaylib.net import linux

RECEIVE_BUFFER = 8 << 20
"""Bytes asked of the kernel: over a second of a 50 Mb/s stream, in case this process stalls."""

REPORT_PERIOD = 10.0
"""Seconds between two log lines about drops."""

_LARGER_BUFFER = Told(Remedy.LARGER_BUFFER, {"bytes": RECEIVE_BUFFER})
_LESS_WORK = Told(Remedy.LESS_WORK)

log = structlog.get_logger()


@dataclass(slots=True)
class DropCount:
    """Datagrams that found the buffer full: `total` since the start, `seen` by the kernel on the
    present socket. A reload hands it over.
    """

    total: int = 0
    seen: int = 0


class ReceiveBuffer:
    """Asks for the buffer, counts the datagrams dropped when it was full, and says what helps."""

    def __init__(self) -> None:
        self.drops = DropCount()
        self._unreported = 0
        self._report_at = float("-inf")
        self._granted = 0
        self._sock: socket.socket | None = None

    def use(self, sock: socket.socket) -> None:
        """Grow the buffer of this socket and watch it from now on."""
        self.count(self.take())
        self._sock = sock
        self._granted = linux.grow_receive_buffer(sock, RECEIVE_BUFFER)
        self.drops.seen = linux.dropped(sock)

    @property
    def remedy(self) -> Told:
        """What helps when the buffer is full."""
        return _LARGER_BUFFER if self._granted < RECEIVE_BUFFER else _LESS_WORK

    def take(self) -> int:
        """Return how many datagrams the kernel has dropped since it was asked last."""
        if self._sock is None:
            return 0
        before, self.drops.seen = self.drops.seen, linux.dropped(self._sock)
        return self.drops.seen - before

    def count(self, drops: int) -> None:
        """Count datagrams that were lost because the buffer was full."""
        self.drops.total += drops
        self._unreported += drops

    def report(self, now: float) -> None:
        """Log the losses: at once, then once a `REPORT_PERIOD`."""
        if self._unreported and now >= self._report_at:
            log.warning(
                "ingest_overflow",
                dropped=self._unreported,
                total=self.drops.total,
                buffer_asked=RECEIVE_BUFFER,
                buffer_granted=self._granted,
                remedy=sentence(self.remedy),
            )
            self._unreported = 0
            self._report_at = now + REPORT_PERIOD
