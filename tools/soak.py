"""Viewers, sources and reloads around one relay for ten minutes: `make soak`, SOAK=seconds.

Steady viewers watch while others come, pause, resume and vanish, sources replace one another and
the relay is reloaded. The reloads come at the start and at the end; in between the relay
runs undisturbed for most of the time, because a reload would hide a leak. Ends by itself, with
status 1 if a steady viewer lost anything, a descriptor or memory leaked, or a command got no
answer.
"""

import contextlib
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from relaylib.cli import Parser
from relaylib.errors import SetupError
from relaylib.net.descriptors import raise_descriptor_limit
from tools.attackers.attack import Worker
from tools.attackers.viewers import watching
from tools.lab.machine import FAILURES, memory, require_linux
from tools.lab.process import wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import descriptors, reload
from tools.replay.program import Interruption, positive, run, say

VIEWERS = 10
SOURCE_TIMEOUT = 2.0
"""Seconds; long enough that a machine with too much to do does not silence a source for as long."""

RELOADS = (0.02, 0.05, 0.08, 0.11, 0.14, 0.93, 0.95, 0.97)
WARM, COOL = 0.3, 0.92
"""When the relay is reloaded, and when its memory is watched, as shares of the whole."""

NOISE = 768.0
"""KiB by which a healthy relay's memory varies: CPython takes it from the kernel 256 KiB at a time,
1 MiB from 3.12 on, and keeps what a passing peak of sessions has needed."""

Samples = list[tuple[float, float]]
"""Times in seconds, and what the memory was then, in KiB."""


def rise(samples: Samples) -> float:
    """KiB by which a line through the samples rises (least squares); 0 where they are too few."""
    if len(samples) < 3:
        return 0.0
    times, sizes = zip(*samples, strict=True)
    line = statistics.linear_regression(times, sizes)
    return float(line.slope * (times[-1] - times[0]))


