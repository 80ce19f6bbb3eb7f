"""A UDP socket that tells more than the payload: destination, time of arrival, losses.

Linux attaches these to every datagram as control messages (ip(7), ipv6(7), socket(7)). Where they
do not exist, the time is when the datagram was read and the destination what the socket is bound
to.
"""

import contextlib
import ipaddress
import socket
import struct
import sys
import time
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple, Self

from relaylib.errors import SetupError
from relaylib.net.address import Address, show
from relaylib.net.lookup import resolve
from relaylib.net.mrl import Mrl
from relaylib.net.multicast import bind_group
from tools.replay.packets import Datagram, Flow

RECEIVE_BUFFER = 8 << 20
"""Bytes asked for: a second of 60 Mb/s while the disk is busy."""

_ON_LINUX = sys.platform == "linux"


class _Linux(IntEnum):
    """Options that the socket module lacks: <asm-generic/socket.h>, <linux/in.h>."""

    IP_PKTINFO = 8
    SO_RCVBUFFORCE = 33
    SO_TIMESTAMPNS = 35
    SO_RXQ_OVFL = 40


_TIMESPEC = struct.Struct("@ll")
_MAX_DATAGRAM = 65536
_ANCILLARY = 256
"""Bytes: the three control messages take 120."""

_Told = dict[tuple[int, int], bytes]
"""The control messages of a datagram: (level, type) -> data."""


class Arrival(NamedTuple):
    """A datagram and when it arrived, in nanoseconds since 1970."""

    time: int
    datagram: Datagram


class Tap:
    """A non-blocking UDP socket bound to a port, or to that of a multicast group.

    An MRL without a host means every IPv4 address; port 0 lets the kernel choose.

    Raises:
        SetupError: an address is unknown or not ours, the port is taken, the group not joined.
    """

    def __init__(self, where: Mrl) -> None:
        self.lost = 0
        """Datagrams that the kernel dropped because they were not read in time."""
        self.socket = bind_group(where)[0] if where.is_group else _bind(where)
        _enlarge(self.socket)
        _ask_for_more(self.socket)
        self.address: Address = self.socket.getsockname()

    def receive(self) -> Arrival | None:
        """Return the next datagram, or None if there is none now."""
        try:
            payload, extras, _, source = self.socket.recvmsg(_MAX_DATAGRAM, _ANCILLARY)
        except BlockingIOError:
            return None
        told = {(level, kind): data for level, kind, data in extras}
        if data := told.get((socket.SOL_SOCKET, _Linux.SO_RXQ_OVFL)):
            self.lost = int.from_bytes(data, sys.byteorder)
        flow = Flow(_packed(source[0]), source[1], self._destination(told), self.address[1])
        return Arrival(_time(told), Datagram(flow, payload))

    def _destination(self, told: _Told) -> bytes:
        if data := told.get((socket.IPPROTO_IP, _Linux.IP_PKTINFO)):
            return data[8:12]  # behind the interface and the local address
        if data := told.get((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)):
            return data[:16]
        return _packed(self.address[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()


def _bind(where: Mrl) -> socket.socket:
    family, address = resolve(where.host or "0.0.0.0", where.port)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise SetupError(f"cannot listen at {show(address)}: {error.strerror}") from None
    return sock


def _time(told: _Told) -> int:
    if data := told.get((socket.SOL_SOCKET, _Linux.SO_TIMESTAMPNS)):
        seconds, nanoseconds = _TIMESPEC.unpack(data)
        return int(seconds * 10**9 + nanoseconds)
    return time.time_ns()


@lru_cache(maxsize=64)
def _packed(host: str) -> bytes:
    return ipaddress.ip_address(host.partition("%")[0]).packed


def _enlarge(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    if _ON_LINUX:  # beyond net.core.rmem_max, if we are privileged
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, _Linux.SO_RCVBUFFORCE, RECEIVE_BUFFER)


def _ask_for_more(sock: socket.socket) -> None:
    """Ask for the control messages that `Tap.receive` understands."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    if _ON_LINUX:
        sock.setsockopt(socket.SOL_SOCKET, _Linux.SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, _Linux.SO_RXQ_OVFL, 1)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, _Linux.IP_PKTINFO, 1)
