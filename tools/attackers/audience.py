"""Viewers who must lose nothing, in one thread: what each received, and how late.

Python reads some hundred thousand datagrams a second here, ten times what they get; the receive
buffers hold seconds of it, so that a busy machine does not lose for the relay. The kernel stamps
each datagram when it arrives (SO_TIMESTAMPNS), so that reading it late does not look like latency.
"""

import array
import contextlib
import selectors
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self

from tools.attackers.relay import HOST, PATIENCE, BrokenError, wait_for
from tools.attackers.stream import MARK

_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("qq")
_SPACE = socket.CMSG_SPACE(_TIMESPEC.size)

_BUFFER = 16 << 20
"""Bytes asked for: several seconds of a 5 Mb/s stream."""


class Ledger:
    """What arrived of a stream: `received`, and `faults`, which are missing, double or late.

    None of the first source's datagrams may be missing (its epoch is 0). A source that follows
    another begins with whatever number it has reached, and none may be missing from then on.
    """

    def __init__(self) -> None:
        self.received = self.faults = 0
        self.epoch = self.next = 0

    def note(self, epoch: int, number: int) -> None:
        """Take note of a datagram."""
        self.received += 1
        if epoch > self.epoch:
            self.epoch, self.next = epoch, number
        if (epoch, number) == (self.epoch, self.next):
            self.next += 1
        elif epoch == self.epoch and number > self.next:
            self.faults += number - self.next
            self.next = number + 1
        else:
            self.faults += 1

    def restart(self) -> None:
        """Let the stream begin anywhere: after a pause, or for a late comer."""
        self.epoch = -1

    def end(self, epoch: int, sent: int) -> None:
        """Count what is still missing of a source that has ended after `sent` datagrams."""
        missing = sent - self.next if epoch == self.epoch else sent
        self.faults += missing
        self.next += missing


class Seat:
    """One viewer: a control connection and the socket of its player."""

    def __init__(self, port: int) -> None:
        self.ledger = Ledger()
        self.player = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.player.setblocking(False)
        self.player.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        with contextlib.suppress(PermissionError):
            self.player.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self.player.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.player.bind((HOST, 0))
        self.control = socket.create_connection((HOST, port), PATIENCE)
        self._replies = self.control.makefile("rb")
        if (reply := self.command(f"CONECTAR {self.player.getsockname()[1]}")) != "OK":
            raise BrokenError(f"OK to CONECTAR, not {reply!r}")

    def command(self, text: str) -> str:
        """Send a line and return its reply; "" when the connection has ended."""
        try:
            self.control.sendall(text.encode() + b"\n")
            return self._replies.readline().decode().rstrip("\n")
        except OSError:
            return ""

    def close(self) -> None:
        """Leave."""
        self._replies.close()
        self.control.close()
        self.player.close()


class Audience:
    """`count` viewers of one relay, watched by a thread from now on."""

    def __init__(self, port: int, count: int) -> None:
        self._resources = contextlib.ExitStack()
        self._selector = self._resources.enter_context(selectors.DefaultSelector())
        self.seats: list[Seat] = []
        self._latencies = array.array("q")
        self._running = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        try:
            for _ in range(count):
                seat = Seat(port)
                self._resources.callback(seat.close)
                self._selector.register(seat.player, selectors.EVENT_READ, seat)
                self.seats.append(seat)
        except BaseException:
            self._resources.close()
            raise
        self._thread.start()

    def _run(self) -> None:
        while self._running:
            for key, _ in self._selector.select(0.1):
                self._read(key.data)

    def _read(self, seat: Seat) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, control, _, _ = seat.player.recvmsg(MARK.size, _SPACE)
                epoch, number, sent = MARK.unpack(data)
                seat.ledger.note(epoch, number)
                seconds, nanoseconds = _TIMESPEC.unpack(control[0][2])
                self._latencies.append(seconds * 10**9 + nanoseconds - sent)

    @property
    def received(self) -> int:
        """Datagrams that all of them received together."""
        return sum(seat.ledger.received for seat in self.seats)

    @property
    def faults(self) -> int:
        """Datagrams that any of them missed, or received twice or too late."""
        return sum(seat.ledger.faults for seat in self.seats)

    def wait_started(self, epoch: int = 0) -> None:
        """Wait until everybody has received something of this source."""
        wait_for(
            lambda: all(s.ledger.received and s.ledger.epoch >= epoch for s in self.seats),
            f"source {epoch} to reach every viewer",
        )

    def forget_latencies(self) -> None:
        """Measure from now on."""
        self._latencies = array.array("q")

    def latencies(self) -> list[float]:
        """Sorted one-way latencies in seconds since `forget_latencies`."""
        return sorted(latency / 1e9 for latency in self._latencies)

    def end(self, epoch: int, sent: int) -> None:
        """Wait for the rest of a source that ended, then count what is missing."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and any(s.ledger.next < sent for s in self.seats):
            time.sleep(0.01)
        for seat in self.seats:
            seat.ledger.end(epoch, sent)

    def silent(self) -> int:
        """How many of them get no answer to ESTADO any more."""
        replies = [seat.command("ESTADO") for seat in self.seats]
        return sum(not reply.startswith("OK estado=transmitiendo") for reply in replies)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._running = False
        self._thread.join()
        self._resources.close()
