"""Several real viewers at once: VLC as the player, `nc` at the controls. What one does, it alone
feels."""

import itertools
import signal
import subprocess
from contextlib import ExitStack

from tools.lab.media import GOP, RATE, assert_faultless, judge, make_clip, studio
from tools.lab.players import Vlc
from tools.lab.process import ChildProcess, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.sockets import unused_port
from tools.lab.viewer import TestViewer

SECONDS = 40
"""Of video: the source is ended when all has been seen, on a busy machine some time later."""

ENOUGH = 500
"""Datagrams: five seconds of it."""


class Netcat(ChildProcess):
    """`nc` with a person typing commands into it."""

    def __init__(self, relay: RelayProcess) -> None:
        need("nc")
        super().__init__("nc", relay.host, str(relay.port), stdin=subprocess.PIPE)

    def command(self, text: str) -> str:
        """Type a line; return the reply that `nc` prints."""
        replies = len(self.stdout)
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()
        return wait_for(lambda: self.stdout[replies:], f"a reply to {text}")[0].rstrip("\n")

    def subscribe(self, port: int) -> None:
        """Ask for the stream at a player's port."""
        assert self.command(f"CONECTAR {port}") == "OK"

    def count(self, key: str) -> int:
        """Ask for one of the counters in ESTADO."""
        return int(self.command("ESTADO").split(f"{key}=")[1].split()[0])


def test_what_one_viewer_does_it_alone_feels() -> None:
    """One pauses, one's client is killed, one's player is; who watches at ease misses nothing."""
    with studio() as room, ExitStack() as stack:
        relay = stack.enter_context(RelayProcess("--source-timeout", "1"))
        clip = make_clip(room, SECONDS)

        def watch(player: Vlc, port: int) -> Netcat:
            stack.enter_context(player)
            controls = stack.enter_context(Netcat(relay))
            controls.subscribe(port)
            return controls

        at_ease, pausing, killed = unused_port(), unused_port(), unused_port()
        players = {
            at_ease: Vlc.recording("udp", at_ease, room / "at_ease.ts"),
            pausing: Vlc.dumping(pausing, room / "pausing.ts"),
            killed: Vlc.dumping(killed, room / "killed.ts"),
        }
        controls = {port: watch(player, port) for port, player in players.items()}
        plain = stack.enter_context(TestViewer(relay.port)).subscribe()
        orphan = stack.enter_context(TestViewer(relay.port))
        client = stack.enter_context(Netcat(relay))
        client.subscribe(orphan.port)
        encoder = stack.enter_context(Vlc.streaming("udp", clip, relay.ingest_port))
        wait_for(lambda: controls[pausing].count("enviados") > 100, "a second of the stream")
        assert controls[killed].count("perdidos") == 0

        client.stop(signal.SIGKILL)
        players[killed].stop(signal.SIGKILL)
        assert controls[pausing].command("INTERRUMPIR") == plain.command("INTERRUMPIR") == "OK"
        sent = controls[pausing].count("enviados")

        gone = relay.wait_event("output_removed", destination=f"127.0.0.1:{orphan.port}")
        assert gone["sent"] > 0
        relay.wait_event("client_gone", client=gone["client"])
        wait_for(lambda: controls[killed].count("perdidos") > 20, "the closed port to be noticed")
        before = controls[killed].count("enviados")
        again = stack.enter_context(Vlc.dumping(killed, room / "again.ts"))
        for viewer in (orphan, plain):
            while not viewer.nothing_arrives(0.05):
                pass  # what was on its way
            assert viewer.nothing_arrives(0.5)
        assert controls[pausing].count("enviados") == sent
        assert controls[pausing].command("CONTINUAR") == plain.command("CONTINUAR") == "OK"
        plain.receive()
        wait_for(lambda: controls[killed].count("enviados") > before + 50, "the stream to be back")

        wait_for(lambda: controls[at_ease].count("enviados") > ENOUGH, "enough to judge")
        encoder.stop()
        relay.wait_event("ingest_silent")
        for player in (players[at_ease], players[pausing], again):
            player.stop()
        assert players[at_ease].complaints() == []
        assert controls[pausing].count("perdidos") == 0
        assert len(relay.events("client_gone")) == 1
        assert_faultless(judge(room / "at_ease.ts", clip), 3 * RATE)
        assert_one_hole(judge(room / "pausing.ts", clip).frames)
        assert_unbroken_from_keyframe(judge(room / "again.ts", clip).frames)


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
    """Assert that soon, from a keyframe on, the clip's frames are there without a hole.

    Before that there may be some of a first GOP: a probe of the port, and what followed on it.
    """
    broken = [at for at, frame in enumerate(frames) if frame is None]
    start = broken[-1] + 1 if broken else 0
    first = frames[start]
    assert first is not None
    assert first % GOP == 0
    assert start <= 2 * GOP
    assert frames[start:] == list(range(first, first + len(frames) - start))
