"""Where decoding can start: the entry points of the track are the keyframes that ffprobe finds."""

import json
import math
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from relaylib.history.history import History
from relaylib.media import mpegts, rtp
from relaylib.source.batch import Batch
from relaylib.track.ring import Ring
from relaylib.track.track import Entry, Track
from relaylib.track.walk import Walk
from tools.lab.inprocess import running_loop, turn_until
from tools.lab.process import ROOT, need

SAMPLE = ROOT / "tools" / "sample" / "sample.ts"
DATAGRAM = 7 * mpegts.PACKET_SIZE
ENCODERS = {
    "h264": ("-c:v", "libx264", "-preset", "ultrafast", "-g", "12"),
    "hevc": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "keyint=12:log-level=1"),
    "mpeg2": ("-c:v", "mpeg2video", "-g", "12", "-b:v", "1M"),
}


def encode(path: Path, codec: str) -> None:
    need("ffmpeg", "ffprobe")
    sources = ("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-f", "lavfi", "-i", "sine")
    words = (*sources, "-t", "3", *ENCODERS[codec], "-c:a", "aac", "-f", "mpegts", str(path))
    subprocess.run(("ffmpeg", "-v", "error", *words), check=True, timeout=60)


def keyframes(path: Path) -> list[int]:
    """Return where in the file a keyframe's first packet is, as ffprobe sees it."""
    words = ("-select_streams", "v:0", "-show_entries", "packet=pos,flags", "-of", "json")
    shown = subprocess.run(
        ("ffprobe", "-v", "error", *words, str(path)), check=True, timeout=60, capture_output=True
    )
    packets = json.loads(shown.stdout)["packets"]
    return [int(each["pos"]) for each in packets if "K" in each["flags"]]


@dataclass
class Found:
    """What a walk has found: the track's bytes, and its entry points, each with what follows the
    byte where it began in its datagram.
    """

    data: bytes
    entries: list[tuple[Entry, bytes]]


def walked(datagrams: list[bytes]) -> Found:
    """Let a walk read datagrams."""
    history, batch = History(math.inf, 1 << 24), Batch()
    track = Track(Ring(math.inf, 1 << 24), 0.0)
    with running_loop() as loop:
        walk = Walk(loop, history, track)
        for each in datagrams:
            batch.room()[: len(each)] = each
            if not batch.add(len(each)) or each is datagrams[-1]:
                history.append(batch.finish(), loop.time())
                batch.clear()
        turn_until(loop, lambda: walk.counts.datagrams == len(datagrams), "all to be seen")
    data = b"".join(track.pieces(0, track.end))
    found = Found(data, [(each, behind(history, each.origin)) for each in track.entries])
    history.close()
    track.ring.close()
    return found


def behind(history: History, origin: int) -> bytes:
    """Return what a datagram has from a byte of the history on."""
    located = history.locate(origin)
    assert located is not None
    (number, datagram), offset = located
    return bytes(history.run(number).datagrams()[datagram])[offset:]


def places(data: bytes, datagrams: list[bytes]) -> list[int]:
    """Return where in the file the entry points are; the tables of each are checked.

    What the track has is the file, but for what some packets at the end wait for.
    """
    found = walked(datagrams)
    assert data.startswith(found.data)
    assert len(found.data) > 0.95 * len(data)
    for entry, following in found.entries:
        pids = [mpegts.pid(entry.tables[at:]) for at in range(0, len(entry.tables), 188)]
        assert pids[0] == 0
        assert pids[1:] == [4096]
        assert data.rfind(entry.tables[:188], 0, entry.at) > entry.at - len(data) // 3  # recent
        assert data[entry.at :].startswith(following[:188])
        assert following[:1] == b"G"
    return [entry.at for entry, _ in found.entries]


def cut(data: bytes, size: int = DATAGRAM) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("codec", ["sample", *ENCODERS])
def test_points_are_the_keyframes(codec: str, tmp_path: Path) -> None:
    """Bare, and in RTP some of whose packets come late: the same places, with their tables."""
    path = SAMPLE if codec == "sample" else tmp_path / "clip.ts"
    if codec != "sample":
        encode(path, codec)
    data, expected = path.read_bytes(), keyframes(path)
    assert len(expected) > 5
    assert places(data, cut(data)) == expected
    packed = [rtp.header(60_000 + n, n, 7) + each for n, each in enumerate(cut(data))]
    for at in random.Random(1).sample(range(3, len(packed) - 3), 30):
        packed[at], packed[at + 1] = packed[at + 1], packed[at]
    assert places(data, packed) == expected


def test_a_point_may_be_cut_by_the_end_of_a_datagram() -> None:
    """Datagrams that end anywhere: what follows a point is the beginning of its packet."""
    data, expected = SAMPLE.read_bytes(), keyframes(SAMPLE)
    for size in (1400, 1472):
        assert places(data, cut(data, size)) == expected