class Soak:
    """One relay and everybody around it. `done` counts what happened."""

    def __init__(self, seconds: float, stack: contextlib.ExitStack) -> None:
        self._enter = stack.enter_context
        self.seconds = seconds
        self.done: Counter[str] = Counter()
        self.memory: Samples = []
        self.relay = self._enter(
            RelayProcess("--source-timeout", str(SOURCE_TIMEOUT), process_group=0)
        )
        self.viewers = self._enter(watching(self.relay.port, VIEWERS))
        self._source = self._new_source()
        self.viewers.wait_started()
        self.relay.wait_event("source_locked")
        self.descriptors = descriptors(self.relay)
        self._guests, self._vanishing = self._start("guests", 1), self._start("guests", 2)
        self._began = time.monotonic()
        self._due: dict[Callable[[], None], float] = {}
        self._reloads = [share * seconds for share in RELOADS]

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def _new_source(self) -> Worker:
        self.done["sources"] += 1
        return self._start("stream", self.done["sources"] - 1)

    def _start(self, module: str, number: int) -> Worker:
        return self._enter(Worker(module, self.relay.port, number))

    def live(self, stop: Interruption) -> None:
        """Let everything happen, until the time is over or a signal comes."""
        while self.elapsed < self.seconds and stop.signum is None:
            if self._reloads and self.elapsed >= self._reloads[0]:
                del self._reloads[0]
                self.reload()
            self._every(1.0, self.watch)
            self._every(5.0, self.report)
            self._every(max(5.0, self.seconds / 60), self.kill)
            self._every(max(7.0, self.seconds / 40), self.replace_source)
            stop.wait(0.05)

    def _every(self, period: float, what: Callable[[], None]) -> None:
        if self.elapsed >= self._due.setdefault(what, period):
            self._due[what] += period
            what()

    def reload(self) -> None:
        """Reload the relay, while a command is being typed."""
        viewer = self.viewers.all[self.done["reloads"] % VIEWERS]
        viewer.send(b"ESTA")
        reload(self.relay)
        self.done["reloads"] += 1
        self.done["unanswered"] += not viewer.command("DO").startswith("OK estado=transmitiendo")

    def kill(self) -> None:
        """Kill guests, so that their sessions vanish, and let others come."""
        self._vanishing.process.kill()
        self._vanishing.wait()
        self.done["killed"] += 1
        self._vanishing = self._start("guests", 2 + self.done["killed"])

    def replace_source(self) -> None:
        """End the source; another one, which has been sending for a while, takes over."""
        standby = self._new_source()
        time.sleep(0.3)
        self.end_source()
        self._source = standby
        self.viewers.wait_started(self.done["sources"] - 1)

    def end_source(self) -> None:
        """Stop the stream and count what is missing of it."""
        epoch = self.viewers.all[0].ledger.epoch
        sent = self._source.finish()
        self.done["sent"] += sent
        self.viewers.end(epoch, sent)

    def watch(self) -> None:
        """Sample the memory while no reload disturbs it."""
        if WARM * self.seconds <= self.elapsed <= COOL * self.seconds:
            self.memory.append((time.monotonic(), memory(self.relay.pid, "RssAnon")))

    def report(self) -> None:
        say(
            f"{self.elapsed:5.0f} s  received {self.viewers.received:,}"
            f"  lost {self.viewers.faults:,}"
            f"  reloads {self.done['reloads']}  sources {self.done['sources']}"
            f"  RSS {memory(self.relay.pid) / 1024:.1f} MiB"
            f"  descriptors {descriptors(self.relay)}"
        )

    def end(self) -> None:
        """Let the guests leave, end the stream, and count what is left."""
        self._vanishing.process.kill()
        self.done.update(self._guests.finish())
        self.done["lost by guests"] = self.done.pop("lost", 0)
        self.end_source()
        self.done["unanswered"] += self.viewers.unanswered()
        with contextlib.suppress(*FAILURES):
            wait_for(lambda: descriptors(self.relay) <= self.descriptors, "descriptors to close")
        self.done["leaked"] = max(0, descriptors(self.relay) - self.descriptors)
        self.done["status"] = self.relay.stop()
        self.done["exceptions"] = len(self.relay.events("bug"))
        self.done["lost"] = self.viewers.faults

    def summary(self) -> str:
        done = self.done
        return f"""\
soak: {self.elapsed:.0f} s, {VIEWERS} steady viewers
  sent         {done["sent"]:,} datagrams by {done["sources"]} sources
  lost         {done["lost"]:,} of {self.viewers.received:,} by the steady, \
{done["lost by guests"]:,} of {done["received"]:,} by those who came and went
  guests       {done["joined"]:,}, of whom left {done["politely"]:,} politely, \
{done["closed"]:,} closed, {done["in a line"]:,} in a line, {done["reset"]:,} reset; \
and {done["killed"]:,} times a dozen were killed
  commands     {done["unanswered"]:,} not answered, \
{done["pause"]:,} pauses, {done["ask"]:,} questions
  reloads      {done["reloads"]}, exceptions {done["exceptions"]}
  memory       {rise(self.memory):+.0f} KiB in {len(self.memory)} samples \
(noise: {NOISE:.0f} KiB)
  descriptors  {self.descriptors} at the start, {done["leaked"]:+d} at the end"""

    def failed(self) -> bool:
        faults = ("lost", "lost by guests", "unanswered", "leaked", "status", "exceptions")
        return any(self.done[fault] for fault in faults) or rise(self.memory) > NOISE


def main(words: Sequence[str] | None = None) -> int:
    """Soak; return the exit status: 1 after a fault, 130 if interrupted before.

    Raises SetupError when there is no Linux or the relay ends.
    """
    parser = Parser(prog="soak.py", description="Put a relay under viewers and reloads.")
    parser.add_argument("seconds", nargs="?", type=positive, default=600.0, help="how long (600)")
    seconds = parser.parse_args(words).seconds
    require_linux()
    raise_descriptor_limit()
    try:
        with Interruption() as stop, contextlib.ExitStack() as stack:
            soak = Soak(seconds, stack)
            soak.live(stop)
            soak.end()
    except FAILURES as error:
        raise SetupError(f"waited in vain: {error}") from None
    print(soak.summary(), flush=True)
    if soak.failed():
        return 1
    return 0 if stop.signum is None else 128 + stop.signum


if __name__ == "__main__":
    sys.exit(run("soak.py", main))
