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
from decimal import Decimal
from typing import Any, BinaryIO, NamedTuple, Protocol

from tools.replay.packets import LINK_RAW, decoded, library
from tools.replay.program import ReplayError

MAX_RECORD = 16 << 20
"""Bytes: far above any snapshot length (tcpdump: 262,144), far below what hurts to read."""

SNAPLEN = 262_144
"""What tcpdump declares, so that no reader takes a record for cut short."""

MAX_TIME = 1 << 63
"""Nanoseconds since 1970, until 2262: what is not below is no time but damage."""

_PCAP_MAGICS = tuple(
    struct.pack(order + "I", magic)
    for order in "<>"
    for magic in (0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34)
)
_PCAPNG_MAGIC = b"\n\r\r\n"
_INTERFACE, _PACKET_OLD, _PACKET = 1, 2, 6
_BLOCKS = {
    _INTERFACE: "InterfaceDescriptionBlock",
    _PACKET_OLD: "PacketBlock",
    _PACKET: "EnhancedPacketBlock",
}
_TSRESOL, _TSOFFSET = 9, 14
_CUT = "the capture ends in the middle of a record"


class CaptureError(ReplayError):
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
    head = file.read(4)
    file.seek(-len(head), io.SEEK_CUR)
    if not is_capture(head):
        raise CaptureError("neither pcap nor pcapng")
    read = _pcapng if head == _PCAPNG_MAGIC else _pcap
    for record in read(_Bounded(file)):
        if not 0 <= record.time < MAX_TIME:
            raise CaptureError("the capture is broken: a time stamp out of range")
        yield record


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


def _pcap(file: _Bounded) -> Iterator[Record]:
    reader = library().pcap.Reader(file)
    link = reader.datalink() & 0xFFFF  # above it: the length of the frame check sequence
    for time, frame in reader:
        yield Record(round(time * 10**9), link, frame)


class _Interface(NamedTuple):
    link: int
    per_second: int = 10**6
    offset: int = 0

    def time(self, high: int, low: int) -> int:
        """Nanoseconds since 1970 of a block's time stamp."""
        return (high << 32 | low) * 10**9 // self.per_second + self.offset * 10**9


def _pcapng(file: _Bounded) -> Iterator[Record]:
    order, interfaces = "<", list[_Interface]()
    while head := file.read(8):
        if head[:4] == _PCAPNG_MAGIC:  # a section, which may have another byte order
            head += file.exactly(4)
            order = "<" if head[8:] == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces.clear()
        kind, size = struct.unpack_from(order + "II", head)
        data = head + file.exactly(size - len(head))
        if kind not in _BLOCKS:
            continue
        block = _block(kind, order, data)
        if kind == _INTERFACE:
            interfaces.append(_interface(block, order))
        elif block.iface_id < len(interfaces):
            interface = interfaces[block.iface_id]
            time = interface.time(block.ts_high, block.ts_low)
            yield Record(time, interface.link, block.pkt_data)
        else:
            raise CaptureError(f"the capture is broken: no interface {block.iface_id}")


def _block(kind: int, order: str, data: bytes) -> Any:
    name = _BLOCKS[kind] + ("LE" if order == "<" else "")
    block = decoded(getattr(library().pcapng, name), data)
    if block is None:
        raise CaptureError("the capture is broken: a block that cannot be read")
    return block


def _interface(block: Any, order: str) -> _Interface:
    interface = _Interface(block.linktype)
    for option in block.opts:
        if option.code == _TSRESOL and len(option.data) == 1:
            base, power = 2 if option.data[0] & 0x80 else 10, option.data[0] & 0x7F
            interface = interface._replace(per_second=base**power)
        elif option.code == _TSOFFSET and len(option.data) == 8:
            interface = interface._replace(offset=struct.unpack(order + "q", option.data)[0])
    return interface


class Writer(Protocol):
    """Writes IP packets to a capture, with time stamps in nanoseconds."""

    def __init__(self, file: BinaryIO) -> None:
        """Begin a capture."""

    def write(self, time: int, packet: bytes) -> None:
        """Append a packet that was seen at `time`, in nanoseconds since 1970."""


class PcapWriter:
    """Writes pcap."""

    def __init__(self, file: BinaryIO) -> None:
        self._writer = library().pcap.Writer(file, snaplen=SNAPLEN, linktype=LINK_RAW, nano=True)

    def write(self, time: int, packet: bytes) -> None:
        self._writer.writepkt_time(packet, Decimal(time).scaleb(-9))


class PcapngWriter:
    """Writes pcapng."""

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
        self._writer.writepkt(
            self._block(ts_high=time >> 32, ts_low=time & 0xFFFFFFFF, pkt_data=packet)
        )


WRITERS: dict[str, type[Writer]] = {".pcap": PcapWriter, ".pcapng": PcapngWriter}
"""By the ending of the file's name."""
