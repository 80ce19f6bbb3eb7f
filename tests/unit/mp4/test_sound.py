"""Frames of sound found in bytes, however these are cut into PES packets."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.media.codecs import AAC, MPEG_AUDIO, Codec
from relaylib.media.mpegts import PTS_WRAP
from relaylib.mp4.sound import Frames, Splitter


def adts(content: bytes, index: int = 3, channels: int = 2) -> bytes:
    """Build a frame of AAC."""
    size = 7 + len(content)
    bits = 0xFFF1 << 40 | 1 << 38 | index << 34 | channels << 30 | size << 13 | 0x7FF << 2
    return bits.to_bytes(7, "big") + content


def mp3(content: bytes) -> bytes:
    """Build a frame of MP3: 48 kHz, 64 kbit/s, 192 bytes."""
    return bytes.fromhex("fffb5400") + content.ljust(188, b"\x2a")


CONTENTS = [bytes((n,)) * (n + 9) for n in range(1, 30)]
STREAMS = {
    AAC: ([adts(each) for each in CONTENTS], CONTENTS, 1920),
    MPEG_AUDIO: ([mp3(each) for each in CONTENTS], [mp3(each) for each in CONTENTS], 2160),
}


def flat(found: list[Frames], ticks: int) -> list[tuple[int, bytes]]:
    """Give each frame its own time."""
    return [((f.stamp + n * ticks) % PTS_WRAP, d) for f in found for n, d in enumerate(f.frames)]


@given(st.sampled_from((AAC, MPEG_AUDIO)), st.sets(st.integers(1, 700)), st.integers(0, 2000))
def test_any_cut_gives_the_same_frames(codec: Codec, cuts: set[int], before: int) -> None:
    """Each frame comes once, at its time, the times beginning shortly before the stamps wrap."""
    frames, contents, ticks = STREAMS[codec]
    data, start = b"".join(frames), PTS_WRAP - before
    begins = [sum(map(len, frames[:n])) for n in range(len(frames))]
    splitter, found = Splitter(codec, 2), list[Frames]()
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for at, end in pairwise(edges):
        first = next((n for n, begin in enumerate(begins) if begin >= at), len(frames))
        found += splitter.take(data[at:end], (start + first * ticks) % PTS_WRAP, whole=True)
    expected = [((start + n * ticks) % PTS_WRAP, each) for n, each in enumerate(contents)]
    assert flat(found, ticks) == expected


def test_a_loss_costs_only_what_it_touches() -> None:
    """Frames before it are whole, and those after it begin with the next PES packet."""
    frames, contents, _ = STREAMS[AAC]
    splitter = Splitter(AAC, 2)
    found = splitter.take(b"".join(frames[:4])[:-5], 0, whole=False)
    found += splitter.take(b"".join(frames[6:9]), 9000, whole=True)
    assert [data for each in found for data in each.frames] == contents[:3] + contents[6:9]
    assert [each.stamp for each in found] == [0, 9000]


@pytest.mark.parametrize(
    ("index", "channels", "codec"),
    [(3, 2, "mp4a.40.2"), (4, 1, "mp4a.40.2"), (6, 2, "mp4a.40.5"), (3, 7, "mp4a.40.2")],
)
def test_the_header_tells_the_track(index: int, channels: int, codec: str) -> None:
    """At half the usual rate it is taken for HE-AAC."""
    found = Splitter(AAC, 2).take(adts(b"x" * 20, index, channels) * 3, 0, whole=True)
    assert [each.layout.track.codec for each in found] == [codec]


def test_a_change_is_believed_when_it_lasts() -> None:
    """One header that differs is damage; two in a row are another format."""
    splitter = Splitter(AAC, 2)
    a, b = adts(b"a" * 30), adts(b"b" * 30, index=4)
    assert len(splitter.take(a * 3 + b + a * 3, 0, whole=True)) == 1
    assert [each.layout.rate for each in splitter.take(a + b + b, 0, whole=True)] == [48000, 44100]


@given(st.sampled_from((AAC, MPEG_AUDIO)), st.lists(st.binary(max_size=60)), st.booleans())
def test_arbitrary_bytes(codec: Codec, pieces: list[bytes], whole: bool) -> None:
    """No content makes it fail, and none is kept for long."""
    splitter = Splitter(codec, 2)
    for piece in pieces:
        splitter.take(b"\xff\xf1" + piece, 0, whole)
        assert len(splitter._rest) < 9000
