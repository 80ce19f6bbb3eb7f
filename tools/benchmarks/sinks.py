"""Destinations that count exactly and cost no CPU time of ours, and a few that measure latency.

A receiver that reads 1,900,000 datagrams a second would take the machine from the relay under test.
So almost every destination is a bound UDP socket whose classic BPF filter (socket(7),
SO_ATTACH_FILTER) rejects every datagram, and the kernel counts what it rejected (SO_MEMINFO, the
field `drops`). The filter runs per datagram, after segmentation, so the relay pays the whole
receive path of the loopback; and no process is ever woken.

A probe is a destination without the filter, read at leisure: what it receives has been stamped.
"""

import contextlib
import ctypes
import socket
import struct
import time

from relaylib.net.linux import dropped
from tools.lab.sockets import udp_socket
from tools.lab.stamps import receive, stamp

_SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>
_REJECT_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K, "accept 0 bytes"

STAMP = struct.Struct("=4xq")
"""Where source.c puts the time of sending."""

_DRAIN_INTERVAL = 0.02
"""Seconds; a probe's buffer holds what arrives at 3,000/s meanwhile many times over."""


class Sinks(contextlib.ExitStack):
    """`count` destinations on 127.0.0.1, of which `probes` also measure one-way latency.

    The probes are first, last, and evenly between: a relay serves its destinations in some order.
    Raises OSError when the process has no descriptors left.
    """

    def __init__(self, count: int, probes: int = 0) -> None:
        super().__init__()
        places = {round(place * (count - 1) / max(1, probes - 1)) for place in range(probes)}
        self._sockets: list[socket.socket] = []
        self._probes: list[socket.socket] = []
        self._received = 0
        self._latencies: list[tuple[int, int]] = []
        with contextlib.ExitStack() as stack:
            for place in range(count):
                self._open(stack.enter_context(udp_socket()), probe=place in places)
            self.push(stack.pop_all())
        self.ports: list[int] = [sock.getsockname()[1] for sock in self._sockets]

    def _open(self, sock: socket.socket, *, probe: bool) -> None:
        self._sockets.append(sock)
        if probe:
            stamp(sock)
            self._probes.append(sock)
        else:
            program = ctypes.create_string_buffer(_REJECT_ALL)
            pointer = struct.pack("HP", 1, ctypes.addressof(program))
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)

    def delivered(self) -> int:
        """Datagrams that reached the destinations since they were opened."""
        self._drain()
        return self._received + sum(map(dropped, self._sockets))

    def latencies(self, first: int, last: int) -> list[float]:
        """Sorted one-way latencies in seconds of what was sent between two CLOCK_REALTIME (ns)."""
        self._drain()
        return sorted((came - sent) / 1e9 for sent, came in self._latencies if first <= sent < last)

    def watch(self, seconds: float) -> None:
        """Let time pass, emptying the probes often enough that their buffers never overflow."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _DRAIN_INTERVAL))
            self._drain()

    def wait(self, expected: int, patience: float) -> int:
        """Wait until `expected` were delivered or nothing came for `patience` s; return how many.

        Gives up after ten times `patience`, for a relay that has queued minutes of stream.
        """
        delivered, quiet_since = self.delivered(), time.monotonic()
        end = quiet_since + 10 * patience
        while delivered < expected and time.monotonic() < min(quiet_since + patience, end):
            self.watch(_DRAIN_INTERVAL)
            if (now_delivered := self.delivered()) > delivered:
                delivered, quiet_since = now_delivered, time.monotonic()
        return delivered

    def _drain(self) -> None:
        for probe in self._probes:
            with contextlib.suppress(BlockingIOError):
                while True:
                    datagram, came = receive(probe, STAMP.size)
                    self._latencies.append((STAMP.unpack(datagram)[0], came))
                    self._received += 1
