"""Program tables (ISO/IEC 13818-1, 2.4.4): which programs there are and what they consist of.

Tables come in sections, a section may be spread over packets, and a packet may hold the end of one
and the beginning of the next. All readers take whole sections whose CRC holds; they answer None for
what is not their table or not in force yet, and no content makes them fail.
"""

import zlib
from typing import NamedTuple

from relaylib.media import mpegts

PAT_PID = 0
PAT_TABLE, PMT_TABLE = 0, 2

SI_PIDS = (1, 0x10, 0x11, 0x12)
"""CAT, NIT, SDT and BAT, EIT (ETSI EN 300 468, 5.1.3): read for their CRC only."""

SHORTEST = 12
"""Bytes of a section of the PAT or a PMT, with nothing in it (2.4.4.3, 2.4.4.8)."""

MOST_PACKETS = 24
"""Packets of one section: 4096 bytes."""

_LONG = 0x80
"""The section syntax indicator: there is a version and a CRC."""

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc_holds(section: bytes) -> bool:
    """Check the CRC-32 at the end of a section (annex A).

    It is zlib's with the bits of each byte the other way round; over what includes a right CRC
    all bits of the sum are equal.
    """
    return zlib.crc32(section.translate(_REVERSED)) == 0xFFFFFFFF


def has_crc(section: bytes) -> bool:
    """Tell whether a section is of the kind that ends in a CRC."""
    return bool(section[1] & _LONG)


class Sections:
    """Puts together the sections of one PID."""

    def __init__(self) -> None:
        self._data = b""
        self._packets = b""
        self.packets = b""
        """The packets that the last whole section came in, as they were."""

    def add(self, payload: bytes, starts: bool) -> list[bytes]:
        """Take the payload of the next packet, `starts` if a section begins in it."""
        if not starts:
            self._data += payload if self._data else b""
            return self._whole()
        pointer = payload[0] + 1 if payload else 0
        self._data += payload[1:pointer] if self._data else b""
        whole = self._whole()
        self._data = payload[pointer:]
        return whole + self._whole()

    def keep(self, packet: bytes, starts: bool, ends: bool) -> None:
        """Remember the packet whose payload was added, `ends` if a section became whole with it."""
        held = self._packets + packet
        if ends:
            self.packets = held
        if not self._data or len(held) > MOST_PACKETS * len(packet):
            self._packets = b""
        else:
            self._packets = packet if starts else held

    def drop(self) -> None:
        """Forget the section that has begun: a part of it was lost."""
        self._data = self._packets = b""

    def _whole(self) -> list[bytes]:
        data, at, found = self._data, 0, list[bytes]()
        while at + 3 <= len(data) and data[at] != 0xFF:  # 0xFF: the rest is stuffing
            end = at + 3 + ((data[at + 1] << 8 | data[at + 2]) & 0x0FFF)
            if end > len(data):
                break
            found.append(data[at:end])
            at = end
        self._data = b"" if data[at : at + 1] == b"\xff" else data[at:]
        return found


class Pat(NamedTuple):
    """A section of the program association table (2.4.4.3)."""

    version: int
    section: int
    programs: dict[int, int]
    """Number of a program -> PID of its table."""


class MapEntry(NamedTuple):
    """An elementary stream as its program names it."""

    pid: int
    type: int
    descriptors: bytes


class Pmt(NamedTuple):
    """A program map (2.4.4.8)."""

    number: int
    pcr_pid: int
    streams: tuple[MapEntry, ...]


def _in_force(section: bytes, table: int, least: int) -> bool:
    return len(section) >= least and section[0] == table and bool(section[5] & 1)


def _pid(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big") & 0x1FFF


def _length(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big") & 0x0FFF


def pat(section: bytes) -> Pat | None:
    """Read a section of the PAT. The network's own PID (program 0) is left out."""
    if not _in_force(section, PAT_TABLE, 12):
        return None
    rows = range(8, len(section) - 4 - 3, 4)
    programs = {int.from_bytes(section[at : at + 2], "big"): _pid(section, at + 2) for at in rows}
    programs.pop(0, None)
    return Pat(section[5] >> 1 & 0x1F, section[6], programs)


def pmt(section: bytes) -> Pmt | None:
    """Read a PMT."""
    if not _in_force(section, PMT_TABLE, 16):
        return None
    streams, at, end = list[MapEntry](), 12 + _length(section, 10), len(section) - 4
    while at + 5 <= end:
        behind = at + 5 + _length(section, at + 3)
        described = section[at + 5 : min(behind, end)]
        streams.append(MapEntry(_pid(section, at + 1), section[at], described))
        at = behind
    return Pmt(int.from_bytes(section[3:5], "big"), _pid(section, 8), tuple(streams))


def maps(packets: bytes) -> dict[int, set[tuple[int, int]]]:
    """Read the PMTs in these packets of tables: of each program, its streams' PIDs and types."""
    found, sections = dict[int, set[tuple[int, int]]](), Sections()
    for at in range(0, len(packets) - mpegts.PACKET_SIZE + 1, mpegts.PACKET_SIZE):
        packet = packets[at : at + mpegts.PACKET_SIZE]
        payload = packet[mpegts.payload_at(packet) :]
        for section in sections.add(payload, mpegts.starts_unit(packet)):
            table = pmt(section)
            if table and crc_holds(section):
                found[table.number] = {(stream.pid, stream.type) for stream in table.streams}
    return found
