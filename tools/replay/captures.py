"""Capture files: pcap and pcapng, read and written by way of dpkt.

dpkt does the formats. Its own pcapng.Reader knows one interface per file, so a capture made on two
would be read with the wrong link type and clock; here the blocks are walked, and dpkt decodes them.
The option if_tsoffset, which moves an interface's clock, is ignored: only the gaps matter. Lengths
are checked before anything is read: a broken file may claim a record of 4 GiB.

The formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

import io
import struct
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, BinaryIO, NamedTuple

from tools.replay.packets import LINK_RAW, decoded, library
from tools.replay.program import ReplayError

MAX_RECORD = 16 << 20
"""Bytes: far above any snapshot length (tcpdump: 262,144), far below what hurts to read."""

SNAPLEN = 262_144
"""What tcpdump declares, so that no reader takes a record for cut short."""

MAX_TIME = 1 << 63
"""Nanoseconds since 1970, until 2262: a later time means that the file is damaged."""

_PCAP_MAGICS = tuple(
    struct.pack(order + "I", magic)
    for order in "<>"
    for magic in (0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34)
)
_PCAPNG_MAGIC = b"\n\r\r\n"
_INTERFACE, _PACKET = 1, 6
_TSRESOL = 9
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


def _pcapng(file: _Bounded) -> Iterator[Record]:
    order, interfaces = "<", list[tuple[int, int]]()
    while head := file.read(8):
        if head[:4] == _PCAPNG_MAGIC:  # a section, which may have another byte order
            head += file.exactly(4)
            order = "<" if head[8:] == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces.clear()
        kind, size = struct.unpack_from(order + "II", head)
        data = head + file.exactly(size - len(head))
        if kind == _INTERFACE:
            block = _block("InterfaceDescriptionBlock", order, data)
            interfaces.append((block.linktype, _ticks_per_second(block)))
        elif kind == _PACKET:
            block = _block("EnhancedPacketBlock", order, data)
            if block.iface_id >= len(interfaces):
                raise CaptureError(f"the capture is broken: no interface {block.iface_id}")
            link, per_second = interfaces[block.iface_id]
            ticks = block.ts_high << 32 | block.ts_low
            yield Record(ticks * 10**9 // per_second, link, block.pkt_data)


def _block(name: str, order: str, data: bytes) -> Any:
    block = decoded(getattr(library().pcapng, name + ("LE" if order == "<" else "")), data)
    if block is None:
        raise CaptureError("the capture is broken: a block that cannot be read")
    return block


def _ticks_per_second(interface: Any) -> int:
    for option in interface.opts:
        if option.code == _TSRESOL and len(option.data) == 1:
            base, power = 2 if option.data[0] & 0x80 else 10, option.data[0] & 0x7F
            return int(base**power)
    return 10**6


Write = Callable[[int, bytes], object]
"""Appends an IP packet to a capture: when it was seen, in nanoseconds since 1970, and its bytes."""


def pcap(file: BinaryIO) -> Write:
    """Begin a pcap file with nanoseconds."""
    writer = library().pcap.Writer(file, snaplen=SNAPLEN, linktype=LINK_RAW, nano=True)
    return lambda time, packet: writer.writepkt_time(packet, Decimal(time).scaleb(-9))


def pcapng(file: BinaryIO) -> Write:
    """Begin a pcapng file with nanoseconds."""
    ng = library().pcapng
    suffix = "LE" if sys.byteorder == "little" else ""  # dpkt writes in the machine's order
    option = getattr(ng, "PcapngOption" + suffix)
    interface = getattr(ng, "InterfaceDescriptionBlock" + suffix)(
        snaplen=SNAPLEN, linktype=LINK_RAW, opts=[option(code=_TSRESOL, data=b"\x09"), option()]
    )
    writer, block = ng.Writer(file, idb=interface), getattr(ng, "EnhancedPacketBlock" + suffix)
    return lambda time, packet: writer.writepkt(
        block(ts_high=time >> 32, ts_low=time & 0xFFFFFFFF, pkt_data=packet)
    )


FORMATS: dict[str, Callable[[BinaryIO], Write]] = {".pcap": pcap, ".pcapng": pcapng}
"""How to begin a capture, by the ending of its name."""
