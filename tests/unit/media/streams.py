"""Transport stream packets for tests, built field by field."""

import struct

MS = 27_000
"""PCR ticks in a millisecond."""


def ts_packet(
    pid: int = 256,
    counter: int = 0,
    pcr: int | None = None,
    payload: bytes = b"",
    *,
    jump: bool = False,
    start: bool = False,
    scrambled: bool = False,
) -> bytes:
    """Build a packet; `jump` sets the discontinuity indicator, `start` the payload unit start."""
    field = b""
    if pcr is not None:
        base, extension = divmod(pcr, 300)
        flags = 0x10 | (0x80 if jump else 0)
        field = bytes((flags,)) + (base << 15 | 0x7E00 | extension).to_bytes(6, "big")
    stuffing = 183 - len(field) - len(payload)
    field += b"" if field or stuffing <= 0 else b"\0"
    field = field.ljust(183 - len(payload), b"\xff")
    control = (0x80 if scrambled else 0) | 0x20 | (0x10 if payload else 0) | counter & 15
    head = bytes((0x47, (0x40 if start else 0) | pid >> 8, pid & 255, control, len(field)))
    return head + field + payload


def pes(pts: int, dts: int, stream: int = 0xE0) -> bytes:
    """Build the beginning of a PES packet with both time stamps."""
    head = bytes((0, 0, 1, stream, 0, 0, 0x80, 0xC0, 10))
    return head + stamp(3, pts) + stamp(1, dts) + b"x" * 20


def stamp(prefix: int, value: int) -> bytes:
    """Spread 33 bits over 5 bytes, three marker bits between them (2.4.3.7)."""
    high, middle, low = value >> 30, value >> 15 & 0x7FFF, value & 0x7FFF
    bits = prefix << 36 | high << 33 | 1 << 32 | middle << 17 | 1 << 16 | low << 1 | 1
    return bits.to_bytes(5, "big")


def stream(count: int) -> list[bytes]:
    """Packets that are all different, with the sync byte nowhere else."""
    return [ts_packet(payload=index.to_bytes(2, "big") * 90) for index in range(1000, 1000 + count)]


def crc32(data: bytes) -> int:
    """The CRC of sections, bit by bit as ISO/IEC 13818-1, annex A draws it."""
    crc = 0xFFFFFFFF
    for byte in data:
        for bit in range(7, -1, -1):
            carry = crc >> 31 ^ byte >> bit & 1
            crc = crc << 1 & 0xFFFFFFFF ^ (0x04C11DB7 if carry else 0)
    return crc


def section(table: int, number: int, body: bytes, version: int = 0, part: int = 0) -> bytes:
    """Build a section with its CRC: table, number of the program or the stream, what is inside."""
    size = 5 + len(body) + 4
    head = bytes((table, 0xB0 | size >> 8, size & 255))
    data = head + number.to_bytes(2, "big") + bytes((0xC1 | version << 1, part, part)) + body
    return data + crc32(data).to_bytes(4, "big")


def pat(programs: dict[int, int], version: int = 0, part: int = 0) -> bytes:
    """Build a PAT: number of a program -> PID of its map."""
    rows = (struct.pack(">HH", number, 0xE000 | pid) for number, pid in programs.items())
    return section(0, 1, b"".join(rows), version, part)


def pmt(
    number: int, pcr_pid: int, streams: dict[int, int | tuple[int, bytes]], version: int = 0
) -> bytes:
    """Build a PMT: PID of a stream -> its type, and its descriptors if there are any."""
    body = struct.pack(">HH", 0xE000 | pcr_pid, 0xF000)
    for pid, what in streams.items():
        kind, described = what if isinstance(what, tuple) else (what, b"")
        body += struct.pack(">BHH", kind, 0xE000 | pid, 0xF000 | len(described)) + described
    return section(2, number, body, version)


def table_packet(pid: int, data: bytes, counter: int = 0) -> bytes:
    """Put a section, or its beginning, in a packet of its own."""
    return plain_packet(pid, counter, b"\0" + data, start=True)


def plain_packet(pid: int, counter: int, payload: bytes = b"", *, start: bool = False) -> bytes:
    """Build a packet without adaptation field, cut or filled to its size."""
    head = bytes((0x47, (0x40 if start else 0) | pid >> 8, pid & 255, 0x10 | counter & 15))
    return head + payload.ljust(184, b"\xff")[:184]


class Camera:
    """Sends a stream with one program, a datagram at a time."""

    def __init__(self) -> None:
        self._sent = 0

    def datagram(self, *, skip: int = 0) -> bytes:
        """Return the next datagram; before its last two packets so many are missing."""
        first = 6 * self._sent
        packets = [
            table_packet(0, pat({1: 4096}), self._sent),
            table_packet(4096, pmt(1, 256, {256: 27}), self._sent),
            *(plain_packet(256, first + at + skip * (at >= 4)) for at in range(6)),
        ]
        self._sent += 1
        return b"".join(packets)
