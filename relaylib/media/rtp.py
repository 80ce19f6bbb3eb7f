"""The RTP header (RFC 3550, 5.1): read from a datagram, and built for one.

`parse` answers None for what is no RTP, because whether a stream is RTP is found out by trying.
That it returns a packet is no proof: what tells a header from other bytes is two bits, version 2.
To be sure, look at the payload, too, and at several datagrams.
"""

import struct
from typing import NamedTuple

MP2T = 33
"""Payload type of an MPEG transport stream (RFC 3551, table 5; RFC 2250)."""

CLOCK_HZ = 90_000
"""Rate of MP2T's time stamps (RFC 2250, 2)."""

HEADER_SIZE = 12
"""Bytes, without CSRCs and extension."""

_HEADER = struct.Struct(">BBHII")
_VERSION = 2
_PLAIN = _VERSION << 6
_PADDING, _EXTENSION, _MARKER = 0x20, 0x10, 0x80
_RTCP_TYPES = range(72, 77)
"""Payload types that are reserved: with the marker they are RTCP's packet types, sender report to
application-defined (RFC 3551, 6)."""


class Packet(NamedTuple):
    """An RTP packet. CSRCs, header extension and padding are left out."""

    marker: bool
    payload_type: int
    sequence: int
    """Goes up by 1 a packet, modulo 2^16."""
    timestamp: int
    """Ticks of a clock that the payload type has, modulo 2^32."""
    ssrc: int
    """Identifies the source: changes when the sender starts again."""
    payload: memoryview
    start: int
    """Where in the datagram the payload begins."""


def plain(datagram: bytes | memoryview) -> tuple[int, int, int] | None:
    """Return sequence number, time stamp and SSRC if nothing but payload follows HEADER_SIZE.

    It is what most packets of MP2T are. None tells nothing: `parse` does.
    """
    if len(datagram) < HEADER_SIZE:
        return None
    flags, kind, sequence, timestamp, ssrc = _HEADER.unpack_from(datagram)
    return (sequence, timestamp, ssrc) if flags == _PLAIN and kind == MP2T else None


def parse(datagram: bytes | memoryview) -> Packet | None:
    """Read a datagram as RTP; None if it is none, RTCP, or shorter than its header says."""
    if len(datagram) < HEADER_SIZE or datagram[0] >> 6 != _VERSION:
        return None
    flags, kind, sequence, timestamp, ssrc = _HEADER.unpack_from(datagram)
    if kind & 0x7F in _RTCP_TYPES:
        return None
    start, end = HEADER_SIZE + 4 * (flags & 0x0F), len(datagram)
    if flags & _EXTENSION:  # 16 bits of its own, then its length in words without these four bytes
        start += 4 + 4 * int.from_bytes(datagram[start + 2 : start + 4], "big")
    if flags & _PADDING:  # the last byte is their number, itself included
        if not datagram[-1]:
            return None
        end -= datagram[-1]
    if start > end:
        return None
    payload = memoryview(datagram)[start:end]
    return Packet(bool(kind & _MARKER), kind & 0x7F, sequence, timestamp, ssrc, payload, start)


def header(sequence: int, timestamp: int, ssrc: int, payload_type: int = MP2T) -> bytes:
    """Build a header without CSRCs, extension, padding and marker; counters are wrapped here."""
    return _HEADER.pack(
        _VERSION << 6, payload_type, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc
    )
