"""Pictures of H.264 and HEVC, from the way a transport stream has them to the way MP4 has them.

In a transport stream a start code stands before each NAL unit (Annex B of ITU-T H.264 and H.265),
and parameter sets come again and again. In MP4 (ISO/IEC 14496-15) the length stands before a unit,
and the parameter sets are in the sample entry. Those that change where decoding can start make a
new sample entry; any that change elsewhere stay where they are, and decoders take them from there.
"""

import re
from functools import lru_cache
from itertools import islice
from struct import pack
from typing import NamedTuple

from relaylib.media.bits import Bits, EndError, unescaped
from relaylib.media.codecs import H264, HEVC, Codec
from relaylib.media.mpegts import PTS_HZ
from relaylib.media.video import Format, inspect
from relaylib.mp4 import boxes

START = b"\0\0\1"

MAX_UNITS = 1000
"""NAL units of a picture: levels allow a few hundred slices (H.264, table A-1). More is damage."""

MAX_SETS = 31
"""Parameter sets of a kind: a sample entry has room for so many SPS."""
MAX_SIZE = 4096
"""Of a parameter set there, in bytes: four times what one with all its lists takes. A larger one
stays in the stream."""

MAX_SEI = 16
"""SEI units of a picture in which the message about decoding is looked for."""
MAX_MESSAGES = 32
"""Messages of such a unit."""


class Picture(NamedTuple):
    """A picture as a sample."""

    data: bytes
    random_access: bool
    disposable: bool
    """No other picture needs it."""


class _Kinds(NamedTuple):
    """Numbers of NAL unit types."""

    slices: frozenset[int]
    sets: tuple[int, ...]
    """In the order of the sample entry; the last but one is the SPS."""
    dropped: frozenset[int]
    """Of no use in MP4: access unit delimiters, filling."""


_AVC = _Kinds(frozenset((1, 2, 5)), (7, 8), frozenset((9, 12)))
_HEVC = _Kinds(frozenset(range(22)), (32, 33, 34), frozenset((35, 38)))
_AVC_IDR, _AVC_SEI, _AVC_SPS = 5, 6, 7
_RECOVERY_POINT = 6
_HEVC_IRAP = frozenset(range(16, 22))


class Pictures:
    """The pictures of one stream."""

    def __init__(self, codec: Codec, number: int) -> None:
        self.track: boxes.MediaTrack | None = None
        """What the latest picture at which decoding can start needs."""
        self._avc = codec == H264
        self._kinds = _AVC if self._avc else _HEVC
        self._number = number
        self._sets = frozenset[bytes]()
        self._met = list[bytes]()  # sets since the last picture
        self._changed = False  # a set that is not in the sample entry is in force

    def take(self, data: bytes) -> Picture | None:
        """Take the payload of a PES packet; None if there is no picture in it."""
        units = data.split(START, MAX_UNITS + 1)[1:]
        if len(units) > MAX_UNITS:
            return None
        kept, kinds = list[bytes](), list[int]()
        for piece in units:
            unit = piece.rstrip(b"\0")
            if not unit:
                continue
            kind = self._kind(unit)
            if kind in self._kinds.sets and len(unit) <= MAX_SIZE:
                self._met.append(unit)
                if unit in self._sets and not self._changed:
                    continue
            if kind not in self._kinds.dropped:
                kept.append(unit)
                kinds.append(kind)
        if self._kinds.slices.isdisjoint(kinds):
            del self._met[: -3 * MAX_SETS]
            return None
        random_access = self._starts(kept, kinds)
        kept = self._settle(kept, kinds, random_access)
        self._met = []
        data = b"".join([part for unit in kept for part in (pack(">I", len(unit)), unit)])
        return Picture(data, random_access, not random_access and self._disposable(kept))

    def _kind(self, unit: bytes) -> int:
        return unit[0] & 0x1F if self._avc else unit[0] >> 1 & 0x3F

    def _settle(self, kept: list[bytes], kinds: list[int], random_access: bool) -> list[bytes]:
        """Find out which parameter sets are in force; return the units without those."""
        if random_access and (track := self._described()):
            self.track, self._sets, self._changed = track, frozenset(self._met), False
            return [u for u, kind in zip(kept, kinds, strict=True) if kind not in self._kinds.sets]
        self._changed = self._changed or any(kind in self._kinds.sets for kind in kinds)
        return kept

    def _described(self) -> boxes.MediaTrack | None:
        """Describe the track by the parameter sets that came with this picture, if all did."""
        met = dict.fromkeys(self._met)
        kinds = [(self._kind(unit), unit) for unit in met]
        rows = [tuple(u for kind, u in kinds if kind == wanted) for wanted in self._kinds.sets]
        if not all(0 < len(row) <= MAX_SETS for row in rows):
            return None
        return (_avc_track if self._avc else _hevc_track)(self._number, *rows)

    def _starts(self, units: list[bytes], kinds: list[int]) -> bool:
        """Tell whether decoding can start at a picture."""
        if not self._avc:
            return not _HEVC_IRAP.isdisjoint(kinds)
        if _AVC_IDR in kinds:
            return True
        # Without an IDR picture, as in open groups: an SEI message says so, or nothing does.
        if any(unit[0] & 0x1F == _AVC_SPS for unit in self._met):
            return _is_intra(units[kinds.index(1)]) if 1 in kinds else False
        messages = (u for u, kind in zip(units, kinds, strict=True) if kind == _AVC_SEI)
        return any(map(_is_recovery_point, islice(messages, MAX_SEI)))

    def _disposable(self, units: list[bytes]) -> bool:
        """Tell by the last unit that is a slice (H.264, 7.4.1: nal_ref_idc; H.265, table 7-1)."""
        for unit in reversed(units):
            kind = self._kind(unit)
            if kind in self._kinds.slices:
                return not unit[0] & 0x60 if self._avc else kind < 16 and not kind & 1
        return False


