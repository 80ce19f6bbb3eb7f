"""A long life in a few minutes: `make soak`, SOAK=seconds.

Steady viewers watch while others come, pause, resume and vanish, sources replace one another and
the relay is restarted in place. It is restarted at first and at last; in between it lives for most
of the time, because a restart would hide a leak. Ends by itself, with status 1 if a steady viewer
lost anything, a descriptor or memory leaked, or a command got no answer.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from relaylib.cli import Parser
from relaylib.errors import SetupError
from relaylib.net.descriptors import raise_descriptor_limit
from tools.attackers.audience import Audience
from tools.attackers.life import NOISE, Memory
from tools.attackers.relay import PATIENCE, BrokenError, Relay, wait_for
from tools.attackers.stream import Source
from tools.benchmarks.machine import ROOT, require_linux
from tools.replay.program import Interruption, positive, run, say

VIEWERS = 10
SOURCE_TIMEOUT = 2.0
"""Seconds; long enough that a machine with too much to do does not silence a source for as long."""

_RESTARTS = (0.02, 0.05, 0.08, 0.11, 0.14, 0.93, 0.95, 0.97)
_WARM, _COOL = 0.3, 0.92
"""When the relay is restarted, and when its memory is watched, as shares of the whole."""


class Soak:
    """One relay and everybody around it. `done` counts what happened."""

    def __init__(self, seconds: float, stack: contextlib.ExitStack) -> None:
        self.seconds = seconds
        self.done: Counter[str] = Counter()
        self.sent = 0
        self.relay = stack.enter_context(Relay("--source-timeout", str(SOURCE_TIMEOUT)))
        self.audience = stack.enter_context(Audience(self.relay.port, VIEWERS))
        self.memory = Memory(self.relay)
        self._stack = stack
        self._source = stack.enter_context(Source(self.relay.port, epoch=0))
        self.audience.wait_started()
        time.sleep(0.3)  # the standby socket opens behind the first source
        self.descriptors = self.relay.descriptors()
        self._began = time.monotonic()
        self._crowd, self._victim = self._new_crowd(1), self._new_crowd(2)
        self._due: dict[Callable[[], None], float] = {}
        self._restarts = [share * seconds for share in _RESTARTS]

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def _new_crowd(self, seed: int) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "tools.attackers.crowd", str(self.relay.port), str(seed)]
        crowd = subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, text=True, process_group=0
        )
        self._stack.callback(crowd.communicate)
        self._stack.callback(crowd.kill)
        return crowd

    # --- what happens

    def live(self, stop: Interruption) -> None:
        """Let everything happen, until the time is over or a signal comes."""
        while self.elapsed < self.seconds and stop.signum is None:
            if self._restarts and self.elapsed >= self._restarts[0]:
                del self._restarts[0]
                self.restart()
            self._every(1.0, self.watch)
            self._every(5.0, self.report)
            self._every(max(5.0, self.seconds / 60), self.kill)
            self._every(max(7.0, self.seconds / 40), self.replace_source)
            stop.wait(0.05)

    def _every(self, period: float, what: Callable[[], None]) -> None:
        if self.elapsed >= self._due.setdefault(what, period):
            self._due[what] += period
            what()

    def restart(self) -> None:
        """Restart the relay in place, while a command is being typed."""
        seat = self.audience.seats[self.done["restarts"] % VIEWERS]
        seat.control.sendall(b"ESTA")
        self.relay.reload()
        self.done["restarts"] += 1
        self.done["unanswered"] += not seat.command("DO").startswith("OK estado=transmitiendo")

    def kill(self) -> None:
        """Kill a crowd, so that its sessions vanish, and let another one come."""
        self._victim.kill()
        self._victim.wait()
        self.done["crowds killed"] += 1
        self._victim = self._new_crowd(2 + self.done["crowds killed"])

    def replace_source(self) -> None:
        """End the source; another one, which has been knocking for a while, takes over."""
        standby = self._stack.enter_context(Source(self.relay.port, self._source.epoch + 1))
        time.sleep(0.3)
        self.end_source()
        self._source = standby
        self.audience.wait_started(standby.epoch)
        self.done["sources replaced"] += 1

    def end_source(self) -> None:
        """Stop the stream and count what is missing of it."""
        sent = self._source.stop()
        self.sent += sent
        self.audience.end(self._source.epoch, sent)

    def watch(self) -> None:
        """Look at the memory while the relay lives undisturbed."""
        if _WARM * self.seconds <= self.elapsed <= _COOL * self.seconds:
            self.memory.sample()

    def report(self) -> None:
        """Say how it stands."""
        say(
            f"{self.elapsed:5.0f} s  received {self.audience.received:,}"
            f"  lost {self.audience.faults:,}"
            f"  restarts {self.done['restarts']}  sources {1 + self.done['sources replaced']}"
            f"  RSS {self.relay.memory() / 1024:.1f} MiB  descriptors {self.relay.descriptors()}"
        )

    # --- the end

    def end(self) -> None:
        """Send the guests home, end the stream, and look at what is left."""
        self._victim.kill()
        self._crowd.terminate()
        output, _ = self._crowd.communicate(timeout=PATIENCE)
        self.done.update(json.loads(output))
        self.end_source()
        self.done["unanswered"] += self.audience.silent()
        with contextlib.suppress(BrokenError):
            wait_for(lambda: self.relay.descriptors() <= self.descriptors, "descriptors to close")
        self.done["leaked"] = self.relay.descriptors() - self.descriptors
        self.done["status"] = self.relay.stop()
        self.done["exceptions"] = len(self.relay.events("bug"))
        self.done["lost by guests"] = self.done.pop("lost", 0)
        self.done["lost"] = self.audience.faults

    def summary(self) -> str:
        """What came of it, a line each."""
        done = self.done
        left = ", ".join(
            f"{done[how]:,} {how}" for how in ("politely", "closed", "in a line", "reset")
        )
        return "\n".join(
            (
                f"soak: {self.elapsed:.0f} s, {VIEWERS} steady viewers",
                f"  sent         {self.sent:,} datagrams by {1 + done['sources replaced']} sources",
                f"  lost         {done['lost']:,} of {self.audience.received:,} by the steady,"
                f" {done['lost by guests']:,} of {done['received']:,} by those who came and went",
                f"  guests       {done['joined']:,}, of whom left {left};"
                f" and {done['crowds killed']} crowds killed",
                f"  commands     {done['unanswered']:,} not answered,"
                f" {done['pause']:,} pauses, {done['ask']:,} questions",
                f"  restarts     {done['restarts']}, exceptions {done['exceptions']}",
                f"  memory       {self.memory.slope:+.0f} KiB/min over {self.memory.window:.0f} s"
                f" (noise: {NOISE:.0f} KiB)",
                f"  descriptors  {self.descriptors} at the start, {done['leaked']:+d} at the end",
            )
        )

    def failed(self) -> bool:
        """Whether something happened that must not."""
        faults = ("lost", "lost by guests", "unanswered", "leaked", "status", "exceptions")
        return any(self.done[fault] for fault in faults) or self.memory.leaking


def main(words: Sequence[str] | None = None) -> int:
    """Soak; return the exit status: 1 after a fault, 130 if interrupted before.

    Raises SetupError when there is no Linux or the relay ends.
    """
    parser = Parser(prog="soak.py", description="Live a long life in a few minutes.")
    parser.add_argument("seconds", nargs="?", type=positive, default=600.0, help="how long (600)")
    seconds = parser.parse_args(words).seconds
    require_linux()
    raise_descriptor_limit()
    try:
        with Interruption() as stop, contextlib.ExitStack() as stack:
            soak = Soak(seconds, stack)
            soak.live(stop)
            soak.end()
    except BrokenError as error:
        raise SetupError(f"waited in vain: {error}") from None
    print(soak.summary(), flush=True)
    if soak.failed():
        return 1
    return 0 if stop.signum is None else 128 + stop.signum


if __name__ == "__main__":
    sys.exit(run("soak.py", main))
