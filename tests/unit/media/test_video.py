"""Size, rate and random access from the beginnings of pictures that real encoders made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.media import codecs
from relaylib.media.codecs import H264, HEVC, MPEG2, Codec
from relaylib.media.video import Format, PictureStart, inspect

X264 = bytes.fromhex(
    "0000000167640028acd940780227e5c04400000fa40003a9803c60c6580000000168ebe3cb22c0"
)
INTERLACED = bytes.fromhex(  # 4:2:2, two fields, scaling lists
    "00000001677a001ebcd940b424d8088000000300800000190f8a14cb0000000168fba3cb3002c0"
)
X265 = bytes.fromhex(
    "0000000140010c01ffff01600000030090000003000003007895980900000001420101016000000300900000030000"
    "030078a003c08010e596566924caf01680800001f480003a980400000001"
)
MPEG2_START = bytes.fromhex("000001b378043834ffffe018000001b5144a00010000000001b800080040")
REAL = [(H264, X264), (H264, INTERLACED), (HEVC, X265), (MPEG2, MPEG2_START)]


@pytest.mark.parametrize(
    ("codec", "start", "width", "height", "rate"),
    [
        (H264, X264, 1920, 1080, 30000 / 1001),
        (H264, INTERLACED, 720, 576, 25),
        (HEVC, X265, 1920, 1080, 0),
        (MPEG2, MPEG2_START, 1920, 1080, 30000 / 1001),
    ],
)
def test_parameter_sets_tell(
    codec: Codec, start: bytes, width: int, height: int, rate: float
) -> None:
    """Size without what is cropped, and pictures a second; here decoding can start."""
    found = inspect(codec, start)
    assert found.random_access
    assert found.format is not None
    assert found.format[:2] == (width, height)
    assert found.format.rate == pytest.approx(rate)


@pytest.mark.parametrize(("codec", "start"), REAL)
def test_a_parameter_set_cut_short_says_less_but_nothing_wrong(codec: Codec, start: bytes) -> None:
    """The end of the packet may come anywhere."""
    whole = inspect(codec, start).format
    assert whole is not None
    for size in range(len(start)):
        found = inspect(codec, start[:size]).format
        assert found is None or found[:2] == whole[:2]


@pytest.mark.parametrize(
    ("codec", "unit", "expected"),
    [
        (H264, "65", True),
        (H264, "41", False),
        (H264, "0910", False),
        (HEVC, "2601", True),
        (HEVC, "0201", False),
        (MPEG2, "b8", True),
        (MPEG2, "00", False),
        (codecs.codec(0x0F, b""), "67", False),
    ],
)
def test_pictures_at_which_decoding_starts(codec: Codec, unit: str, expected: bool) -> None:
    """Without parameter sets the kind of the picture tells."""
    assert inspect(codec, b"\0\0\0\1" + bytes.fromhex(unit) + b"x" * 9) == PictureStart(
        expected, None
    )


@given(st.sampled_from(REAL), st.binary(max_size=60), st.integers(0, 60))
def test_arbitrary_bytes(real: tuple[Codec, bytes], junk: bytes, at: int) -> None:
    """Whatever is in the packet, alone or in a parameter set: a sane size, or none."""
    codec, start = real
    for payload in (junk, start[:at] + junk, start[:at] + junk + start[at:]):
        found = inspect(codec, payload).format
        if found is not None:
            assert isinstance(found, Format)
            assert 0 < found.width <= 16384
            assert 0 < found.height <= 16384
