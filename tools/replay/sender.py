"""Sends datagrams when they are due: the only part of a replay that knows the clock.

It keeps to absolute deadlines, so that errors of sleeping do not add up. After a stall that a
player's buffer covers it sends faster until it has caught up. After a longer one all the rest is
sent later, because a burst would be a fault that was not asked for.
"""

import errno
import socket
import time
from collections.abc import Iterable
from typing import Self

from relaylib.errors import SetupError
from relaylib.net.address import show
from relaylib.net.lookup import resolve
from tools.replay.program import Interruption, Progress, rate, say

MAX_LAG_NS = 100_000_000
"""A stall that is made up for by sending faster. Players buffer more than this."""

MAX_WAIT_S = 3600.0
"""Seconds waited in one go: select(2) refuses the centuries that a capture's clock can claim."""

SEND_BUFFER = 1 << 20
"""Bytes: room for the largest frame of a fast stream in one burst, as captures may have it."""

_TRANSIENT = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOBUFS)
"""What does not end a replay: the receiver may come (back) at any time."""


class Schedule:
    """Turns due times into waiting times. Pure: the clock's reading comes in. Nanoseconds."""

    def __init__(self) -> None:
        self._start: int | None = None
        self.stalled = 0
        """By how much the replay moved back, in all."""

    def wait(self, due: int, now: int) -> int:
        """Return how long to wait until `due`; nothing, or less, if that has passed."""
        if self._start is None:
            self._start = now - due
        ahead = self._start + due - now
        if ahead < -MAX_LAG_NS:
            self._start -= ahead
            self.stalled -= ahead
        return ahead


class Sender:
    """A UDP socket to one destination, with counts of what was sent.

    Raises:
        SetupError: the host is unknown, or nothing can be sent there.
    """

    def __init__(self, host: str, port: int) -> None:
        family, address = resolve(host, port)
        self.where = show(address)
        self._sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            self._sock.connect(address)
        except OSError as error:
            self._sock.close()
            raise SetupError(f"cannot send to {self.where}: {error.strerror}") from None
        self.schedule = Schedule()
        self.sent = self.byte_count = self.failed = 0
        self._told = False
        self._position = 0.0
        self._meter = _Meter(time.monotonic())

    def replay(
        self,
        datagrams: Iterable[tuple[int, bytes | None]],
        interruption: Interruption,
        progress: Progress,
        speed: float = 1.0,
    ) -> None:
        """Send every datagram when it is due, nothing in the place of None; stop at a signal.

        `speed` is what the due times were divided by: progress shows the position in the stream.
        """
        for due, payload in datagrams:
            while (wait := self.schedule.wait(due, time.monotonic_ns())) > 0:
                interruption.wait(min(wait / 1e9, MAX_WAIT_S))
                if interruption.signum is not None:
                    return
            if interruption.signum is not None:
                return
            if payload is not None:
                self._send(payload)
            self._position = due / 1e9 * speed
            progress.update(self._line)

    def _line(self) -> str:
        minutes, seconds = divmod(int(self._position), 60)
        speed = self._meter.rate(self.byte_count, time.monotonic())
        return f"{minutes}:{seconds:02}  {speed}  {self.sent} datagrams"

    def _send(self, payload: bytes) -> None:
        for _ in range(2):  # the first error may be that of an earlier datagram (udp(7))
            try:
                self._sock.send(payload)
            except OSError as error:
                self._tolerate(error)
            else:
                self.sent += 1
                self.byte_count += len(payload)
                return
        self.failed += 1

    def _tolerate(self, error: OSError) -> None:
        if error.errno not in _TRANSIENT:
            raise SetupError(f"cannot send to {self.where}: {error.strerror}") from None
        if not self._told:
            self._told = True
            nobody = error.errno == errno.ECONNREFUSED
            why = "nobody listens" if nobody else error.strerror
            say(f"{self.where}: {why}; sending on")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._sock.close()


class _Meter:
    """The rate since it was last asked."""

    def __init__(self, now: float) -> None:
        self._then, self._bytes = now, 0

    def rate(self, byte_count: int, now: float) -> str:
        shown = rate(byte_count - self._bytes, now - self._then)
        self._then, self._bytes = now, byte_count
        return shown
