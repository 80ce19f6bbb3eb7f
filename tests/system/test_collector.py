"""The search for cycles is never long and finds nothing, and readers are a few numbers."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relaylib.net.garbage import YOUNG
from tools.attackers.attack import Worker
from tools.lab.altered import Altered
from tools.lab.media import make_clip
from tools.lab.process import ChildProcess, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.viewer import TestViewer
from tools.lab.web import HttpViewer, Watching, http_port, request

READERS = 128
"""As many as one address may have."""

IN_TURN = 7
"""Segments that each of them asks for, one behind the other."""

OTHERS = 400
"""Connections that wait: enough objects for many searches."""

KIB_A_READER = 32
"""What a connection may cost: a head, the buffers of h11, and no part of a segment."""

LOOK = """
import collections, gc, json
from relaylib.net.loop import Loop

seen = {{"searches": [0, 0, 0], "objects": 0, "seconds": 0.0}}

def watch(phase, info):
    if phase == "start":
        seen["searches"][info["generation"]] += 1
        seen["objects"] = max(seen["objects"], gc.get_count()[0])
        seen["begun"] = Loop.time()
    else:
        seen["seconds"] = max(seen["seconds"], Loop.time() - seen["begun"])

def run(self, original=Loop.run):
    gc.collect()
    gc.callbacks.append(watch)
    gc.set_debug({debug})
    stop, self.stop = self.stop, lambda: (settle(), stop())
    original(self)

def settle():
    "Tell what was found, before the cycles that an end may make."
    gc.callbacks.clear()
    gc.collect()
    kinds = collections.Counter(type(each).__qualname__ for each in gc.garbage)
    gc.set_debug(0)
    print("seen", json.dumps(seen | {{"cycles": kinds}}), flush=True)

Loop.run = run
"""
"""What a relay is made to do besides: to count searches, or to keep what they find (`debug`)."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stream of 20 Mb/s."""
    need("ffmpeg")
    folder = tmp_path_factory.mktemp("clip")
    clip, padded = make_clip(folder, 4), folder / "padded.ts"
    words = ("-i", clip, "-c", "copy", "-muxrate", "20M", "-f", "mpegts", padded)
    subprocess.run(["ffmpeg", "-v", "error", *words], check=True, timeout=60)
    return padded


@contextlib.contextmanager
def observed(
    folder: Path, clip: Path, debug: str, segments: int
) -> Iterator[tuple[RelayProcess, int]]:
    """A relay that tells what its searches were, with a stream of some segments; its HTTP port."""
    prefix = Altered(folder, LOOK.format(debug=debug)).prefix
    options = ("--http", "127.0.0.1:0", "--timeshift", "20")
    with RelayProcess(*options, prefix=prefix) as relay:
        words = ("tools/fake_vlc.py", "--loop", "--rtp", "127.0.0.1", relay.ingest_port, clip)
        with ChildProcess(sys.executable, *map(str, words)):
            port = http_port(relay)
            wait_for(lambda: len(listed(port)) >= segments, "segments")
            yield relay, port


def seen(relay: RelayProcess) -> dict[str, Any]:
    """End it; return what it tells."""
    relay.stop()
    [line] = [each for each in relay.stdout if each.startswith("seen ")]
    told: dict[str, Any] = json.loads(line.removeprefix("seen "))
    return told


def listed(port: int) -> list[str]:
    """Return the segments that the playlist lists."""
    with HttpViewer(port) as browser:
        text = browser.get("/live.m3u8").body.decode()
    return [f"/{line}" for line in text.split("\n") if line.startswith("hls/")]


@pytest.mark.long
def test_slow_readers_cost_numbers(tmp_path: Path, clip: Path) -> None:
    """128 who ask for seven segments each and hardly read take no memory, and no long search."""
    with observed(tmp_path, clip, "0", IN_TURN) as (relay, port), contextlib.ExitStack() as stack:
        asked = b"".join(request(each) for each in listed(port)[:IN_TURN])
        before = relay.rss()
        readers = [
            stack.enter_context(HttpViewer(port, receive_buffer=4096)) for _ in range(READERS)
        ]
        for reader in readers:
            reader.send(asked)
        for _ in range(OTHERS):
            assert stack.enter_context(HttpViewer(port)).get().status
        for reader in readers:
            assert reader.head()[0] == 200
        newest = listed(port)[-1]
        wait_for(lambda: newest not in listed(port)[-4:], "some more of the stream")
        for reader in readers:
            reader.read(len(reader.take()) + 1)
        grown = relay.rss() - before
        told = seen(relay)
    print(f"{grown} KiB more, searches {told['searches']}, at most {told['seconds'] * 1e3:.2f} ms")
    assert grown < (READERS + OTHERS) * KIB_A_READER
    assert told["searches"][0] > 10
    assert told["searches"][1:] == [0, 0]
    assert told["objects"] <= 2 * YOUNG


HOSTILE = ("requests", "malformed", "deaf_requests", "slow_heads")
HOSTILE_TO_VIEWERS = ("storm", "resets", "moving", "pausing", "nonsense")

STREAMS = ("/live.mp4", "/live.mp4?back=5", "/live.ts", "/live.ts?back=8", "/events")
OTHER_TARGETS = (
    "/live.mp4?back=x", "/status.json", "/metrics", "/", "/healthz", "/hls/x/1.ts", "/nothing",
)  # fmt: skip


@pytest.mark.long
def test_the_relay_makes_no_cycles(tmp_path: Path, clip: Path) -> None:
    """Whatever viewers and attackers do, all that they needed is freed when they are gone."""
    with observed(tmp_path, clip, "gc.DEBUG_SAVEALL", 2) as (relay, port):
        for name in (*HOSTILE, *HOSTILE_TO_VIEWERS):
            target = port if name in HOSTILE else relay.port
            with Worker("hostile", name, target, 1.0, relay.pid) as worker:
                worker.finish()
        for path in (*STREAMS, *OTHER_TARGETS) * 3:
            with HttpViewer(port) as browser:
                browser.send(request(path))
                browser.head()
        for path in STREAMS:
            with Watching(port, path) as watching:
                wait_for(partial(len, watching.data), path)
        with TestViewer(relay.port) as viewer:
            viewer.subscribe()
            for line in ("INTERRUMPIR", "RETROCEDER 2", "RETROCEDER x", "ESTADO", "CONECTAR 80"):
                viewer.command(line)
        told = seen(relay)
    assert told["cycles"] == {}
