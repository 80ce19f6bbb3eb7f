"""Transport streams made to hurt who remuxes them, each as much as its maker could think of."""

import itertools
import struct
from collections.abc import Callable, Iterator

from tests.unit.media.streams import (
    pat,
    plain_packet,
    pmt,
    stamp,
    table_packet,
    ts_packet,
)

PACKETS = 56 * 40
VIDEO, SOUND = 0x100, 0x101
H264, HEVC, AAC = 0x1B, 0x24, 0x0F
ADTS_SMALLEST = bytes((0xFF, 0xF1, 0x4C, 0x80, 0x01, 0x1F, 0xFC, 0))
"""A frame of one byte behind its header."""
ADTS_LARGEST = bytes((0xFF, 0xF1, 0x4C, 0x83, 0xFF, 0xFF, 0xFC))
"""The header of one of 8191 bytes."""
SPS = bytes.fromhex("674d401eecc05017fcb808800000030080000019078b16cd")
PPS = bytes.fromhex("68e97b2c80")
IDR = b"\x65\x88\x84\x00" + b"x" * 16
START = b"\0\0\1"


def tables(*pids: int) -> list[bytes]:
    """Say that there is a picture, or sound, or both."""
    named = {pid: kind for pid, kind in ((VIDEO, H264), (SOUND, AAC)) if pid in pids}
    return [table_packet(0, pat({1: 0x1000})), table_packet(0x1000, pmt(1, VIDEO, {**named}))]


def head(stream: int, pts: int, size: int = 0) -> bytes:
    """Begin a PES packet; `size` bytes follow, 0: nobody knows how many."""
    length = size + 8 if size else 0
    start = bytes((0, 0, 1, stream, *length.to_bytes(2, "big"), 0x80, 0x80, 5))
    return start + stamp(2, pts)


def packets(pid: int, stream: int, units: Iterator[bytes], sized: bool) -> Iterator[bytes]:
    """Put units of a stream, one every 40 ms, in full packets."""
    counter = itertools.count()
    for number, unit in enumerate(units):
        data = head(stream, 90000 + 3600 * number, len(unit) if sized else 0) + unit
        for at in range(0, len(data), 184):
            piece = data[at : at + 184]
            if len(piece) == 184:
                yield plain_packet(pid, next(counter), piece, start=not at)
            else:
                yield ts_packet(pid, next(counter), payload=piece, start=not at)


def pictures(*units: bytes) -> Iterator[bytes]:
    """Send the same picture again and again."""
    return itertools.chain(
        tables(VIDEO), packets(VIDEO, 0xE0, itertools.repeat(START + START.join(units)), False)
    )


def tiny_sound() -> Iterator[bytes]:
    """One PES packet of sound, a byte in each packet of the stream."""
    yield from tables(SOUND)
    for number in itertools.count():
        body = head(0xC0, 90000, 60000) if not number else b"x"
        yield ts_packet(SOUND, number, payload=body, start=not number)


def tiny_pes() -> Iterator[bytes]:
    """A PES packet of sound for each byte of a large frame."""
    yield from tables(SOUND)
    for number in itertools.count():
        at = number % 8000
        body = ADTS_LARGEST if not at else b"\0"
        data = head(0xC0, 90000 + number, len(body)) + body
        yield ts_packet(SOUND, number, payload=data, start=True)


