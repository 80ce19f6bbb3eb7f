"""Pictures on their way into samples: units, parameter sets, where decoding can start."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.media.codecs import H264, HEVC, Codec
from relaylib.mp4.nal import MAX_UNITS, Pictures
from tests.unit.media.test_video import INTERLACED, X264, X265
from tests.unit.mp4 import mp4

IDR, SLICE, SPARE = bytes.fromhex("65888400"), bytes.fromhex("419a2200"), bytes.fromhex("019e4100")
I_SLICE = bytes.fromhex("41888080")
RECOVERY = bytes.fromhex("0605021122060184")
HEVC_PPS = bytes.fromhex("000000014401c172b46240")
HEVC_IDR, HEVC_SLICE = bytes.fromhex("2601af00"), bytes.fromhex("0201d000")


def annex_b(*units: bytes) -> bytes:
    """Put a start code before each, in both lengths."""
    return b"".join((b"\0\0\0\1", b"\0\0\1")[n % 2] + unit for n, unit in enumerate(units))


def units(sample: bytes) -> list[bytes]:
    """Read the units of a sample."""
    found = []
    while sample:
        size = int.from_bytes(sample[:4], "big")
        assert 0 < size <= len(sample) - 4
        found.append(sample[4 : 4 + size])
        sample = sample[4 + size :]
    return found


@pytest.mark.parametrize(
    ("codec", "sets", "idr", "name", "size"),
    [
        (H264, X264, IDR, "avc1.640028", (1920, 1080)),
        (H264, INTERLACED, IDR, "avc1.7a001e", (720, 576)),
        (HEVC, X265 + HEVC_PPS, HEVC_IDR, "hvc1.1.6.L120.90", (1920, 1080)),
    ],
)
def test_parameter_sets_go_to_the_sample_entry(
    codec: Codec, sets: bytes, idr: bytes, name: str, size: tuple[int, int]
) -> None:
    """What is left of a picture are its slices, each behind its length."""
    pictures = Pictures(codec, 1)
    picture = pictures.take(sets + annex_b(idr + b"\x55", idr + b"\x66") + b"\0\0\0")
    assert picture is not None
    assert picture.random_access
    assert [unit[-1] for unit in units(picture.data)] == [0x55, 0x66]
    assert pictures.track is not None
    assert (pictures.track.codec, pictures.track.width, pictures.track.height) == (name, *size)
    mp4.walk(pictures.track.entry)
    for unit in sets.split(b"\0\0\1")[1:]:
        assert unit.rstrip(b"\0") in pictures.track.entry


@pytest.mark.parametrize(
    ("codec", "given_units", "starts", "disposable"),
    [
        (H264, [SLICE], False, False),
        (H264, [SPARE], False, True),
        (H264, [RECOVERY, I_SLICE], True, False),
        (H264, [b"\x06\x05\x02\x06\x06\x80", SLICE], False, False),
        (HEVC, [HEVC_SLICE], False, False),
        (HEVC, [b"\x00\x01\xd0"], False, True),
        (HEVC, [b"\x2a\x01\xd0"], True, False),
    ],
)
def test_what_kind_of_picture_it_is(
    codec: Codec, given_units: list[bytes], starts: bool, disposable: bool
) -> None:
    """The units tell whether decoding can start, and whether others need the picture."""
    picture = Pictures(codec, 1).take(annex_b(b"\x09\xf0", *given_units))
    assert picture is not None
    assert picture[1:] == (starts, disposable)


def test_an_open_group_starts_at_an_intra_picture_behind_its_sets() -> None:
    """Some encoders repeat the sets before every picture: that alone is no place to start."""
    pictures = Pictures(H264, 1)
    for unit, starts in ((I_SLICE, True), (SLICE, False)):
        picture = pictures.take(X264 + annex_b(unit))
        assert picture is not None
        assert picture.random_access is starts
        assert units(picture.data) == [unit.rstrip(b"\0")]


def test_sets_that_change() -> None:
    """Where decoding can start they make a new track; elsewhere they stay in the stream."""
    pictures = Pictures(H264, 1)
    pictures.take(X264 + annex_b(IDR))
    first = pictures.track
    other = X264[:-2] + b"\x21\x40"
    within = pictures.take(other + annex_b(SLICE))
    assert within is not None
    assert pictures.track == first
    assert any(unit[0] & 0x1F == 8 for unit in units(within.data))
    back = pictures.take(X264 + annex_b(SLICE))  # what was in force before must be said again
    assert back is not None
    assert len(units(back.data)) == 3
    pictures.take(INTERLACED)  # sets alone are no picture; they count for the next one
    pictures.take(annex_b(IDR))
    assert pictures.track not in (first, None)


@given(st.sampled_from((H264, HEVC)), st.lists(st.binary(max_size=40), max_size=8))
def test_arbitrary_units(codec: Codec, junk: list[bytes]) -> None:
    """No content makes it fail."""
    pictures = Pictures(codec, 1)
    for start in (X264, X265, b""):
        picture = pictures.take(start + annex_b(*junk))
        if picture:
            assert units(picture.data)
    assert pictures.take(annex_b(*[IDR] * (MAX_UNITS + 1))) is None
