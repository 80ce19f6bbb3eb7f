"""What it costs to look into the stream: the relay's share of a core with and without it.

A clip of each rate, made by ffmpeg, is sent to a relay with one viewer. In between stands the relay
with `--no-inspect`, so that both meet the same machine. The difference includes writing the
history, which only the inspection needs where nobody goes back.
"""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from threading import Event, Thread

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from relaylib.cli import Parser
from relaylib.errors import SetupError
from tools.lab.machine import FAILURES, claim_core, cpu_seconds, require_linux
from tools.lab.process import NeedError, need
from tools.lab.relay import Relay
from tools.lab.sockets import source
from tools.lab.viewer import Viewer
from tools.replay.program import run, whole

SIZE = 7 * 188
"""Bytes of a datagram."""

SETTLE, WINDOW = 1.0, 5.0
"""Seconds before the measurement, and of it."""

LENGTH = SETTLE + WINDOW + 1
"""Seconds of a clip."""

TICK = 0.005
"""Seconds between two bursts of the source, each a few datagrams."""


def make_clip(megabits: int) -> bytes:
    """Make a clip that lasts for a measurement: noise, so that it takes all of its rate."""
    need("ffmpeg")
    video = "testsrc2=size=1280x720:rate=25,noise=alls=80:allf=t"
    rate = f"{megabits}M"
    coding = ("-c:v", "libx264", "-preset", "ultrafast", "-b:v", rate, "-maxrate", rate)
    with tempfile.NamedTemporaryFile(suffix=".ts") as file:
        words = ("-f", "lavfi", "-i", video, "-t", f"{LENGTH}", *coding, "-bufsize", rate)
        command = ("ffmpeg", "-v", "error", "-y", *words, "-f", "mpegts", file.name)
        subprocess.run(command, check=True, timeout=300)
        return file.read()


def send(sock: socket.socket, clip: bytes, ended: Event) -> None:
    """Send a clip in the time that it lasts."""
    begun, at = time.monotonic(), 0
    while not ended.wait(TICK):
        due = len(clip) * (time.monotonic() - begun) / LENGTH
        while at < min(due, len(clip)):
            sock.send(clip[at : at + SIZE])
            at += SIZE


def share(clip: bytes, core: tuple[str, ...], *options: str) -> float:
    """Return the share of a core that a relay takes for a clip."""
    with (
        Relay(*options, prefix=core) as relay,
        Viewer(relay.port) as viewer,
        source(relay.ingest_port) as sock,
    ):
        viewer.subscribe()
        ended = Event()
        sender = Thread(target=send, args=(sock, clip, ended))
        sender.start()
        try:
            time.sleep(SETTLE)
            before, then = cpu_seconds(relay.pid), time.monotonic()
            time.sleep(WINDOW)
            return (cpu_seconds(relay.pid) - before) / (time.monotonic() - then)
        finally:
            ended.set()
            sender.join()


def main(words: Sequence[str] | None = None) -> int:
    """Measure at each rate; return the exit status."""
    parser = Parser(prog="inspection.py", description="Measure what looking into a stream costs.")
    parser.add_argument("--rounds", type=whole, metavar="N", default=3, help="of each (3)")
    rounds = parser.parse_args(words).rounds
    require_linux()
    core = claim_core()
    print("  Mb/s   with, %   without, %   difference, %")
    for megabits in (5, 20, 50):
        try:
            clip = make_clip(megabits)
            pairs = [(share(clip, core), share(clip, core, "--no-inspect")) for _ in range(rounds)]
        except (*FAILURES, NeedError, subprocess.SubprocessError) as error:
            raise SetupError(str(error)) from None
        on, off = (median(each) * 100 for each in zip(*pairs, strict=True))
        between = median(a - b for a, b in pairs) * 100
        rate = len(clip) * 8e-6 / LENGTH
        print(f"{rate:6.1f} {on:9.1f} {off:12.1f} {between:15.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run("inspection.py", main))
