"""A real receiver finds no fault in what fake_vlc sends, also where a loop starts again."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tools.lab.process import ChildProcess, need, wait_for
from tools.lab.sockets import is_bound, unused_port

FAKE_VLC = (sys.executable, "tools/fake_vlc.py")
SECONDS = 18
"""Of stream, at 25 pictures a second: two seams of the sample's 8 s."""


def output(*words: str | Path) -> str:
    """Run a program of ffmpeg's and return all that it says."""
    ended = subprocess.run(
        [str(word) for word in words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def times(film: Path, stream: str) -> list[float]:
    """Return the presentation times of a stream, sorted, up to where the recording was cut."""
    entries = ("-show_entries", "packet=pts_time", "-of", "default=nk=1:nw=1")
    found = output("ffprobe", "-v", "error", *entries, "-select_streams", stream, film)
    return sorted(map(float, found.split()))[:-8]


def source(protocol: str, port: int, folder: Path) -> tuple[str | Path, ...]:
    """Return ffmpeg's words to listen at a port, without probing the first datagram away."""
    if protocol == "udp":
        return ("-i", f"udp://127.0.0.1:{port}?fifo_size=50000&timeout=9000000")
    session = folder / "session.sdp"
    media = f"c=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 33\n"
    session.write_text(f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=sample\n{media}")
    return ("-protocol_whitelist", "file,rtp,udp", "-i", session)


@pytest.mark.parametrize("protocol", ["udp", "rtp"])
def test_ffmpeg_sees_one_endless_stream(tmp_path: Path, protocol: str) -> None:
    """Over two seams: no continuity error, no picture missing, repeated or undecodable."""
    need("ffmpeg", "ffprobe")
    film, port = tmp_path / "film.ts", unused_port() & ~1  # RTP asks for an even one
    copy = ("-copyts", "-map", "0", "-c", "copy", "-t", str(SECONDS), film)
    words = ("ffmpeg", "-nostdin", "-v", "warning", *source(protocol, port, tmp_path), *copy)
    with ChildProcess(*words) as ffmpeg:
        wait_for(lambda: is_bound(port), "ffmpeg to listen")
        options = ("--loop", "--speed", "4", *(["--rtp"] if protocol == "rtp" else []))
        with ChildProcess(*FAKE_VLC, "127.0.0.1", str(port), *options):
            assert ffmpeg.wait(60) == 0
    assert "".join(ffmpeg.stderr) == ""
    assert output("ffmpeg", "-nostdin", "-v", "warning", "-i", film, "-f", "null", "-") == ""
    pictures = times(film, "v")
    assert len(pictures) > (SECONDS - 2) * 25  # the clock of the stream does not begin at 0
    assert {round(b - a, 3) for a, b in pairwise(pictures)} == {0.04}
    assert {round(b - a, 2) for a, b in pairwise(times(film, "a"))} == {0.02}
