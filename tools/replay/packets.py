"""UDP datagrams out of captured frames, and captured packets out of datagrams.

dpkt decodes the headers. A frame that it cannot decode counts as not UDP, like ARP: the only damage
that healthy captures have is a snapshot length, and that shows in the UDP length (`CutShortError`).
Fragments are put together here, for dpkt leaves that to others.
"""

import ipaddress
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from relaylib.errors import RelayError, SetupError

LINK_RAW = 101
"""LINKTYPE_RAW (tcpdump.org/linktypes.html): the packet begins with its IP header."""

_RAW_LINKS = (LINK_RAW, 12, 14, 228, 229)

_UDP = 17
_FRAGMENT = 44
"""Type of the IPv6 extension header of a fragment (RFC 8200, 4.5)."""

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
    flow: Flow
    payload: bytes


class Packet(NamedTuple):
    """The payload of an IP packet that carries UDP or, if `offset` or `more`, a fragment of it."""

    source: bytes
    destination: bytes
    payload: bytes
    ident: int = 0
    offset: int = 0
    more: bool = False


def _show(address: bytes, port: int) -> str:
    host = ipaddress.ip_address(address)
    return f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}"


@cache
def library() -> ModuleType:
    """Import dpkt now that it is needed: a transport stream is replayed without it.

    Raises:
        SetupError: it is not installed.
    """
    try:
        import dpkt  # noqa: PLC0415
        import dpkt.pcapng  # noqa: PLC0415
    except ImportError:
        hint = "make setup, or pip install dpkt"
        raise SetupError(f"captures need the Python package dpkt: {hint}") from None
    module: ModuleType = dpkt
    return module


def decoded(kind: Callable[[bytes], Any], data: bytes) -> Any | None:
    """Let a class of dpkt decode; None for what it cannot.

    dpkt raises its UnpackError, but on bytes that are broken in the right way IndexError,
    struct.error, UnicodeDecodeError, AttributeError or RecursionError escape as well. Nothing but
    the decoding of `data` happens in here, so whatever is raised means that `data` is broken.
    """
    try:
        return kind(data)
    except Exception:
        return None


def decode(link: int, frame: bytes) -> Packet | None:
    """Find the IP packet in a captured frame; None if it is not UDP over IP, or broken.

    Raises:
        UnknownLinkError: no frame of this link type can be read.
    """
    dpkt, packet = library(), _network(link, frame)
    if not isinstance(packet, dpkt.ip.IP | dpkt.ip6.IP6) or getattr(packet, "p", None) != _UDP:
        return None
    # Of a first fragment dpkt makes a UDP packet; its bytes are what was there.
    whole = Packet(packet.src, packet.dst, bytes(packet.data))
    if isinstance(packet, dpkt.ip.IP):
        return whole._replace(ident=packet.id, offset=packet.offset * 8, more=bool(packet.mf))
    if part := packet.extension_hdrs.get(_FRAGMENT):
        return whole._replace(ident=part.id, offset=part.frag_off * 8, more=bool(part.m_flag))
    return whole


def _network(link: int, frame: bytes) -> object:
    dpkt = library()
    if link in _RAW_LINKS:
        return decoded(dpkt.ip6.IP6 if frame[:1] >= b"\x60" else dpkt.ip.IP, frame)
    bsd = dpkt.loopback.Loopback
    kind = {0: bsd, 1: dpkt.ethernet.Ethernet, 108: bsd}.get(link)
    if kind is None:
        raise UnknownLinkError(str(link))
    return getattr(decoded(kind, frame), "data", None)


def datagram(packet: Packet) -> Datagram | None:
    """Read the UDP header (RFC 768) of a whole packet; None if it cannot be one.

    Raises:
        CutShortError: the packet ends before its UDP length.
    """
    udp = decoded(library().udp.UDP, packet.payload)
    if udp is None:
        return None
    size = udp.ulen or len(packet.payload)  # 0: segmentation was left to the network card
    if size > len(packet.payload):
        raise CutShortError(f"{len(packet.payload)} of {size} bytes")
    if size < 8:
        return None
    flow = Flow(packet.source, udp.sport, packet.destination, udp.dport)
    return Datagram(flow, packet.payload[8:size])


class Reassembler:
    """Puts fragments together (RFC 791, 3.2; RFC 8200, 4.5) that come in the order of sending.

    Finding places for late ones is what makes reassembly slow and large, and captures of a LAN have
    none: a datagram with a late fragment counts as incomplete. Work is linear, memory is bounded.
    """

    def __init__(self) -> None:
        self._pending: dict[tuple[bytes, bytes, int], bytearray] = {}
        self._given_up = 0

    def add(self, packet: Packet) -> Packet | None:
        """Take the next packet; return a whole one, or None while fragments are missing."""
        if not packet.offset and not packet.more:
            return packet
        key = packet.source, packet.destination, packet.ident
        payload = self._pending.setdefault(key, bytearray())
        if fits := packet.offset == len(payload):
            payload += packet.payload
        if not packet.more:
            del self._pending[key]
            self._given_up += not fits
            return Packet(packet.source, packet.destination, bytes(payload)) if fits else None
        if len(self._pending) > _MAX_PENDING:
            del self._pending[next(iter(self._pending))]
            self._given_up += 1
        return None

    @property
    def incomplete(self) -> int:
        """Datagrams of which some fragment is missing."""
        return self._given_up + len(self._pending)


def encode(message: Datagram) -> bytes:
    """Make the IP packet of a datagram as it was on the wire: headers, lengths, checksums.

    What a socket does not tell is filled in with what senders usually have: TTL 64, no options.
    """
    dpkt, flow = library(), message.flow
    udp = dpkt.udp.UDP(
        sport=flow.source_port, dport=flow.destination_port,
        ulen=8 + len(message.payload), data=message.payload,
    )  # fmt: skip
    ends = {"src": flow.source, "dst": flow.destination, "data": udp}
    if len(flow.source) == 4:
        return bytes(dpkt.ip.IP(p=_UDP, df=1, **ends))
    packet = dpkt.ip6.IP6(nxt=_UDP, hlim=64, plen=udp.ulen, **ends)
    data = bytes(packet)
    if not udp.sum:  # dpkt forgets that over IPv6, where 0 means no checksum as well
        udp.sum = 0xFFFF
        data = bytes(packet)
    return data
