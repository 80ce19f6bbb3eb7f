"""MPEG transport stream packets (ISO/IEC 13818-1): found in bytes, and their fields read.

A reader takes one packet and returns one field. There is no class with all of them: code that walks
a live stream needs two or three, and building an object for each packet would cost more than the
reading. All readers take exactly one packet, PACKET_SIZE bytes, as `Framer` gives them, and never
fail on any content.
"""

from collections.abc import Iterator
from typing import NamedTuple

Packet = bytes | memoryview
"""PACKET_SIZE bytes that begin with SYNC_BYTE."""

PACKET_SIZE = 188
SYNC_BYTE = 0x47

PCR_HZ = 27_000_000
PCR_WRAP = 300 << 33
"""The PCR counts modulo this (26.5 hours)."""

PTS_HZ = 90_000
PTS_WRAP = 1 << 33
"""PTS, DTS and the base of the PCR count modulo this."""

BARE_STREAMS = frozenset((0xBC, 0xBE, 0xBF, 0xF0, 0xF1, 0xF2, 0xF8, 0xFF))
"""Stream IDs whose PES packets have no header with times (2.4.3.7)."""


def pid(packet: Packet) -> int:
    """The packet identifier: which stream or table this is a part of."""
    return (packet[1] & 0x1F) << 8 | packet[2]


def counter(packet: Packet) -> int:
    """The continuity counter: of a PID it counts the packets with payload, modulo 16 (2.4.3.3)."""
    return packet[3] & 0x0F


def has_payload(packet: Packet) -> bool:
    """Tell whether there is more than header and adaptation field."""
    return bool(packet[3] & 0x10)


def is_scrambled(packet: Packet) -> bool:
    """Tell whether the payload cannot be read."""
    return bool(packet[3] & 0xC0)


def starts_unit(packet: Packet) -> bool:
    """Tell whether a PES packet or a table begins in this payload."""
    return bool(packet[1] & 0x40)


def _has_field(packet: Packet) -> bool:
    return bool(packet[3] & 0x20 and packet[4])


def discontinuity(packet: Packet) -> bool:
    """Tell whether the packet announces that its clock or counter jumps (2.4.3.5)."""
    return _has_field(packet) and bool(packet[5] & 0x80)


def pcr(packet: Packet) -> int | None:
    """The clock of the program in ticks of PCR_HZ, or None where there is none (2.4.3.5)."""
    if _has_field(packet) and packet[4] >= 7 and packet[5] & 0x10:
        base = int.from_bytes(packet[6:11], "big") >> 7
        return base * 300 + ((packet[10] & 1) << 8 | packet[11])
    return None


def payload_at(packet: Packet) -> int:
    """Offset of the payload; beyond the packet where the adaptation field claims so."""
    return 5 + packet[4] if packet[3] & 0x20 else 4


class PesHeader(NamedTuple):
    """The beginning of a PES packet (2.4.3.6)."""

    stream_id: int
    stamps: tuple[int, ...]
    """Where in the TS packet the PTS is, and the DTS if there is one: see `stamp`."""

    @property
    def is_video(self) -> bool:
        """Tell whether these are pictures."""
        return self.stream_id & 0xF0 == 0xE0


def pes_header(packet: Packet) -> PesHeader | None:
    """Read the header of a PES packet with times, if one begins in this packet."""
    at = payload_at(packet)
    room = PACKET_SIZE - at - 9
    if not (starts_unit(packet) and has_payload(packet)) or is_scrambled(packet) or room < 5:
        return None
    if packet[at : at + 3] != b"\0\0\1" or packet[at + 3] in BARE_STREAMS:
        return None
    if not packet[at + 7] & 0x80:
        return None
    both = packet[at + 7] & 0x40 and room >= 10
    return PesHeader(packet[at + 3], (at + 9, at + 14) if both else (at + 9,))


def stamp(packet: Packet, at: int) -> int:
    """The PTS or DTS at an offset, in ticks of PTS_HZ: 33 bits in three groups (2.4.3.7)."""
    a, b, c, d, e = packet[at : at + 5]
    return (a & 0x0E) << 29 | b << 22 | (c & 0xFE) << 14 | d << 7 | e >> 1


class Framer:
    """Finds packets in bytes that come in pieces of any size, and finds back after garbage.

    Packets may be spaced as they are (188 bytes), with a time code in front (M2TS, 192), or with
    Reed-Solomon bytes behind (DVB, 204). What comes out does not depend on where the input was cut.
    """

    STRIDES = (188, 192, 204)

    CONFIRM = 5
    """Sync bytes in a row that make a stream: one in 10^12 places of random bytes has them."""

    WINDOW = (CONFIRM + 1) * max(STRIDES)
    """Bytes that must have come after a place before it is judged: as many are held back."""

    def __init__(self) -> None:
        self._data = b""
        self._stride = 0
        self.skipped = 0
        """Bytes that belong to no packet."""
        self.searched = 0
        """Of these, how many were passed since the last packet."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take more bytes; return the packets that are certain with them."""
        self._data += data
        return list(self._take(final=False))

    def finish(self) -> list[bytes]:
        """There are no more bytes: return the packets that are left."""
        return list(self._take(final=True))

    def _take(self, final: bool) -> Iterator[bytes]:
        data, at, needed = self._data, 0, PACKET_SIZE if final else self.WINDOW
        while len(data) - at >= needed:
            if self._stride and data[at] == SYNC_BYTE:
                yield data[at : at + PACKET_SIZE]
                at += self._stride
                self.searched = 0
            else:
                start, self._stride = self._search(at, final)
                self._skip(start - at)
                at = start
        if final:
            self._skip(max(0, len(data) - at))
            at = len(data)
        self._data = data[at:]

    def _skip(self, count: int) -> None:
        self.skipped += count
        self.searched += count

    def _search(self, start: int, final: bool) -> tuple[int, int]:
        """Find where packets follow each other: offset and spacing, 0 if nowhere so far."""
        data = self._data
        end = len(data) if final else len(data) - self.WINDOW + 1
        at = data.find(SYNC_BYTE, start, end)
        while at >= 0:
            for stride in self.STRIDES:
                if self._confirmed(at, stride):
                    return at, stride
            at = data.find(SYNC_BYTE, at + 1, end)
        return end, 0

    def _confirmed(self, at: int, stride: int) -> bool:
        data = self._data
        places = range(at, len(data), stride)[: self.CONFIRM]
        if any(data[place] != SYNC_BYTE for place in places):
            return False
        # At the end of the data fewer are enough, if they reach exactly to its last byte.
        return len(places) == self.CONFIRM or (len(data) - at) % stride in (0, PACKET_SIZE)
