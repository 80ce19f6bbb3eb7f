"""Several real viewers at once: VLC as the player, `nc` at the controls. What one does, it alone
feels."""

import contextlib
import itertools
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.interop.test_vlc import vlc_source
from tools.lab.media import GOP, RATE, judge, make_clip, studio
from tools.lab.players import VLC_KEEPS, Vlc, assert_faultless, free_port
from tools.lab.process import PATIENCE, Program, need, wait_for
from tools.lab.relay import Relay
from tools.lab.sockets import udp_socket
from tools.lab.viewer import Viewer

CLIP_SECONDS = 6


class Netcat(Program):
    """`nc` with a person typing commands into it."""

    def __init__(self, relay: Relay) -> None:
        need("nc")
        super().__init__("nc", relay.host, str(relay.port), stdin=subprocess.PIPE)

    def command(self, text: str) -> str:
        """Type a line; return the reply that `nc` prints."""
        replies = len(self.stdout)
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()
        return wait_for(lambda: self.stdout[replies:], f"a reply to {text}")[0].rstrip("\n")

    def count(self, key: str) -> int:
        """Ask for one of the counters in ESTADO."""
        return int(self.command("ESTADO").split(f"{key}=")[1].split()[0])


class Scene(NamedTuple):
    """A relay, a clip to send, and a VLC that watches all of it at ease."""

    relay: Relay
    clip: Path
    at_ease: Vlc
    stack: ExitStack

    @property
    def room(self) -> Path:
        """Where recordings go."""
        return self.clip.parent

    def watch(self, name: str) -> tuple[Netcat, Vlc, int]:
        """Add a viewer: a VLC that records what it receives, and `nc` that subscribed it."""
        port = free_port()
        player = self.stack.enter_context(Vlc.dumping(port, self.room / f"{name}.ts"))
        controls = self.stack.enter_context(Netcat(self.relay))
        assert controls.command(f"CONECTAR {port}") == "OK"
        return controls, player, port

    def start(self) -> None:
        """Start the source and wait until the stream flows."""
        self.stack.enter_context(vlc_source("udp", self.clip, self.relay.ingest_port))
        self.relay.wait_event("ingest_started")

    def finish(self) -> None:
        """Wait for the end of the stream; the viewer at ease must have missed nothing."""
        self.relay.wait_event("ingest_silent")
        self.at_ease.stop()
        assert self.at_ease.complaints() == []
        verdict = judge(self.room / "at_ease.ts", self.clip)
        assert_faultless(verdict, CLIP_SECONDS * RATE - VLC_KEEPS)


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A scene that has not started yet."""
    with studio() as room, ExitStack() as stack:
        relay = stack.enter_context(Relay("--source-timeout", "1"))
        clip = make_clip(room, CLIP_SECONDS)
        port = free_port()
        player = stack.enter_context(Vlc.recording("udp", port, room / "at_ease.ts"))
        control = stack.enter_context(Viewer(relay.port))
        assert control.command(f"CONECTAR {port}") == "OK"
        yield Scene(relay, clip, player, stack)


def test_a_pause_is_one_hole_in_one_recording(scene: Scene) -> None:
    """A viewer that pauses gets nothing until it resumes; the others never notice."""
    controls, player, _port = scene.watch("pausing")
    plain = scene.stack.enter_context(Viewer(scene.relay.port)).subscribe()
    scene.start()
    wait_for(lambda: controls.count("enviados") > 100, "a second of the stream")
    assert controls.command("INTERRUMPIR") == plain.command("INTERRUMPIR") == "OK"
    sent = controls.count("enviados")
    while not plain.nothing_arrives(0.05):
        pass  # what was on its way
    assert plain.nothing_arrives(1.0)
    assert controls.count("enviados") == sent
    assert controls.command("CONTINUAR") == plain.command("CONTINUAR") == "OK"
    plain.receive()
    scene.finish()
    player.stop()
    assert controls.count("perdidos") == 0
    assert_one_hole(judge(scene.room / "pausing.ts", scene.clip).frames)


def assert_one_hole(frames: list[int | None]) -> None:
    """Assert that the clip's frames are there but for one hole, up to the keyframe after it."""
    known = [frame for frame in frames if frame is not None]
    holes = [(a, b) for a, b in itertools.pairwise(known) if b != a + 1]
    assert frames[0] == 0
    assert len(holes) == 1, frames
    before, after = holes[0]
    assert after - before > RATE / 2
    assert after % GOP == 0
    outside = frames[: frames.index(before) + 1] + frames[frames.index(after) :]
    assert None not in outside


def assert_unbroken_from_keyframe(frames: list[int | None]) -> None:
    """Assert that from the first keyframe on, the clip's frames are there without a hole."""
    start = frames.index(next(frame for frame in frames if frame is not None))
    first = frames[start]
    assert first is not None
    assert first % GOP == 0
    assert frames[start:] == list(range(first, first + len(frames) - start))
    assert len(frames) - start >= GOP


def test_a_killed_client_ends_its_stream_alone(scene: Scene) -> None:
    """When a client is killed, the kernel closes its connection and its stream stops."""
    controls = scene.stack.enter_context(Netcat(scene.relay))
    player = scene.stack.enter_context(udp_socket())
    port = player.getsockname()[1]
    assert controls.command(f"CONECTAR {port}") == "OK"
    scene.start()
    player.settimeout(PATIENCE)
    player.recv(65536)
    controls.stop(signal.SIGKILL)
    gone = scene.relay.wait_event("output_removed", destination=f"127.0.0.1:{port}")
    assert gone["sent"] > 0
    scene.relay.wait_event("client_gone", client=gone["client"])
    player.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while player.recv(65536):
            pass
    player.settimeout(0.5)
    with pytest.raises(TimeoutError):
        player.recv(65536)
    scene.finish()


def test_a_killed_player_hurts_nobody_and_can_come_back(scene: Scene) -> None:
    """A player killed under a living session is refused datagrams; a new one gets the stream."""
    controls, player, port = scene.watch("killed")
    scene.start()
    wait_for(lambda: controls.count("enviados") > 50, "some of the stream")
    assert controls.count("perdidos") == 0
    player.stop(signal.SIGKILL)
    wait_for(lambda: controls.count("perdidos") > 20, "the closed port to be noticed")
    sent = controls.count("enviados")
    again = scene.stack.enter_context(Vlc.dumping(port, scene.room / "again.ts"))
    wait_for(lambda: controls.count("enviados") > sent + 50, "the stream to come back")
    scene.finish()
    again.stop()
    assert_unbroken_from_keyframe(judge(scene.room / "again.ts", scene.clip).frames)
    assert scene.relay.events("client_gone") == []
