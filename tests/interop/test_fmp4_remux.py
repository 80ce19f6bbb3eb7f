"""Streams of real encoders and muxers, remuxed: ffmpeg finds in the MP4 what is in the stream."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from relaylib.media.mpegts import PACKET_SIZE
from relaylib.mp4.remuxer import Fragment, Init, Remuxer, Unplayable
from tools.lab.media import split_packets, studio, whole_units
from tools.lab.players import Vlc
from tools.lab.process import PATIENCE, need

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25")
SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000")
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-g", "25")
AAC = ("-c:a", "aac")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=25")
TELEVISION = (*X264, "-flags", "+ildct+ilme", "-x264-params", "open-gop=1", "-vf", "setsar=16/11")

WORDS = {
    "avc1.64000d, mp4a.40.2": (*PICTURE, *SOUND, *X264, *AAC),
    "avc1.640015, mp4a.40.2": (*PICTURE, *SOUND, *TELEVISION, *AAC, "-ac", "2"),
    "hvc1.1.6.L60.90, mp4a.40.2": (*PICTURE, *SOUND, *X265, *AAC),
    "avc1.64000d, mp3": (*PICTURE, *SOUND, *X264, "-c:a", "libmp3lame", "-ar", "44100"),
    "avc1.64000d": (*PICTURE, *X264),
    "mp4a.40.2": (*SOUND, *AAC),
}


class Packet(NamedTuple):
    """What ffprobe tells of a sample."""

    pts: float
    key: bool


def run(*words: str | Path) -> str:
    """Run a program that must have nothing to complain about."""
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def packets(path: Path, kind: str) -> list[Packet]:
    """List the samples of a kind of stream."""
    words = ("-select_streams", kind, "-show_entries", "packet=pts_time,flags", "-of", "json")
    listed = json.loads(run("ffprobe", "-v", "error", *words, path))["packets"]
    return [Packet(float(each["pts_time"]), "K" in each["flags"]) for each in listed]


def decoded(path: Path) -> list[str]:
    """Decode everything; the sums of all frames and of all samples of sound."""
    words = ("-map", "0", "-fps_mode", "passthrough", "-f", "framemd5", "-")
    rows = run("ffmpeg", "-v", "error", "-i", path, *words).splitlines()
    return sorted(row[0] + row.rpartition(",")[2] for row in rows if not row.startswith("#"))


def shape(path: Path) -> object:
    """Return codecs, sizes, rates as ffprobe sees them."""
    words = "stream=codec_name,width,height,sample_aspect_ratio,sample_rate,channels,profile"
    told = json.loads(run("ffprobe", "-v", "error", "-show_entries", words, "-of", "json", path))
    return sorted(told["streams"], key=lambda stream: str(stream["codec_name"]))


def remuxed(stream: Path) -> tuple[Path, list[Init]]:
    """Remux a file, in datagrams of 7 packets."""
    remuxer, data, step = Remuxer(), stream.read_bytes(), 7 * PACKET_SIZE
    out = [each for at in range(0, len(data), step) for each in remuxer.feed(data[at : at + step])]
    out += remuxer.finish()
    path = stream.with_suffix(".mp4")
    path.write_bytes(b"".join(each.data for each in out if not isinstance(each, Unplayable)))
    assert sum(isinstance(each, Fragment) for each in out) > 10
    return path, [each for each in out if isinstance(each, Init)]


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A place for clips."""
    need("ffmpeg", "ffprobe")
    with studio() as path:
        yield path


def assert_same(stream: Path, codecs: str) -> None:
    """Assert that what is in a stream is in its MP4, at the same times."""
    path, inits = remuxed(stream)
    kind = "video" if "vc1" in codecs else "audio"
    assert [each.mime for each in inits] == [f'{kind}/mp4; codecs="{codecs}"']
    assert decoded(path) == decoded(stream)
    assert shape(path) == shape(stream)
    moved = set[int]()
    for kind in "va":
        before, after = packets(stream, kind), packets(path, kind)
        assert [each.key for each in after] == [each.key for each in before]
        moved |= {round((b.pts - a.pts) * 1000) for a, b in zip(after, before, strict=True)}
    assert max(moved, default=0) - min(moved, default=0) <= 1  # picture and sound by the same


@pytest.mark.parametrize("codecs", WORDS)
def test_what_ffmpeg_muxes(directory: Path, codecs: str) -> None:
    """The same frames and sizes, and the same times, but for where these begin."""
    stream = directory / f"{list(WORDS).index(codecs)}.ts"
    run("ffmpeg", "-v", "error", *WORDS[codecs], "-t", "4", "-f", "mpegts", stream)
    assert_same(stream, codecs)


def test_what_vlc_muxes(directory: Path) -> None:
    """Its stamps are rounded, and now and then two pictures have one DTS."""
    source, stream = directory / "source.mkv", directory / "vlc.ts"
    codecs = next(iter(WORDS))
    run("ffmpeg", "-v", "error", *WORDS[codecs], "-t", "4", source)
    source.chmod(0o644)
    out = f"#std{{access=file,mux=ts,dst={stream}}}"
    with Vlc(directory, str(source), "--sout", out, "vlc://quit") as vlc:
        assert vlc.wait() == 0
    stream.write_bytes(b"".join(whole_units(split_packets([stream.read_bytes()]))))
    assert_same(stream, codecs)


def test_what_gstreamer_muxes(directory: Path) -> None:
    """From a source that knows no DTS its stream has none: pictures come in another order."""
    need("gst-launch-1.0")
    source, stream = directory / "parts.mkv", directory / "gst.ts"
    codecs = next(iter(WORDS))
    run("ffmpeg", "-v", "error", *WORDS[codecs], "-t", "4", source)
    words = f"""filesrc location={source} ! matroskademux name=in in.video_0 ! h264parse ! queue
        ! mpegtsmux name=out ! filesink location={stream} in.audio_0 ! aacparse ! queue ! out."""
    run("gst-launch-1.0", "-q", *words.split())
    assert_same(stream, codecs)
