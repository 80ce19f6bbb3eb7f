"""Destinations that cost their owner nothing and count truthfully, and a few that tell the time.

A receiver that reads 1,900,000 datagrams a second would take the machine from the relay under test.
So almost every destination is a bound UDP socket whose classic BPF filter (socket(7),
SO_ATTACH_FILTER) rejects every datagram, and the kernel counts what it rejected (SO_MEMINFO, the
field `drops`).  The filter runs per datagram, after segmentation, so the relay pays the whole
receive path of the loopback; and no process is ever woken.

A probe is a destination without the filter.  The kernel stamps each datagram with the time when it
arrived (SO_TIMESTAMPNS), so that reading it late, at leisure, does not look like latency.
"""

import contextlib
import ctypes
import socket
import struct
import time
from types import TracebackType
from typing import Self

from relaylib.net.linux import dropped

# <asm-generic/socket.h>; Python's socket module does not name them all.
_SO_ATTACH_FILTER = 26
_SO_TIMESTAMPNS = 35
_REJECT_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K, "accept 0 bytes"

_TIMESPEC = struct.Struct("qq")
_STAMP_AT = 4  # where source.c puts the time of sending
_STAMP = struct.Struct("=q")
_PROBE_BUFFER = 4 << 20
"""Bytes, asked for: holds what arrives at 3,000/s between two drains, even when halved."""

_DRAIN_INTERVAL = 0.02


def _reject_all(sock: socket.socket) -> None:
    """Attach a filter that rejects every datagram, which the kernel then counts as a drop."""
    program = ctypes.create_string_buffer(_REJECT_ALL)
    sock.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program))
    )


def _probe_places(count: int, probes: int) -> set[int]:
    """First, last, and evenly between: a relay serves its destinations in some order."""
    if probes < 2:
        return set(range(probes))
    return {round(place * (count - 1) / (probes - 1)) for place in range(probes)}


class Sinks:
    """`count` destinations on 127.0.0.1, of which `probes` also measure one-way latency.

    Raises OSError when the process has no descriptors left.
    """

    def __init__(self, count: int, probes: int = 0) -> None:
        self._resources = contextlib.ExitStack()
        self._sockets: list[socket.socket] = []
        self._probes: list[socket.socket] = []
        self._received = 0
        self._latencies: list[tuple[int, int]] = []
        places = _probe_places(count, probes)
        try:
            for place in range(count):
                self._open(probe=place in places)
        except OSError:
            self._resources.close()
            raise
        self.ports: list[int] = [sock.getsockname()[1] for sock in self._sockets]

    def _open(self, *, probe: bool) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._resources.enter_context(sock)
        if probe:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PROBE_BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._probes.append(sock)
        else:
            _reject_all(sock)
        sock.bind(("127.0.0.1", 0))
        self._sockets.append(sock)

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

    def update_counters(self, expected: int, patience: float) -> int:
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
                    self._note(*probe.recvmsg(2048, socket.CMSG_SPACE(_TIMESPEC.size))[:2])

    def _note(self, datagram: bytes, control: list[tuple[int, int, bytes]]) -> None:
        self._received += 1
        sent = _STAMP.unpack_from(datagram, _STAMP_AT)[0]
        for _level, _kind, data in control:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            self._latencies.append((sent, seconds * 10**9 + nanoseconds))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._resources.close()
