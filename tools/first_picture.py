"""How long a viewer waits for the first picture, live and with `--start keyframe`.

ffmpeg sends a key frame every ten seconds. VLC listens already, and asks for the stream at some
moment in between; the time is from CONECTAR until VLC has decoded a picture.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from relaylib.cli import Parser
from relaylib.errors import SetupError
from tools.lab.machine import FAILURES
from tools.lab.media import studio
from tools.lab.players import Vlc
from tools.lab.process import NeedError, Program, need, wait_for
from tools.lab.relay import Relay
from tools.lab.sockets import is_bound, unused_port
from tools.lab.viewer import Viewer
from tools.replay.program import run, whole

RATE, GOP = 25, 10
"""Frames a second, and seconds from one key frame to the next."""

STEP = 3.7
"""Seconds between two starts: no part of the GOP, so that they come everywhere in it."""

SIGN = "Opening vout display wrapper"
"""What VLC says with -vv when a first picture is decoded, and it opens what is to show it."""


def source(port: int) -> Program:
    """Send a picture that moves, endlessly."""
    need("ffmpeg")
    video = f"testsrc2=size=640x360:rate={RATE}"
    coding = ("-c:v", "libx264", "-preset", "ultrafast", "-b:v", "1M")
    gop = ("-g", str(RATE * GOP), "-keyint_min", str(RATE * GOP), "-sc_threshold", "0")
    to = f"udp://127.0.0.1:{port}?pkt_size=1316"
    words = ("-v", "error", "-re", "-f", "lavfi", "-i", video, *coding, *gop, "-f", "mpegts", to)
    return Program("ffmpeg", *words)


def wait_for_picture(relay: Relay, home: Path) -> float:
    """Start a viewer; return the seconds until its first picture."""
    port = unused_port()
    words = (f"udp://@:{port}", "--vout=dummy", "--no-audio")
    with Vlc(home, *words) as player, Viewer(relay.port) as viewer:
        wait_for(lambda: is_bound(port), "VLC to listen")
        asked = time.monotonic()
        assert viewer.command(f"CONECTAR {port}") == "OK"
        wait_for(lambda: any(SIGN in line for line in player.stderr), "a picture")
        return time.monotonic() - asked


def measure(start: str, times: int) -> list[float]:
    """Start so many viewers; return how long each waited."""
    waits = []
    with studio() as home, Relay("--start", start) as relay, source(relay.ingest_port):
        relay.wait_event("ingest_started")
        time.sleep(GOP + 1)  # until there is a key frame to start at
        for _ in range(times):
            waits.append(wait_for_picture(relay, home))
            time.sleep(STEP)
    return waits


def main(words: Sequence[str] | None = None) -> int:
    """Measure both; return the exit status."""
    parser = Parser(prog="first_picture.py", description="Time VLC's first picture.")
    parser.add_argument("--times", type=whole, metavar="N", default=5, help="starts each (5)")
    times = parser.parse_args(words).times
    for start in ("live", "keyframe"):
        try:
            waits = measure(start, times)
        except (*FAILURES, NeedError) as error:
            raise SetupError(str(error)) from None
        print(
            f"--start {start:<9} {min(waits):.2f} to {max(waits):.2f} s, "
            f"mean {mean(waits):.2f} s, of {times}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(run("first_picture.py", main))