def tiny_frames(size: int) -> Iterator[bytes]:
    """As many frames of sound in a PES packet as fit."""
    picture = START + SPS + START + PPS + START + IDR
    yield from tables(VIDEO, SOUND)
    yield from itertools.islice(packets(VIDEO, 0xE0, itertools.repeat(picture), False), 30)
    unit = ADTS_SMALLEST * (size // len(ADTS_SMALLEST))
    yield from packets(SOUND, 0xC0, itertools.repeat(unit), size < 65000)


def endless_sound() -> Iterator[bytes]:
    """Sound that never says where a PES packet ends, until it has to."""
    return tiny_frames(3_000_000)


def false_frames() -> Iterator[bytes]:
    """Sound in which each byte may begin a frame, and none does."""
    yield from tables(SOUND)
    yield from packets(SOUND, 0xC0, itertools.repeat(b"\xff" * 60000), True)


def giant_sets() -> Iterator[bytes]:
    """Parameter sets as large as a sample entry has room for, others in each picture."""
    yield from tables(VIDEO)

    def units() -> Iterator[bytes]:
        for number in itertools.count():
            each = bytes((number % 200 + 1,)) * 60000
            yield b"".join(START + unit for unit in (SPS + each, PPS + each, IDR))

    yield from packets(VIDEO, 0xE0, units(), False)


def golomb(code: int) -> str:
    """Write a number in Exp-Golomb code."""
    return "0" * ((code + 1).bit_length() - 1) + f"{code + 1:b}"


def scaled_sets() -> Iterator[bytes]:
    """A parameter set with all scaling lists, in the longest codes, and very much behind them."""
    step = "".join(itertools.repeat(golomb(2 * (1 << 14)), 16))
    lists = "".join("1" + step * (1 if index < 6 else 4) for index in range(12))
    bits = golomb(0) + golomb(3) + "0" + golomb(0) * 2 + "0" + "1" + lists + golomb(0) * 20
    body = b"\x67\xf4\x10\x1f" + int(bits.ljust(len(bits) + -len(bits) % 8, "1"), 2).to_bytes(
        (len(bits) + 7) // 8, "big"
    )
    yield from tables(VIDEO)
    fills = (bytes((number % 200 + 1,)) * 59000 for number in itertools.count())
    units = (START + body + fill + START + PPS + START + IDR for fill in fills)
    yield from packets(VIDEO, 0xE0, units, False)


def many_sets() -> Iterator[bytes]:
    """As many parameter sets as a sample entry has room for, others in each picture."""
    yield from tables(VIDEO)

    def units() -> Iterator[bytes]:
        for number in itertools.count():
            sets = [kind + struct.pack(">HI", n + 257, 0x1010101 + number) for n in range(31)
                    for kind in (SPS, PPS)]  # fmt: skip
            yield b"".join(START + unit for unit in (*sets, IDR))

    yield from packets(VIDEO, 0xE0, units(), False)


def many_units() -> Iterator[bytes]:
    """Pictures of very many NAL units."""
    return pictures(SPS, PPS, *([b"\x65\x88x"] * 900))


def long_messages() -> Iterator[bytes]:
    """Messages (SEI) whose size is written in very many bytes."""
    return pictures(b"\x67x", *([b"\x06" + b"\xff" * 60000] * 3), b"\x61xxx")


def many_messages() -> Iterator[bytes]:
    """Messages (SEI) of no size."""
    return pictures(*([b"\x06" + b"\5\0" * 30000] * 3), b"\x61xxx")


def tiny_sections() -> Iterator[bytes]:
    """Sections of three bytes, while there is nothing to be played."""
    many = {number: 0x20 + number for number in range(1, 200)}
    first = pat({n: many[n] for n in list(many)[:40]})
    yield table_packet(0, first)
    for number in itertools.count(1):
        yield plain_packet(0, number, b"\0" + b"\0\x30\0" * 61, start=True)


def many_programs(sections: int) -> Iterator[bytes]:
    """Two hundred programs, another one each time, while there is nothing to be played."""
    for part in range(5):
        names = {100 * part + n: 0x20 + 40 * part + n for n in range(1, 41)}
        yield table_packet(0, pat(names, part=part)[:183])
    for number in itertools.count():
        body = b"".join(
            pat({n + 1: 0x20 + (number * sections + n) % 8000}, part=n + 5) for n in range(sections)
        )
        yield plain_packet(0, number, b"\0" + body, start=True)


def many_maps() -> Iterator[bytes]:
    """A program whose streams are others each time, several times in a packet."""
    yield table_packet(0, pat({1: 0x1000}))
    for number in itertools.count():
        each = [pmt(1, 256, {0x200 + (7 * number + n) % 4000: 6}) for n in range(7)]
        yield plain_packet(0x1000, number, b"\0" + b"".join(each), start=True)


def split_section() -> Iterator[bytes]:
    """A section of 4 KiB, a byte in each packet."""
    yield table_packet(0, pat({1: 0x1000}))
    for number in itertools.count():
        body = b"\0\2\xbf\xff" if number % 4000 == 0 else b"\0"
        yield ts_packet(0x1000, number, payload=body, start=number % 4000 == 0)


def changing_tracks() -> Iterator[bytes]:
    """Another sample rate in each frame of sound."""
    yield from tables(SOUND)
    frames = []
    for index in range(12):
        frame = bytearray(ADTS_SMALLEST)
        frame[2] = 0x40 | index << 2
        frames.append(bytes(frame) * 2)
    yield from packets(SOUND, 0xC0, itertools.repeat(b"".join(frames) * 300), True)


def large_pictures() -> Iterator[bytes]:
    """Pictures as large as any may be."""
    return pictures(SPS, PPS, IDR + b"x" * 5_900_000)


def fast_pictures() -> Iterator[bytes]:
    """Very small pictures at one time."""
    data = head(0xE0, 90000) + START + START.join((SPS, PPS, IDR))
    yield from tables(VIDEO)
    for number in itertools.count():
        yield ts_packet(VIDEO, number, payload=data, start=True)


def changing_pictures() -> Iterator[bytes]:
    """Pictures of a packet, each with another parameter set."""
    yield from tables(VIDEO)
    for number in itertools.count():
        units = (SPS, PPS + struct.pack(">H", 0x101 + number % 9999), IDR)
        data = head(0xE0, 90000 + 90 * number) + START + START.join(units)
        yield ts_packet(VIDEO, number, payload=data, start=True)


def changing_frames() -> Iterator[bytes]:
    """Sound whose rate is another one in every second frame, a PES packet in each packet."""
    yield from tables(SOUND)
    frames = b"".join(ADTS_SMALLEST[:2] + bytes((0x40 | n << 2,)) + ADTS_SMALLEST[3:] for n in
                      (3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11))  # fmt: skip
    for number in itertools.count():
        data = head(0xC0, 90000 + 90 * number, len(frames)) + frames
        yield ts_packet(SOUND, number, payload=data, start=True)


STREAMS: dict[str, Callable[[], Iterator[bytes]]] = {
    "tiny sound": tiny_sound,
    "tiny PES packets": tiny_pes,
    "tiny frames": lambda: tiny_frames(64000),
    "endless sound": endless_sound,
    "false frames": false_frames,
    "giant sets": giant_sets,
    "scaled sets": scaled_sets,
    "many sets": many_sets,
    "many units": many_units,
    "large pictures": large_pictures,
    "fast pictures": fast_pictures,
    "long messages": long_messages,
    "many messages": many_messages,
    "tiny sections": tiny_sections,
    "many programs": lambda: many_programs(1),
    "many programs at once": lambda: many_programs(11),
    "many maps": many_maps,
    "changing pictures": changing_pictures,
    "changing frames": changing_frames,
    "split section": split_section,
    "changing tracks": changing_tracks,
}


def stream(name: str, count: int = PACKETS) -> bytes:
    """Return so many packets of it."""
    return b"".join(itertools.islice(STREAMS[name](), count))


__all__ = ["STREAMS", "pat", "pmt", "stream"]