def _is_intra(slice_unit: bytes) -> bool:
    """Read the type of a slice (H.264, 7.3.3)."""
    bits = Bits(slice_unit[1:13])
    try:
        bits.golomb()
        return bits.golomb() % 5 == 2
    except EndError:
        return False


_MESSAGE = re.compile(rb"(\xff*)([^\xff])(\xff*)([^\xff])", re.DOTALL)
"""The head of a message: its kind and its size, each a sum of bytes of which the last is no 255."""


def _is_recovery_point(sei: bytes) -> bool:
    """Look for that message among those of an SEI unit (H.264, 7.3.2.3.1)."""
    data, at = unescaped(sei[1:]), 0
    for _ in range(MAX_MESSAGES):
        found = _MESSAGE.match(data, at)
        if not found:
            break
        kind = 255 * len(found[1]) + found[2][0]
        if kind == _RECOVERY_POINT:
            return found.end() < len(data)
        at = found.end() + 255 * len(found[3]) + found[4][0]
    return False


# --- sample entries

_WITH_CHROMA = (100, 110, 122, 144)
"""Profiles whose configuration has the sampling of colour (ISO/IEC 14496-15, 5.3.3.1.2)."""


def _listed(units: tuple[bytes, ...]) -> bytes:
    return b"".join([pack(">H", len(unit)) + unit for unit in units])


def _format(codec: Codec, sets: tuple[bytes, ...], least: int) -> Format | None:
    """Read the first SPS, unless it says what no sample entry can."""
    if len(sets[0]) < least:
        return None
    found = inspect(codec, START + sets[0]).format
    return found if found and max(found.depths) <= 16 and found.chroma <= 3 else None


def _track(number: int, name: bytes, codec: str, found: Format, config: bytes) -> boxes.MediaTrack:
    across, down = found.aspect
    shape = boxes.pixel_aspect(across, down) if across != down else b""
    entry = boxes.visual_entry(name, found.width, found.height, config, shape)
    wide = min(round(found.width * across / down), 0xFFFF) or 1
    return boxes.MediaTrack(number, PTS_HZ, codec, entry, wide, found.height)


@lru_cache(maxsize=4)
def _avc_track(
    number: int, sps: tuple[bytes, ...], pps: tuple[bytes, ...]
) -> boxes.MediaTrack | None:
    """Make the AVC configuration (ISO/IEC 14496-15, 5.3.3.1)."""
    found = _format(H264, sps + pps, 4)
    if found is None:
        return None
    profile = sps[0][1:4]
    config = b"\1" + profile + bytes((0xFF, 0xE0 | len(sps))) + _listed(sps)
    config += bytes((len(pps),)) + _listed(pps)
    if profile[0] in _WITH_CHROMA:
        luma, chroma = (depth - 8 for depth in found.depths)
        config += bytes((0xFC | found.chroma, 0xF8 | luma, 0xF8 | chroma, 0))
    return _track(number, b"avc1", f"avc1.{profile.hex()}", found, boxes.box(b"avcC", config))


@lru_cache(maxsize=4)
def _hevc_track(
    number: int, vps: tuple[bytes, ...], sps: tuple[bytes, ...], pps: tuple[bytes, ...]
) -> boxes.MediaTrack | None:
    """Make the HEVC configuration (ISO/IEC 14496-15, 8.3.3.1)."""
    found = _format(HEVC, sps + vps + pps, 20)
    if found is None:
        return None
    layers, *profile = unescaped(sps[0][2:])[:13]
    luma, chroma = (depth - 8 for depth in found.depths)
    config = bytes((1, *profile, 0xF0, 0, 0xFC, 0xFC | found.chroma, 0xF8 | luma, 0xF8 | chroma))
    sublayers, nested = (layers >> 1 & 7) + 1, layers & 1
    config += bytes((0, 0, sublayers << 3 | nested << 2 | 3, 3))  # lengths of 4 bytes; 3 arrays
    for kind, units in zip(_HEVC.sets, (vps, sps, pps), strict=True):
        config += pack(">BH", 0x80 | kind, len(units)) + _listed(units)
    codec = _hevc_codec(bytes(profile))
    return _track(number, b"hvc1", codec, found, boxes.box(b"hvcC", config))


def _hevc_codec(profile: bytes) -> str:
    """Name profile, tier and level (ISO/IEC 14496-15, annex E)."""
    space = ("", "A", "B", "C")[profile[0] >> 6]
    tier = "H" if profile[0] & 0x20 else "L"
    fits = int(f"{int.from_bytes(profile[1:5], 'big'):032b}"[::-1], 2)
    limits = [f"{byte:X}" for byte in profile[5:11].rstrip(b"\0")]
    words = [f"hvc1.{space}{profile[0] & 0x1F}", f"{fits:X}", f"{tier}{profile[11]}", *limits]
    return ".".join(words)
