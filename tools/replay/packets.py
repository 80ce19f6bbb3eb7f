"""UDP datagrams out of captured frames, and captured packets out of datagrams.

dpkt decodes the headers. A frame that it cannot decode counts as not UDP, like ARP: the only damage
that healthy captures have is a snapshot length, and that shows in the UDP length (`CutShortError`).
Fragments are not put together: encoders stay below the MTU, and `capture` gets datagrams whole.
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


class CutShortError(RelayError):
    """The capture holds less of a packet than was on the wire."""


class FragmentError(RelayError):
    """The packet is a part of a datagram."""


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


def decode(link: int, frame: bytes) -> Datagram | None:
    """Find the datagram in a captured frame; None if it is not UDP over IP, or broken.

    Raises:
        CutShortError: the packet ends before its UDP length.
        FragmentError: it is not a whole one.
        UnknownLinkError: no frame of this link type can be read.
    """
    dpkt, packet = library(), _network(link, frame)
    if not isinstance(packet, dpkt.ip.IP | dpkt.ip6.IP6) or getattr(packet, "p", None) != _UDP:
        return None
    if isinstance(packet, dpkt.ip.IP):
        part = packet.offset or packet.mf
    else:
        part = packet.extension_hdrs.get(_FRAGMENT) is not None
    if part:
        raise FragmentError
    return _datagram(packet.src, packet.dst, bytes(packet.data))


def _network(link: int, frame: bytes) -> object:
    dpkt = library()
    if link in _RAW_LINKS:
        return decoded(dpkt.ip6.IP6 if frame[:1] >= b"\x60" else dpkt.ip.IP, frame)
    bsd = dpkt.loopback.Loopback
    kind = {0: bsd, 1: dpkt.ethernet.Ethernet, 108: bsd}.get(link)
    if kind is None:
        raise UnknownLinkError(str(link))
    return getattr(decoded(kind, frame), "data", None)


def _datagram(source: bytes, destination: bytes, payload: bytes) -> Datagram | None:
    """Read the UDP header (RFC 768)."""
    udp = decoded(library().udp.UDP, payload)
    if udp is None:
        return None
    size = udp.ulen or len(payload)  # 0: segmentation was left to the network card
    if size > len(payload):
        raise CutShortError(f"{len(payload)} of {size} bytes")
    if size < 8:
        return None
    return Datagram(Flow(source, udp.sport, destination, udp.dport), payload[8:size])


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
