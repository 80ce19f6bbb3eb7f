"""UDP datagrams out of captured frames, and captured packets out of datagrams. Pure.

Only the dozen header fields that lead to a UDP payload are looked at, here, by hand. The protocol
classes of the capture library decode all else that they find in a frame as well, and let IndexError
escape on frames that are broken in the right way; files are where broken frames are.

A frame is not UDP (None), or too short for what its own headers say (`CutShortError`: most often
the snapshot length of the capture), or a fragment of a datagram: `Reassembler` puts them together.
"""

import ipaddress
import struct
from dataclasses import dataclass
from typing import NamedTuple

from relaylib.errors import RelayError

LINK_RAW = 101
"""LINKTYPE_RAW (tcpdump.org/linktypes.html): the packet begins with its IP header."""

_ETHERNET, _SLL, _SLL2 = 1, 113, 276
_IP_LINKS = {LINK_RAW: 0, 12: 0, 14: 0, 228: 0, 229: 0, 0: 4, 108: 4}
"""Link types where IP follows a header of this size: raw, and the loopback of the BSDs."""

_IP_TYPES = (0x0800, 0x86DD)
_VLAN_TYPES = (0x8100, 0x88A8, 0x9100)

_UDP = 17
_FRAGMENT = 44
_OPTIONS = (0, 43, 60)
"""IPv6 hop-by-hop options, routing, destination options (RFC 8200, 4.1): stepped over."""

_MAX_PENDING = 64
"""Datagrams being put together at once. Fragments of one follow each other; the rest are losses."""


class CutShortError(RelayError):
    """The capture holds less of a packet than was on the wire."""


class UnknownLinkError(RelayError):
    """A link type that nothing here can read; `str()` is its number."""


class Flow(NamedTuple):
    """Who sends to whom: addresses as 4 or 16 bytes."""

    source: bytes
    source_port: int
    destination: bytes
    destination_port: int

    @property
    def ends(self) -> tuple[str, str]:
        """Source and destination as people write them: 192.0.2.1:5004, [2001:db8::1]:5004."""
        return (
            _show(self.source, self.source_port),
            _show(self.destination, self.destination_port),
        )

    def __str__(self) -> str:
        return " > ".join(self.ends)


