"""Where decoding can start: the points in the history are the keyframes that ffprobe finds."""

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relaylib.media import mpegts, rtp
from relaylib.stream.batch import Batch
from relaylib.stream.history import AccessPoint, History
from relaylib.stream.inspection import Inspection
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


def inspected(datagrams: list[bytes]) -> Iterator[tuple[AccessPoint, bytes]]:
    """Yield each point that the inspection finds, and what follows it in its datagram."""
    history, batch = History(float("inf"), 1 << 24), Batch()
    with running_loop() as loop:
        inspection = Inspection(loop, history)
        for each in datagrams:
            batch.room()[: len(each)] = each
            if not batch.add(len(each)) or each is datagrams[-1]:
                history.append(batch.finish(), loop.time())
                batch.clear()
        turn_until(loop, lambda: inspection.counts.datagrams == len(datagrams), "all to be seen")
    for point in history.points:
        yield point, bytes(history.run(point.number).datagrams()[point.datagram])[point.offset :]
    history.close()


def places(data: bytes, datagrams: list[bytes]) -> list[int]:
    """Return where in the file the points are; the tables of each are checked."""
    found = []
    for point, following in inspected(datagrams):
        pids = [mpegts.pid(point.tables[at:]) for at in range(0, len(point.tables), 188)]
        assert pids[0] == 0
        assert pids[1:] == [4096]
        at = data.find(following[:188])
        assert data.find(following[:188], at + 1) < 0
        assert data.rfind(point.tables[:188], 0, at) > at - len(data) // 3  # a recent one
        found.append(at)
    return found


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
    assert sorted(places(data, packed)) == expected


def test_a_point_may_be_cut_by_the_end_of_a_datagram() -> None:
    """Datagrams that end anywhere: what follows a point is the beginning of its packet."""
    data, expected = SAMPLE.read_bytes(), keyframes(SAMPLE)
    found = list(inspected(cut(data, 1400)))
    assert len(found) == len(expected)
    for (_, following), at in zip(found, expected, strict=True):
        assert data[at:].startswith(following[:188])
        assert following[:1] == b"G"
