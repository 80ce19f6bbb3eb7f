"""Frames of sound in a stream of bytes: AAC in ADTS, and MP3.

A PES packet holds some frames, and may begin and end inside one; its PTS is that of the first frame
that begins in it (ISO/IEC 13818-1, 2.4.3.7). Eleven or twelve bits are too little to know a frame
by. So the first one, and each that differs from those before, counts only when another like it
follows.
"""

from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from relaylib.media.codecs import AAC, Codec
from relaylib.media.mpegts import PTS_HZ, PTS_WRAP
from relaylib.mp4 import boxes

MAX_WRONG = 64
"""Places in a PES packet at which a frame is looked for in vain, before the rest is left out."""

MAX_FRAMES = 300
"""Frames in a PES packet: six seconds of AAC, where usual are some tenths. The rest is left out."""

HEADER = 7
"""Bytes that are needed to read a header."""


class Layout(NamedTuple):
    """What all frames of a stream have in common."""

    codec: str
    rate: int
    samples: int
    """Samples in a frame."""
    track: boxes.MediaTrack


class _Frame(NamedTuple):
    layout: Layout
    head: int
    """Bytes of header that MP4 leaves out."""
    size: int


class Frames(NamedTuple):
    """Some frames, one directly behind the other."""

    stamp: int
    """PTS of the first."""
    layout: Layout
    frames: list[bytes]


class Splitter:
    """Finds the frames of one stream."""

    def __init__(self, codec: Codec, number: int) -> None:
        self._read: Callable[[bytes, int, int], _Frame | None] = _aac if codec == AAC else _mp3
        self._number = number
        self._layout: Layout | None = None
        self._rest = b""
        self._place = 0  # of the rest, in bytes since the stream began
        self._marks = deque[tuple[int, int]]()  # places where a PES packet began, and its PTS
        self._stamp: int | None = None
        self._behind = 0  # samples since

    def take(self, data: bytes, pts: int, whole: bool) -> list[Frames]:
        """Take the next PES packet's payload; `whole` is False if what follows was lost."""
        self._mark(pts)
        data = self._rest + data
        found = list[Frames]()
        at, wrong, count = 0, 0, 0
        while wrong < MAX_WRONG and (at := data.find(0xFF, at)) >= 0 and at + HEADER <= len(data):
            frame = self._read(data, at, self._number)
            if frame is None:
                at, wrong = at + 1, wrong + 1
                continue
            end = at + frame.size
            if frame.layout != self._layout:
                if end + HEADER > len(data):
                    break
                behind = self._read(data, end, self._number)
                if behind is None or behind.layout != frame.layout:
                    at, wrong = at + 1, wrong + 1
                    continue
            if end > len(data):
                break
            self._add(found, at, frame.layout, data[at + frame.head : end])
            at, count = end, count + 1
            if count == MAX_FRAMES:
                at = len(data)
                break
        else:
            at = len(data) if at < 0 or wrong >= MAX_WRONG else at
        self._keep(data, at, whole)
        return found

    def _mark(self, pts: int) -> None:
        """A PES packet begins; of two at one place the later one holds."""
        place = self._place + len(self._rest)
        if self._marks and self._marks[-1][0] == place:
            self._marks.pop()
        self._marks.append((place, pts))

    def _add(self, found: list[Frames], at: int, layout: Layout, frame: bytes) -> None:
        begins = layout != self._layout or not found
        self._layout = layout
        while self._marks and self._marks[0][0] <= self._place + at:
            self._stamp, self._behind, begins = self._marks.popleft()[1], 0, True
        if self._stamp is None:
            return
        if begins:
            passed = self._behind * PTS_HZ // layout.rate
            found.append(Frames((self._stamp + passed) % PTS_WRAP, layout, []))
        found[-1].frames.append(frame)
        self._behind += layout.samples

    def _keep(self, data: bytes, at: int, whole: bool) -> None:
        self._place += at
        self._rest = data[at:]
        if not whole:
            self._rest, self._stamp = b"", None
            self._marks.clear()


# --- AAC in ADTS (ISO/IEC 14496-3, 1.A.2.2)

_AAC_RATES = (
    96000,
    88200,
    64000,
    48000,
    44100,
    32000,
    24000,
    22050,
    16000,
    12000,
    11025,
    8000,
    7350,
)
_AAC_SAMPLES = 1024
_LOW, _SBR = 2, 5
_MPEG4_AUDIO = 0x40


def _aac(data: bytes, at: int, number: int) -> _Frame | None:
    _, one, two, three, four, five, six = data[at : at + HEADER]
    if one & 0xF6 != 0xF0 or six & 3:
        return None
    head = 7 if one & 1 else 9
    size = (three & 3) << 11 | four << 3 | five >> 5
    layout = _aac_layout(two >> 6, two >> 2 & 15, (two & 1) << 2 | three >> 6, number)
    return _Frame(layout, head, size) if layout and size > head else None


@lru_cache(maxsize=64)
def _aac_layout(profile: int, index: int, channels: int, number: int) -> Layout | None:
    if index >= len(_AAC_RATES) or not channels:
        return None
    rate, kind = _AAC_RATES[index], profile + 1
    count = 8 if channels == 7 else channels
    config = (kind << 11 | index << 7 | channels << 3).to_bytes(2, "big")
    # Half the usual rate: this is AAC with spectral band replication, which doubles it. ADTS does
    # not say so, and not every browser finds it out. A decoder told so plays the other kind, too.
    if kind == _LOW and rate <= 24000:
        bits = _SBR << 27 | index << 23 | channels << 19 | (index - 3) << 15 | kind << 10
        config, kind = bits.to_bytes(4, "big"), _SBR
    entry = boxes.audio_entry(rate, count, _MPEG4_AUDIO, config)
    return Layout(
        "AAC", rate, _AAC_SAMPLES, boxes.MediaTrack(number, rate, f"mp4a.40.{kind}", entry)
    )


# --- MP3 (ISO/IEC 11172-3, 2.4.1.3; ISO/IEC 13818-3, 2.4.2.3)

_MP3_RATES = (44100, 48000, 32000)
_MP3_KBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_KBITS_LOW = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG1_AUDIO = 0x6B
_MPEG2_AUDIO = 0x69


def _mp3(data: bytes, at: int, number: int) -> _Frame | None:
    _, one, two, three = data[at : at + 4]
    version, layer, bits, index = one >> 3 & 3, one >> 1 & 3, two >> 4, two >> 2 & 3
    if one & 0xE0 != 0xE0 or version == 1 or layer != 1 or not 0 < bits < 15 or index == 3:
        return None
    layout = _mp3_layout(version, index, three >> 6 == 3, number)
    kbits = (_MP3_KBITS if version == 3 else _MP3_KBITS_LOW)[bits]
    size = layout.samples // 8 * kbits * 1000 // layout.rate + (two >> 1 & 1)
    return _Frame(layout, 0, size)


@lru_cache(maxsize=64)
def _mp3_layout(version: int, index: int, mono: bool, number: int) -> Layout:
    halved = {3: 0, 2: 1, 0: 2}[version]
    rate, samples = _MP3_RATES[index] >> halved, 576 if halved else 1152
    kind = _MPEG2_AUDIO if halved else _MPEG1_AUDIO
    entry = boxes.audio_entry(rate, 1 if mono else 2, kind, b"")
    # RFC 6381 has "mp4a.6B" for it. Firefox takes only this; Chromium takes neither of them.
    return Layout("MP3", rate, samples, boxes.MediaTrack(number, rate, "mp3", entry))
