"""Real players watch by HTTP: each frame arrives bit for bit, with a reload in the middle."""

import itertools
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tools.lab.media import RATE, judge, make_clip, studio
from tools.lab.players import VLC_KEEPS, ffmpeg, mpv, vlc
from tools.lab.process import ChildProcess, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import reload
from tools.lab.web import Watching, http_port

SECONDS = 8
"""Of video; the players come when a second of it has been sent, and begin at its beginning."""

URL = "http://127.0.0.1:{port}/live.ts?back=60"

SOURCES = {
    "rtp": ("-f", "rtp_mpegts", "rtp://127.0.0.1:{port}"),
    "udp": ("-f", "mpegts", "udp://127.0.0.1:{port}?pkt_size=1316"),
}


PLAYERS: dict[str, Callable[[str, Path], ChildProcess]] = {
    "ffmpeg": ffmpeg,
    "vlc": lambda url, to: vlc(url, to, "--play-and-exit"),
    "mpv": lambda url, to: mpv(url, to, "--untimed"),
}


@pytest.mark.parametrize("scheme", ["rtp", "udp"])
def test_players_get_every_frame(scheme: str) -> None:
    """ffmpeg, VLC, mpv and who just saves the bytes have the clip without a fault."""
    need("ffmpeg")
    with studio() as room, ExitStack() as stack:
        relay = stack.enter_context(RelayProcess("--http", "127.0.0.1:0"))
        clip = make_clip(room, SECONDS)
        *form, target = SOURCES[scheme]
        words = ("-v", "error", "-re", "-i", str(clip), "-c", "copy", *form)
        source = ChildProcess("ffmpeg", *words, target.format(port=relay.ingest_port))
        stack.enter_context(source)
        relay.wait_event("ingest_started")
        port = http_port(relay)
        plain = stack.enter_context(Watching(port, "/live.ts?back=60"))
        players = {
            name: stack.enter_context(play(URL.format(port=port), room / f"{name}.ts"))
            for name, play in PLAYERS.items()
        }
        wait_for(lambda: len(relay.events("ingest_silent")) or len(plain.data) > 300_000, "video")
        reload(relay)
        relay.wait_event("ingest_silent")
        wait_for(lambda: size(room) == size(room, 0.5), "the players to have it all")
        assert not relay.events("http_client_gone")
        relay.stop()  # the end of the connection is the end of the stream
        for player in players.values():
            player.wait()
        (room / "plain.ts").write_bytes(plain.data)
        for name in ("plain", *players):
            verdict = judge(room / f"{name}.ts", clip)
            assert verdict.decode_errors == [], name
            assert verdict.continuity_errors == [], name
            frames = verdict.frames
            assert None not in frames, name
            known = [frame for frame in frames if frame is not None]
            assert all(b == a + 1 for a, b in itertools.pairwise(known)), (name, frames)
            assert len(frames) >= SECONDS * RATE - VLC_KEEPS, name


def size(room: Path, wait: float = 0.0) -> int:
    """How much has been recorded, after a while."""
    subprocess.run(["sleep", str(wait)], check=True)
    return sum(each.stat().st_size for each in room.iterdir())
