"""Real players watch HLS: what they record is the clip, frame for frame, wherever they began."""

import contextlib
import itertools
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tools.lab.media import RATE, judge, make_clip, studio
from tools.lab.players import ffmpeg, mpv, vlc
from tools.lab.process import ChildProcess, LabError, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import reload
from tools.lab.web import HttpViewer, http_port

FAKE_VLC = (sys.executable, "tools/fake_vlc.py")

SECONDS = 12
"""Of video."""

ENOUGH = 5 * RATE
"""Frames that each player has to record."""

TABLES = ("PID 0x0:", "PID 0x1000:")
"""Who just joins segments has their tables twice where one ends and the next begins: as duplicates,
which are no error (ISO/IEC 13818-1, 2.4.3.3)."""


def gstreamer(url: str, to: Path) -> ChildProcess:
    """Fetch and join segments with GStreamer."""
    need("gst-launch-1.0")
    words = f"souphttpsrc location={url} ! hlsdemux ! filesink buffer-mode=2 location={to}"
    return ChildProcess("gst-launch-1.0", "-q", *words.split())


PLAYERS: dict[str, Callable[[str, Path], ChildProcess]] = {
    "ffmpeg": lambda url, to: ffmpeg(url, to, "-t", "6"),
    "vlc": vlc,
    "mpv": mpv,
    "gstreamer": gstreamer,
}


def listed(port: int) -> list[str]:
    """Return the segments that the playlist lists."""
    with HttpViewer(port) as browser:
        answer = browser.get("/live.m3u8")
    return [line for line in answer.body.decode().split("\n") if line.startswith("hls/")]


@pytest.mark.parametrize("name", list(PLAYERS))
def test_players_get_every_frame(name: str) -> None:
    """Each records the clip without a fault, with a reload of the relay in the middle."""
    need("ffmpeg")
    with studio() as room, ExitStack() as stack:
        relay = stack.enter_context(RelayProcess("--http", "127.0.0.1:0"))
        clip, to, port = make_clip(room, SECONDS), room / f"{name}.ts", http_port(relay)
        stack.enter_context(ChildProcess(*FAKE_VLC, "127.0.0.1", str(relay.ingest_port), str(clip)))
        wait_for(lambda: len(listed(port)) >= 3, "some segments")
        url = f"http://127.0.0.1:{port}/live.m3u8"
        player = stack.enter_context(PLAYERS[name](url, to))
        wait_for(lambda: size(to) > 0, "the player to record")
        reload(relay)
        relay.wait_event("ingest_silent")
        last = listed(port)[-1]
        wait_for(lambda: listed(port)[-1] == last and settled(to), "the player to have it all")
        player.stop(signal.SIGINT)
        verdict = judge(to, clip)
        assert verdict.decode_errors == []
        assert [e for e in verdict.continuity_errors if not any(t in e for t in TABLES)] == []
        frames = [frame for frame in verdict.frames if frame is not None]
        assert len(frames) == len(verdict.frames) >= ENOUGH
        assert all(after == before + 1 for before, after in itertools.pairwise(frames))
        assert not relay.events("bug")


def size(path: Path) -> int:
    """How much has been recorded."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def settled(path: Path) -> bool:
    """Tell whether nothing more is recorded for as long as two target durations."""
    before = size(path)
    with contextlib.suppress(LabError):
        wait_for(lambda: size(path) != before, "more", timeout=4.0)
    return size(path) == before
