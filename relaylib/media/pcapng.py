"""A capture file, made piece by piece: blocks of pcapng, and the packets of one flow in them. Pure.

A file is `head`, once, and then a block for each datagram. It is whole after every block. The
packets have their IP and UDP headers as they were on the wire, as far as a socket tells: TTL 64, no
options.

The format: draft-ietf-opsawg-pcapng. Headers: RFC 791, RFC 8200, RFC 768; checksums: RFC 1071.

Rejected: dpkt, which the tools use. The relay would depend on it for a page of code.
"""

import struct

LINKTYPE_RAW = 101
"""A packet begins with its IP header (tcpdump.org/linktypes.html)."""

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_END_OF_OPTIONS, _COMMENT, _PROGRAM, _TIME_RESOLUTION = 0, 1, 4, 9
_BYTE_ORDER = 0x1A2B3C4D
_LENGTH_UNKNOWN = -1
_NANOSECONDS = b"\x09"

_HEAD = struct.Struct("<7I")
"""Of a packet's block: kind, length, interface, time (two halves), bytes here, bytes there."""

_UDP = 17
_UDP_HEADER = 8
_DONT_FRAGMENT = 0x4000
_TTL = 64


def head(comment: str, program: str) -> bytes:
    """Begin a file: its section, with a comment of up to 65,535 bytes, and its one interface."""
    section = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, _LENGTH_UNKNOWN)
    section += _option(_COMMENT, comment.encode()) + _option(_PROGRAM, program.encode())
    interface = struct.pack("<HHI", LINKTYPE_RAW, 0, 0) + _option(_TIME_RESOLUTION, _NANOSECONDS)
    return _block(_SECTION, section) + _block(_INTERFACE, interface)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    body += _option(_END_OF_OPTIONS, b"")
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


class FlowBlocks:
    """Makes the blocks of datagrams from one address and port to another.

    Addresses have 4 bytes (IPv4) or 16 (IPv6), both the same.
    """

    def __init__(self, source: bytes, source_port: int, to: bytes, to_port: int) -> None:
        self._ends = source + to
        self._ports = struct.pack("!HH", source_port, to_port)
        self._size = -1
        """Of the datagrams that the following is for: most are as large as the one before."""
        self._sum = 0
        self._length = 0
        self._headers = self._tail = b""

    def block(self, time: int, payload: bytes | memoryview) -> bytes:
        """Make the block of a datagram that came so many nanoseconds after 1970."""
        size = len(payload)
        if size != self._size:
            self._prepare(size)
        captured = len(self._headers) + 2 + size
        return b"".join(
            (
                _HEAD.pack(
                    _PACKET, self._length, 0, time >> 32, time & 0xFFFFFFFF, captured, captured
                ),
                self._headers,
                _checksum(self._sum + _sum(payload)),
                payload,
                self._tail,
            )
        )

    def _prepare(self, size: int) -> None:
        udp = self._ports + struct.pack("!H", _UDP_HEADER + size)
        self._size = size
        self._headers = self._ip(_UDP_HEADER + size) + udp
        self._sum = _sum(self._ends + udp) + _UDP + _UDP_HEADER + size  # with the pseudo-header
        captured = len(self._headers) + 2 + size
        padding = bytes(-captured % 4)
        self._length = _HEAD.size + captured + len(padding) + 4
        self._tail = padding + struct.pack("<I", self._length)

    def _ip(self, length: int) -> bytes:
        if len(self._ends) == 32:
            return struct.pack("!IHBB", 6 << 28, length, _UDP, _TTL) + self._ends
        header = struct.pack("!BBHHHBB", 0x45, 0, 20 + length, 0, _DONT_FRAGMENT, _TTL, _UDP)
        return header + _checksum(_sum(header + self._ends)) + self._ends


def _sum(data: bytes | memoryview) -> int:
    """Add up the 16-bit words of some bytes, a missing last byte being 0.

    A number and the sum of its digits leave the same remainder when divided by the base less one:
    by 65535 for words of 16 bits, which is just what adding in ones' complement does.
    """
    return (int.from_bytes(data) << len(data) % 2 * 8) % 0xFFFF


def _checksum(total: int) -> bytes:
    """Return the checksum of what adds up to this; never 0, which in UDP stands for none."""
    return (0xFFFF - total % 0xFFFF).to_bytes(2)
