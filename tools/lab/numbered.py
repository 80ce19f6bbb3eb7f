"""Datagrams that carry their number, the time they were sent, and bytes that can be checked.

The clock is CLOCK_MONOTONIC, one and the same for every process and network namespace of a machine,
so that a receiver can tell how long a datagram has travelled. Standard library only: the programs
that run inside namespaces start quickly.
"""

import struct
import time
from dataclasses import asdict, dataclass

HEADER = struct.Struct("!QQH")
_PATTERN = bytes(range(256)) * 260
_PERIOD = 251  # a prime: neighbours differ, and so do those 256 apart


def make(number: int, size: int) -> bytes:
    """Make datagram `number` of `size` bytes, sent now."""
    return HEADER.pack(number, time.monotonic_ns(), size) + _filler(number, size)


def _filler(number: int, size: int) -> bytes:
    return _PATTERN[number % _PERIOD :][: size - HEADER.size]


@dataclass
class Stats:
    """What a viewer received. Times in seconds on the monotonic clock."""

    received: int = 0
    missing: int = 0
    disordered: int = 0
    damaged: int = 0
    first: int = -1
    last: int = -1
    first_at: float = 0.0
    worst_delay: float = 0.0

    def add(self, datagram: bytes) -> None:
        now = time.monotonic_ns()
        number, sent_at, size = HEADER.unpack_from(datagram)
        if not self.received:
            self.first, self.last, self.first_at = number, number - 1, now / 1e9
        self.received += 1
        self.disordered += number <= self.last
        self.missing += max(0, number - self.last - 1)
        self.last = max(self.last, number)
        whole = len(datagram) == size and datagram[HEADER.size :] == _filler(number, size)
        self.damaged += not whole
        self.worst_delay = max(self.worst_delay, (now - sent_at) / 1e9)

    def whole(self, sent: int, unread: int = 0) -> bool:
        """Tell whether all of `sent` datagrams came, in order, once, undamaged.

        The receiver was too slow for `unread` of them, which came and found its own socket full.
        """
        faults = self.disordered + self.damaged
        return self.received + unread == sent and faults == 0 and self.last < sent

    def fields(self) -> dict[str, float]:
        """Everything, for JSON."""
        return asdict(self)
