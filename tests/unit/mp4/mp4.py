"""A small second reader of MP4: boxes, and samples of fragments. It asserts that all adds up."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl", b"mvex", b"moof", b"traf"}


class Sample(NamedTuple):
    """One sample, its times in ticks of its track."""

    time: int
    duration: int
    offset: int
    sync: bool
    data: bytes


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Walk through boxes: kind and body."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        assert 8 <= size <= len(data) - at, (kind, size)
        yield kind, data[at + 8 : at + size]
        at += size


def find(data: bytes, *path: bytes) -> list[bytes]:
    """Return the bodies of all boxes at this path."""
    bodies = [data]
    for kind in path:
        bodies = [body for outer in bodies for found, body in boxes(outer) if found == kind]
    return bodies


def walk(data: bytes) -> None:
    """Check that all boxes within boxes fill them exactly."""
    for kind, body in boxes(data):
        if kind in CONTAINERS:
            walk(body)


def samples(fragment: bytes) -> dict[int, list[Sample]]:
    """Read a fragment: the samples of each track. Together they are the whole mdat."""
    walk(fragment)
    (moof,), (mdat,) = find(fragment, b"moof"), find(fragment, b"mdat")
    assert len(fragment) == 8 + len(moof) + 8 + len(mdat)
    tracks, place = dict[int, list[Sample]](), len(moof) + 16
    for traf in find(moof, b"traf"):
        number, found, place = _traf(traf, fragment, place)
        tracks[number] = found
    assert place == len(fragment)
    return tracks


def _traf(traf: bytes, fragment: bytes, place: int) -> tuple[int, list[Sample], int]:
    (tfhd,), (tfdt,), (trun,) = (find(traf, kind) for kind in (b"tfhd", b"tfdt", b"trun"))
    kind, number = struct.unpack_from(">II", tfhd)
    (time,) = struct.unpack_from(">4xQ", tfdt)
    shown, count, at = struct.unpack_from(">IIi", trun)
    assert at == place
    assert count
    if kind & 0x08:
        duration, flags = struct.unpack_from(">II", tfhd, 8)
        rows = [(duration, size, flags, 0) for (size,) in struct.iter_unpack(">I", trun[12:])]
    else:
        rows = list(struct.iter_unpack(">IIIi", trun[12:]))
    assert shown == (1 << 24 | (0x201 if kind & 0x08 else 0xF01))
    assert len(rows) == count
    found = list[Sample]()
    for duration, size, flags, offset in rows:
        data = fragment[place : place + size]
        found.append(Sample(time, duration, offset, not flags & 0x10000, data))
        time, place = time + duration, place + size
    return number, found, place
