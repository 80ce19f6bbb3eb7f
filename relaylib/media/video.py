"""Pictures, as far as their beginnings show: may a decoder start here, and what size are they?

Nothing is decoded. The first packet of a picture holds its parameter sets, if it has any, and these
stand in front of pictures at which decoding can start; a flag in the transport stream says the same
where the muxer sets it, which not every one does.

H.264: ITU-T H.264, 7.3.2.1.1 and annex E. HEVC: ITU-T H.265, 7.3.2.2. MPEG-2: ISO/IEC 13818-2,
6.2.2.1. The frame rate of HEVC lies behind much else, and is left to be counted.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from relaylib.media.bits import Bits, EndError, unescaped
from relaylib.media.codecs import H264, HEVC, MPEG1, MPEG2, Codec


class Format(NamedTuple):
    """What a parameter set tells."""

    width: int
    height: int
    rate: float
    """Pictures a second; 0 if it does not tell."""
    aspect: tuple[int, int] = (1, 1)
    """Width and height of a sample: not square in much of what was made for television."""
    chroma: int = 1
    """How colour is sampled: 0 not at all, 1 for 4:2:0, 2 for 4:2:2, 3 for 4:4:4."""
    depths: tuple[int, int] = (8, 8)
    """Bits of brightness, and of colour."""


class PictureStart(NamedTuple):
    """What the beginning of a picture shows."""

    random_access: bool
    format: Format | None


def inspect(codec: Codec, payload: bytes) -> PictureStart:
    """Look at the first bytes of a picture. No content makes this fail."""
    units = list(_units(payload))
    if codec == H264:
        return PictureStart(*_avc(units))
    if codec == HEVC:
        return PictureStart(*_hevc(units))
    if codec in (MPEG1, MPEG2):
        return PictureStart(*_mpeg2(units))
    return PictureStart(False, None)


def _units(payload: bytes) -> Iterator[bytes]:
    """Yield what follows each start code; the last one is cut where the packet ends."""
    pieces = payload.split(b"\0\0\1")
    yield from (piece for piece in pieces[1:] if piece)


_Found = tuple[bool, Format | None]

_AVC_IDR, _AVC_SPS = 5, 7
_HEVC_IRAP, _HEVC_VPS, _HEVC_SPS = range(16, 22), 32, 33
_SEQUENCE, _GROUP = 0xB3, 0xB8


def _avc(units: list[bytes]) -> _Found:
    kinds = [unit[0] & 0x1F for unit in units]
    sets = [unit for unit, kind in zip(units, kinds, strict=True) if kind == _AVC_SPS]
    return bool(sets) or _AVC_IDR in kinds, _read(_avc_format, sets, 1)


def _hevc(units: list[bytes]) -> _Found:
    kinds = [unit[0] >> 1 & 0x3F for unit in units]
    sets = [unit for unit, kind in zip(units, kinds, strict=True) if kind == _HEVC_SPS]
    start = any(kind in _HEVC_IRAP or kind in (_HEVC_VPS, _HEVC_SPS) for kind in kinds)
    return start, _read(_hevc_format, sets, 2)


def _mpeg2(units: list[bytes]) -> _Found:
    sets = [unit for unit in units if unit[0] == _SEQUENCE]
    return bool(sets) or any(unit[0] == _GROUP for unit in units), _read(_mpeg2_format, sets, 1)


def _read(read: Callable[[Bits], Format], sets: list[bytes], header: int) -> Format | None:
    """Read the first parameter set that is whole, behind its header."""
    for data in sets:
        try:
            found = read(Bits(unescaped(data[header:])))
        except EndError:
            continue
        if 0 < found.width <= _LARGEST and 0 < found.height <= _LARGEST:
            return found
    return None


_LARGEST = 16384
"""Pixels on a side: what is more is damage."""

_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_CHROMA_UNITS = ((1, 1), (2, 2), (2, 1), (1, 1))
"""By chroma format: pixels to a unit of cropping, across and down."""


def _avc_format(bits: Bits) -> Format:
    profile = bits.take(8)
    bits.take(16)
    bits.golomb()
    chroma, depths = _avc_chroma(bits) if profile in _HIGH_PROFILES else (1, (8, 8))
    bits.golomb()
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1)
        for _ in range(2):
            bits.signed()
        for _ in range(min(bits.golomb(), 255)):
            bits.signed()
    bits.golomb()
    bits.take(1)
    width, rows = 16 * (bits.golomb() + 1), 16 * (bits.golomb() + 1)
    frames = bits.take(1)
    if not frames:
        bits.take(1)
        rows *= 2
    bits.take(1)
    across, down = _CHROMA_UNITS[min(chroma, 3)]
    if bits.take(1):
        left, right, top, bottom = (bits.golomb() for _ in range(4))
        width -= (left + right) * across
        rows -= (top + bottom) * down * (2 - frames)
    aspect, rate = _avc_display(bits) if bits.take(1) else ((1, 1), 0.0)
    return Format(width, rows, rate, aspect, chroma, depths)


def _avc_chroma(bits: Bits) -> tuple[int, tuple[int, int]]:
    chroma = bits.golomb()
    if chroma == 3:
        bits.take(1)
    depths = 8 + bits.golomb(), 8 + bits.golomb()
    bits.take(1)
    if bits.take(1):
        for index in range(12 if chroma == 3 else 8):
            if bits.take(1):
                _skip_scaling(bits, 16 if index < 6 else 64)
    return chroma, depths


def _skip_scaling(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


_ASPECTS = (
    (1, 1), (1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11), (80, 33),
    (18, 11), (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1),
)  # fmt: skip
_OWN_ASPECT = 255


def _avc_display(bits: Bits) -> tuple[tuple[int, int], float]:
    """The shape of a sample, and the rate, in the video usability information (annex E)."""
    aspect = (1, 1)
    if bits.take(1):
        index = bits.take(8)
        if index == _OWN_ASPECT:
            aspect = bits.take(16), bits.take(16)
        elif index < len(_ASPECTS):
            aspect = _ASPECTS[index]
    return aspect if all(aspect) else (1, 1), _avc_rate(bits)


def _avc_rate(bits: Bits) -> float:
    if bits.take(1):
        bits.take(1)
    if bits.take(1):
        bits.take(4)
        if bits.take(1):
            bits.take(24)
    if bits.take(1):
        bits.golomb()
        bits.golomb()
    if not bits.take(1):
        return 0.0
    ticks, scale = bits.take(32), bits.take(32)
    return scale / (2 * ticks) if ticks else 0.0


def _hevc_format(bits: Bits) -> Format:
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 88 + 8)
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    if layers:
        bits.take(2 * (8 - layers))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.golomb()
    chroma = bits.golomb()
    if chroma == 3:
        bits.take(1)
    width, height = bits.golomb(), bits.golomb()
    across, down = _CHROMA_UNITS[min(chroma, 3)]
    if bits.take(1):
        left, right, top, bottom = (bits.golomb() for _ in range(4))
        width -= (left + right) * across
        height -= (top + bottom) * down
    depths = 8 + bits.golomb(), 8 + bits.golomb()
    return Format(width, height, 0.0, (1, 1), chroma, depths)


_MPEG2_RATES = (0.0, 24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60000 / 1001, 60.0)


def _mpeg2_format(bits: Bits) -> Format:
    width, height = bits.take(12), bits.take(12)
    bits.take(4)
    code = bits.take(4)
    return Format(width, height, _MPEG2_RATES[code] if code < len(_MPEG2_RATES) else 0.0)
