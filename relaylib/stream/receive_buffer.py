"""The ingest's receive buffer: how large it is, and what the kernel had to drop because of that."""

import socket

import structlog

from relaylib.log import Throttle
from relaylib.net import linux
from relaylib.net.loop import Loop

RECEIVE_BUFFER = 8 << 20
"""Bytes asked of the kernel: over a second of a 50 Mb/s stream, should this process be stopped."""

DROPS_PERIOD = 1.0
"""Seconds between two looks at the kernel's count."""

_REMEDY = f"sysctl -w net.core.rmem_max={RECEIVE_BUFFER}"
_NO_REMEDY = "none: more at once than the relay buffers"

log = structlog.get_logger()


class ReceiveBuffer:
    """Counts datagrams that found the buffer full: `total` since the start, `seen` by the kernel
    on the present socket."""

    def __init__(self, loop: Loop) -> None:
        self.total = 0
        self.seen = 0
        self._new = 0
        self._granted = 0
        self._sock: socket.socket | None = None
        self._log = Throttle(loop.call_later, limit=1)

    def use(self, sock: socket.socket) -> None:
        """Grow the buffer of this socket and watch it from now on."""
        self._count()
        self._sock = sock
        self._granted = linux.grow_receive_buffer(sock, RECEIVE_BUFFER)
        self.seen = linux.dropped(sock)

    def look(self) -> None:
        """Count what was dropped since the last look, and say so, at most once in a while."""
        self._count()
        if self._new:
            granted_all = self._granted >= RECEIVE_BUFFER
            self._log.log(
                log.warning,
                "ingest_overflow",
                dropped=self._new,
                total=self.total,
                buffer_asked=RECEIVE_BUFFER,
                buffer_granted=self._granted,
                remedy=_NO_REMEDY if granted_all else _REMEDY,
            )
            self._new = 0

    def _count(self) -> None:
        if self._sock is not None:
            drops = linux.dropped(self._sock)
            self._new += drops - self.seen
            self.total += drops - self.seen
            self.seen = drops
