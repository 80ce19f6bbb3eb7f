"""MP4 as it is written for live viewers: an init segment, then fragments.

A file of boxes (ISO/IEC 14496-12): size, four letters, content. The init segment (ftyp, moov) says
what the tracks are and holds no sample; each fragment (moof, mdat) holds a few samples of every
track with their times, and can follow any other. That is what Media Source Extensions take ("ISO
BMFF Byte Stream Format", W3C).
"""

from collections.abc import Iterable, Sequence
from struct import Struct, pack
from typing import NamedTuple

FIXED = 1 << 16
"""1 in the fixed point numbers of headers."""

SYNC = 0x0200_0000
"""Flags of a sample (8.8.3.1): it needs no other, decoding can start here."""
NO_SYNC = 0x0101_0000
"""It needs others."""
DISPOSABLE = 0x0080_0000
"""No other needs it."""


class MediaTrack(NamedTuple):
    """What the init segment says of a track."""

    number: int
    timescale: int
    """Ticks a second of its times."""
    codec: str
    """For the `codecs` of a MIME type (RFC 6381)."""
    entry: bytes
    """The sample entry, a box: all that a decoder has to know before the first sample."""
    width: int = 0
    height: int = 0
    """On the screen, in square pixels; 0 of sound."""


class Sample(NamedTuple):
    """A picture, or a frame of sound."""

    data: bytes
    duration: int
    flags: int
    offset: int
    """From the time at which it is decoded to that at which it is shown."""


class TrackRun(NamedTuple):
    """The samples of a track in a fragment."""

    track: int
    time: int
    """When the first is decoded, in ticks of the track."""
    samples: Sequence[Sample]


def box(kind: bytes, *parts: bytes) -> bytes:
    """Make a box (4.2)."""
    body = b"".join(parts)
    return pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """Make a box with version and flags."""
    return box(kind, pack(">I", version << 24 | flags), *parts)


# --- sample entries


def visual_entry(kind: bytes, width: int, height: int, *parts: bytes) -> bytes:
    """Make a sample entry of pictures, their size in samples (12.1.3)."""
    head = pack(
        ">6xH16xHHII4xH32xHh", 1, width, height, 72 * FIXED, 72 * FIXED, 1, 24, -1
    )  # 72 dpi, one picture in a sample, 24 bits deep, no table of colours
    return box(kind, head, *parts)


def pixel_aspect(width: int, height: int) -> bytes:
    """Make the box that says that samples are not square (12.1.4)."""
    return box(b"pasp", pack(">II", width, height))


def audio_entry(rate: int, channels: int, object_type: int, config: bytes) -> bytes:
    """Make a sample entry of sound: its codec is in an ES descriptor (ISO/IEC 14496-14, 5.6).

    `object_type` is the codec (ISO/IEC 14496-1, table 5), `config` what its decoder needs.
    """
    head = pack(">6xH8xHH4xI", 1, channels, 16, rate * FIXED if rate < FIXED else 0)
    decoder = pack(">BB3xII", object_type, 0x15, 0, 0)  # 0x15: sound; no rates are promised
    decoder += _descriptor(5, config) if config else b""
    stream = pack(">HB", 0, 0) + _descriptor(4, decoder) + _descriptor(6, b"\2")
    return box(b"mp4a", head, full_box(b"esds", 0, 0, _descriptor(3, stream)))


def _descriptor(tag: int, body: bytes) -> bytes:
    """Make a descriptor of less than 128 bytes (ISO/IEC 14496-1, 8.3.3)."""
    return bytes((tag, len(body))) + body


# --- init segment

_MATRIX = pack(">9I", FIXED, 0, 0, 0, FIXED, 0, 0, 0, 1 << 30)
_LANGUAGE = 0x55C4  # "und"


