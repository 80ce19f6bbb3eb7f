"""Forged ICMP errors, such as anybody on a LAN can send."""

import contextlib
import socket
import struct
from collections.abc import Iterator

from tools.lab.process import NeedError


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def unreachable(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """Forge an ICMP error: the datagram from `source` found a closed port (RFC 792, RFC 1122)."""
    addresses = socket.inet_aton(source[0]), socket.inet_aton(destination[0])
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, socket.IPPROTO_UDP, 0, *addresses)
    udp = struct.pack("!4H", source[1], destination[1], 8, 0)
    checksum = _checksum(struct.pack("!BBHI", 3, 3, 0, 0) + ip + udp)
    return struct.pack("!BBHI", 3, 3, checksum, 0) + ip + udp


@contextlib.contextmanager
def raw_icmp() -> Iterator[socket.socket]:
    """A socket that sends what nobody should.

    Raises:
        NeedError: it takes root.
    """
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError as error:
        raise NeedError("needs root, to forge ICMP") from error
    with sock:
        yield sock