class Datagram(NamedTuple):
    """A UDP datagram."""

    flow: Flow
    payload: bytes


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet that carries UDP or, if `offset` or `more`, a fragment of it."""

    source: bytes
    destination: bytes
    payload: bytes
    ident: int = 0
    offset: int = 0
    more: bool = False


def _show(address: bytes, port: int) -> str:
    host = ipaddress.ip_address(address)
    return f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}"


def decode(link: int, frame: bytes) -> Packet | None:
    """Find the IP packet in a captured frame; None if it is not UDP over IP.

    Raises:
        CutShortError: the frame ends before its headers say so.
        UnknownLinkError: no frame of this link type can be read.
    """
    try:
        start = _network(link, frame)
        if start is None:
            return None
        match frame[start] >> 4:
            case 4:
                return _ipv4(frame[start:])
            case 6:
                return _ipv6(frame[start:])
            case _:
                return None
    except (IndexError, struct.error):
        raise CutShortError("headers cut short") from None


def _network(link: int, frame: bytes) -> int | None:
    """Return where the IP header starts, or None if something else does."""
    if link in _IP_LINKS:
        return _IP_LINKS[link]
    if link == _SLL:
        (kind,), start = struct.unpack_from(">H", frame, 14), 16
    elif link == _SLL2:
        (kind,), start = struct.unpack_from(">H", frame, 0), 20
    elif link == _ETHERNET:
        (kind,), start = struct.unpack_from(">H", frame, 12), 14
    else:
        raise UnknownLinkError(str(link))
    while kind in _VLAN_TYPES:
        (kind,), start = struct.unpack_from(">H", frame, start + 2), start + 4
    return start if kind in _IP_TYPES else None


def _ipv4(packet: bytes) -> Packet | None:
    """RFC 791, 3.1."""
    size, ident, place = struct.unpack_from(">HHH", packet, 2)
    header = (packet[0] & 15) * 4
    if packet[9] != _UDP or header < 20:
        return None
    end = size or len(packet)  # 0: segmentation was left to the network card
    if len(packet) < max(end, header):
        raise CutShortError(f"{len(packet)} of {end} bytes")
    return Packet(
        packet[12:16], packet[16:20], packet[header:end], ident, (place & 0x1FFF) * 8,
        bool(place & 0x2000),
    )  # fmt: skip


def _ipv6(packet: bytes) -> Packet | None:
    """RFC 8200, 3 and 4."""
    size, kind = struct.unpack_from(">HB", packet, 4)
    end = 40 + size if size else len(packet)
    ident, place, at = 0, 0, 40
    while kind in _OPTIONS or kind == _FRAGMENT:
        if kind == _FRAGMENT:
            kind, place, ident = struct.unpack_from(">BxHI", packet, at)
            at += 8
            if place & 0xFFF8:
                break  # what follows is no header: it is from the middle of the datagram
        else:
            kind, at = packet[at], at + 8 + packet[at + 1] * 8
    if kind != _UDP:
        return None
    if len(packet) < max(end, at):
        raise CutShortError(f"{len(packet)} of {end} bytes")
    return Packet(
        packet[8:24], packet[24:40], packet[at:end], ident, place & 0xFFF8, bool(place & 1)
    )


def datagram(packet: Packet) -> Datagram | None:
    """Read the UDP header (RFC 768) of a whole packet; None if it cannot be one.

    Raises:
        CutShortError: the packet ends before its UDP length.
    """
    if len(packet.payload) < 8:
        return None
    source_port, port, size = struct.unpack_from(">HHH", packet.payload)
    if size > len(packet.payload):
        raise CutShortError(f"{len(packet.payload)} of {size} bytes")
    if 0 < size < 8:
        return None
    flow = Flow(packet.source, source_port, packet.destination, port)
    return Datagram(flow, packet.payload[8 : size or None])


class Reassembler:
    """Puts fragments together (RFC 791, 3.2; RFC 8200, 4.5)."""

    def __init__(self) -> None:
        self._pending: dict[tuple[bytes, bytes, int], dict[int, Packet]] = {}
        self._given_up = 0

    def add(self, packet: Packet) -> Packet | None:
        """Take the next packet; return a whole one, or None while fragments are missing."""
        if not packet.offset and not packet.more:
            return packet
        key = packet.source, packet.destination, packet.ident
        parts = self._pending.setdefault(key, {})
        parts[packet.offset] = packet
        if len(self._pending) > _MAX_PENDING:
            del self._pending[next(iter(self._pending))]
            self._given_up += 1
        payload = _joined(parts)
        if payload is None:
            return None
        del self._pending[key]
        return Packet(packet.source, packet.destination, payload)

    @property
    def incomplete(self) -> int:
        """Datagrams of which some fragment is missing."""
        return self._given_up + len(self._pending)


def _joined(parts: dict[int, Packet]) -> bytes | None:
    """Join fragments that follow each other from the first to the last; None if some is missing."""
    pieces, at = list[bytes](), 0
    while part := parts.get(at):
        pieces.append(part.payload)
        at += len(part.payload)
        if not part.more:
            return b"".join(pieces)
        if not part.payload:
            break
    return None


def encode(message: Datagram) -> bytes:
    """Make the IP packet of a datagram as it was on the wire: headers, lengths, checksums.

    What a socket does not tell is filled in with what senders usually have: TTL 64, no options.
    """
    flow, payload = message
    size = 8 + len(payload)
    header = struct.pack(">HHHH", flow.source_port, flow.destination_port, size, 0)
    pseudo = flow.source + flow.destination + struct.pack(">HH", _UDP, size)
    udp = header[:6] + _checksum(pseudo + header + payload) + payload
    if len(flow.source) == 16:
        return struct.pack(">IHBB", 6 << 28, size, _UDP, 64) + flow.source + flow.destination + udp
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, 64, _UDP, 0)
    addresses = flow.source + flow.destination
    return ip[:10] + _checksum(ip + addresses) + addresses + udp


def _checksum(data: bytes) -> bytes:
    """RFC 1071. A ones' complement sum is the remainder by 65535, which a big integer has fast.

    Of its two zeros the result is never 0, which in UDP would mean "no checksum", but 0xFFFF.
    """
    total = int.from_bytes(data + b"\0" * (len(data) % 2), "big") % 0xFFFF
    return (0xFFFF - total).to_bytes(2, "big")