def init_segment(tracks: Iterable[MediaTrack]) -> bytes:
    """Make what comes before all fragments."""
    tracks = tuple(tracks)
    following = max(track.number for track in tracks) + 1
    header = pack(">5IH10x", 0, 0, 1000, 0, FIXED, 0x0100)
    moov = box(
        b"moov",
        full_box(b"mvhd", 0, 0, header, _MATRIX, bytes(24), pack(">I", following)),
        *map(_trak, tracks),
        box(b"mvex", *map(_trex, tracks)),
    )
    return box(b"ftyp", b"iso6", pack(">I", 0), b"iso6mp41") + moov


def _trak(track: MediaTrack) -> bytes:
    sound = not track.width
    size = pack(">II", track.width * FIXED, track.height * FIXED)
    tkhd = pack(">5I8x3H2x", 0, 0, track.number, 0, 0, 0, 0, 0x0100 if sound else 0)
    kind, name = (b"soun", b"sound\0") if sound else (b"vide", b"picture\0")
    tables = (full_box(name, 0, 0, bytes(4)) for name in (b"stts", b"stsc", b"stco"))
    stbl = box(
        b"stbl",
        full_box(b"stsd", 0, 0, pack(">I", 1), track.entry),
        *tables,
        full_box(b"stsz", 0, 0, bytes(8)),
    )
    media = full_box(b"smhd", 0, 0, bytes(4)) if sound else full_box(b"vmhd", 0, 1, bytes(8))
    here = box(b"dinf", full_box(b"dref", 0, 0, pack(">I", 1), full_box(b"url ", 0, 1)))
    return box(
        b"trak",
        full_box(b"tkhd", 0, 3, tkhd, _MATRIX, size),
        box(
            b"mdia",
            full_box(b"mdhd", 0, 0, pack(">4IHH", 0, 0, track.timescale, 0, _LANGUAGE, 0)),
            full_box(b"hdlr", 0, 0, bytes(4), kind, bytes(12), name),
            box(b"minf", media, here, stbl),
        ),
    )


def _trex(track: MediaTrack) -> bytes:
    return full_box(b"trex", 0, 0, pack(">5I", track.number, 1, 0, 0, 0))


# --- fragments

_ROW = Struct(">IIIi")
_SIZE = Struct(">I")

# Flags of tfhd (8.8.7) and of trun (8.8.8).
_FROM_MOOF, _DURATION, _FLAGS = 0x020000, 0x08, 0x20
_DATA_AT, _SIZES, _ALL = 0x001, 0x200, 0xF00


def fragment(number: int, runs: Sequence[TrackRun]) -> bytes:
    """Make a fragment; numbers rise from one to the next."""
    pieces = [sample.data for run in runs for sample in run.samples]
    size = sum(map(len, pieces))
    moof = _moof(number, runs, 0)
    return b"".join((_moof(number, runs, len(moof) + 8), pack(">I4s", 8 + size, b"mdat"), *pieces))


def _moof(number: int, runs: Sequence[TrackRun], at: int) -> bytes:
    """Make the moof of samples whose data begins `at` bytes behind its own beginning."""
    parts = [full_box(b"mfhd", 0, 0, pack(">I", number & 0xFFFFFFFF))]
    for run in runs:
        parts.append(_traf(run, at))
        at += sum(len(sample.data) for sample in run.samples)
    return box(b"moof", *parts)


def _traf(run: TrackRun, at: int) -> bytes:
    samples = run.samples
    duration, flags = samples[0].duration, samples[0].flags
    if all(s.duration == duration and s.flags == flags and not s.offset for s in samples):
        tfhd = pack(">III", run.track, duration, flags)
        kind, shown = _FROM_MOOF | _DURATION | _FLAGS, _SIZES
        rows = [_SIZE.pack(len(s.data)) for s in samples]
    else:
        tfhd = pack(">I", run.track)
        kind, shown = _FROM_MOOF, _ALL
        rows = [_ROW.pack(s.duration, len(s.data), s.flags, s.offset) for s in samples]
    return box(
        b"traf",
        full_box(b"tfhd", 0, kind, tfhd),
        full_box(b"tfdt", 1, 0, pack(">Q", run.time)),
        full_box(b"trun", 1, _DATA_AT | shown, pack(">Ii", len(samples), at), *rows),
    )
