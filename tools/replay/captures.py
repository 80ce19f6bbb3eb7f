"""Capture files: pcap and pcapng, read and written by way of dpkt.

dpkt does the formats. Its own pcapng.Reader knows one interface per file, so a capture made on two
would be read with the wrong link type and clock; here the blocks are walked, and dpkt decodes them.
Lengths are checked before anything is read: a broken file may claim a record of 4 GiB.

The formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

import io
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple, Protocol

from relaylib.errors import SetupError
from relaylib.media.mpegts import MediaError
from tools.replay.packets import LINK_RAW

MAX_RECORD = 16 << 20
"""Bytes: far above any snapshot length (tcpdump: 262,144), far below what hurts to read."""

SNAPLEN = 262_144
"""What tcpdump declares, so that no reader takes a record for cut short."""

_PCAP_MAGICS = tuple(
    struct.pack(order + "I", magic)
    for order in "<>"
    for magic in (0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34)
)
_PCAPNG_MAGIC = b"\n\r\r\n"
_INTERFACE, _PACKET_OLD, _PACKET = 1, 2, 6
_TSRESOL, _TSOFFSET = 9, 14
_CUT = "the capture ends in the middle of a record"


class CaptureError(MediaError):
    """A capture that is broken, or cut short, at the place where reading stopped."""


class Record(NamedTuple):
    """A captured frame: nanoseconds since 1970, link type, bytes."""

    time: int
    link: int
    frame: bytes


def is_capture(head: bytes) -> bool:
    """Tell by its first four bytes whether a file is a capture."""
    return head == _PCAPNG_MAGIC or head in _PCAP_MAGICS


def records(file: BinaryIO) -> Iterator[Record]:
    """Yield the records of a capture in the order of the file.

    Raises:
        CaptureError: the file is broken here, or ends in the middle of a record.
        SetupError: dpkt is not installed.
    """
    dpkt = library()
    head = file.read(4)
    file.seek(-len(head), io.SEEK_CUR)
    try:
        yield from _pcapng(file, dpkt) if head == _PCAPNG_MAGIC else _pcap(file, dpkt)
    except dpkt.NeedData:
        raise CaptureError(_CUT) from None
    except (dpkt.Error, ValueError, struct.error) as error:
        reason = str(error)[:80]  # dpkt quotes what it could not read, all of it
        raise CaptureError(f"the capture is broken: {reason}") from None


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


class _Bounded:
    """A file for dpkt to read from, which refuses absurd lengths and never returns too little."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """Return `size` bytes, or none at the end of the file."""
        if not 0 <= size <= MAX_RECORD:
            raise CaptureError(f"the capture is broken: a record of {size} bytes")
        data = self._file.read(size)
        if 0 < len(data) < size:
            raise CaptureError(_CUT)
        return data

    def exactly(self, size: int) -> bytes:
        """Return `size` bytes where the end of the file would be a cut."""
        data = self.read(size)
        if len(data) < size:
            raise CaptureError(_CUT)
        return data


def _pcap(file: BinaryIO, dpkt: Any) -> Iterator[Record]:
    reader = dpkt.pcap.Reader(_Bounded(file))
    link = reader.datalink() & 0xFFFF  # above it: the length of the frame check sequence
    for time, frame in reader:
        yield Record(round(time * 10**9), link, frame)


@dataclass(frozen=True, slots=True)
class _Interface:
    link: int
    per_second: int = 10**6
    offset: int = 0

    def time(self, high: int, low: int) -> int:
        """Nanoseconds since 1970 of a block's time stamp."""
        return (high << 32 | low) * 10**9 // self.per_second + self.offset * 10**9


def _pcapng(file: BinaryIO, dpkt: Any) -> Iterator[Record]:
    bounded, order = _Bounded(file), "<"
    interfaces = list[_Interface]()
    while head := bounded.read(8):
        if head[:4] == _PCAPNG_MAGIC:  # a section, which may have another byte order
            head += bounded.exactly(4)
            order = "<" if head[8:] == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces.clear()
        kind, size = struct.unpack_from(order + "II", head)
        block = head + bounded.exactly(size - len(head))
        if kind == _INTERFACE:
            interfaces.append(_interface(_decoded(dpkt, "InterfaceDescriptionBlock", order, block)))
        elif kind in (_PACKET, _PACKET_OLD):
            name = "EnhancedPacketBlock" if kind == _PACKET else "PacketBlock"
            packet = _decoded(dpkt, name, order, block)
            if packet.iface_id >= len(interfaces):
                raise CaptureError(f"the capture is broken: no interface {packet.iface_id}")
            interface = interfaces[packet.iface_id]
            time = interface.time(packet.ts_high, packet.ts_low)
            yield Record(time, interface.link, packet.pkt_data)


def _decoded(dpkt: Any, name: str, order: str, block: bytes) -> Any:
    try:
        return getattr(dpkt.pcapng, name + ("LE" if order == "<" else ""))(block)
    except dpkt.NeedData:
        raise CaptureError("the capture is broken: a block too short for its content") from None


def _interface(block: Any) -> _Interface:
    per_second, offset = 10**6, 0
    for option in block.opts:
        if option.code == _TSRESOL and len(option.data) == 1:
            power = option.data[0] & 0x7F
            per_second = (2 if option.data[0] & 0x80 else 10) ** power
        elif option.code == _TSOFFSET and len(option.data) == 8:
            offset = int.from_bytes(
                option.data, "little" if block.__hdr_fmt__[0] == "<" else "big", signed=True
            )
    return _Interface(block.linktype, per_second, offset)


class Writer(Protocol):
    """Writes IP packets to a capture."""

    def write(self, time: int, packet: bytes) -> None:
        """Append a packet that was seen at `time`, in nanoseconds since 1970."""


class PcapWriter:
    """pcap with nanosecond time stamps."""

    def __init__(self, file: BinaryIO) -> None:
        self._writer = library().pcap.Writer(file, snaplen=SNAPLEN, linktype=LINK_RAW, nano=True)

    def write(self, time: int, packet: bytes) -> None:
        """Append a packet that was seen at `time`, in nanoseconds since 1970."""
        self._writer.writepkt_time(packet, Decimal(time).scaleb(-9))


class PcapngWriter:
    """pcapng with nanosecond time stamps."""

    def __init__(self, file: BinaryIO) -> None:
        ng = library().pcapng
        suffix = "LE" if sys.byteorder == "little" else ""  # dpkt writes in the machine's order
        option = getattr(ng, "PcapngOption" + suffix)
        interface = getattr(ng, "InterfaceDescriptionBlock" + suffix)(
            snaplen=SNAPLEN, linktype=LINK_RAW, opts=[option(code=_TSRESOL, data=b"\x09"), option()]
        )
        self._writer = ng.Writer(file, idb=interface)
        self._block = getattr(ng, "EnhancedPacketBlock" + suffix)

    def write(self, time: int, packet: bytes) -> None:
        """Append a packet that was seen at `time`, in nanoseconds since 1970."""
        self._writer.writepkt(
            self._block(ts_high=time >> 32, ts_low=time & 0xFFFFFFFF, pkt_data=packet)
        )
