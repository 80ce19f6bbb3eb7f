"""An attack: a relay, a 5 Mb/s stream, viewers who must lose nothing, and one way to spoil it.

Some of the ways are people (`hostile`), some are circumstances: a log that cannot be written, no
descriptors, a clock that jumps. Those come with people too, or nothing would be logged or opened.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tools.attackers import hostile
from tools.attackers.viewers import watching
from tools.lab.machine import compile_c, memory
from tools.lab.process import PATIENCE, Program, wait_for
from tools.lab.relay import Relay
from tools.lab.sockets import unused_port
from tools.lab.viewer import Viewer


class Worker(Program):
    """A module of this room as a process; a Ctrl-C at the terminal is not meant for it."""

    def __init__(self, module: str, *words: object) -> None:
        command = (sys.executable, "-m", f"tools.attackers.{module}", *map(str, words))
        super().__init__(*command, stdin=subprocess.PIPE, process_group=0)

    def finish(self, timeout: float = PATIENCE) -> Any:
        """End its standard input, wait for it, and return what it printed, read as JSON."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.wait(timeout)
        return json.loads(self.stdout[-1])


@dataclass(frozen=True)
class Attack:
    """What is tried: `what` in words, by whom, and what is odd about the relay's surroundings.

    `limit` and `log` are words for bash: what to do before the relay starts, where its log goes.
    `preload` is a C file whose functions come before those of the C library (ld.so(8)).
    """

    what: str
    by: Callable[[int, float], hostile.Counts]
    limit: str = ""
    log: str = ""
    preload: str = ""

    def prefix(self) -> tuple[str, ...]:
        """The words that go before the relay's own.

        Raises:
            SetupError: there is no C compiler.
        """
        shell = ("bash", "-c", f'{self.limit} exec "$@" {self.log}', "bash")
        if not self.preload:
            return shell
        return (*shell, "env", f"LD_PRELOAD={compile_c(self.preload, '-shared', '-fPIC')}")


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    `lost` are datagrams that a healthy viewer missed, `silent` the viewers whose control connection
    does not answer any more, `bugs` the exceptions that the relay logged, `status` its exit status
    after SIGTERM, `memory` its peak in KiB. Latencies are in seconds, sorted.
    """

    counts: dict[str, int]
    sent: int
    received: int
    lost: int
    silent: int
    bugs: int
    status: int
    memory: int
    quiet: list[float]
    attacked: list[float]
    log: list[dict[str, Any]]


ATTACKS = {
    "slowloris": Attack("1,000 connections, a byte a second each", hostile.slowloris),
    "storm": Attack("connect and leave, 1,000/s", hostile.storm),
    "resets": Attack("subscribe and reset in the middle of a line, 500/s", hostile.resets),
    "commands": Attack("20 connections, commands as fast as answered", hostile.commands),
    "nonsense": Attack(
        "20 connections, blank lines, unknown words, Telnet bytes", hostile.nonsense
    ),
    "moving": Attack("10 connections, CONECTAR to and fro", hostile.moving),
    "deaf": Attack("50 clients that never read a reply", hostile.deaf),
    "endless": Attack("50 clients whose lines never end, 1,000 x 4 KiB a second", hostile.endless),
    "descriptors": Attack(
        "64 descriptors, 400 connections twice a second", hostile.exhaust, limit="ulimit -n 64;"
    ),
    "stranger": Attack("100,000 datagrams/s into the locked ingest", hostile.stranger),
    "garbage": Attack("10,000 datagrams/s of every size from ever new ports", hostile.garbage),
    "full-disk": Attack("the log on a full disk, with a storm", hostile.storm, log="2>/dev/full"),
    "stuck-log": Attack(
        "the log in a pipe nobody reads, with a storm", hostile.storm,
        log="2> >(exec tail -f /dev/null -s 0.1 --pid=$$ 2>&1)",
    ),
    "closed-log": Attack("the log in a closed pipe, with a storm", hostile.storm, log="2> >(true)"),
    "clock": Attack(
        "the wall clock jumps 2 days, with a storm", hostile.storm, preload="attackers/clock.c"
    ),
}  # fmt: skip


class MuteRelay(Relay):
    """A relay that cannot say where it listens: its port is chosen here."""

    def __init__(self, *options: str, prefix: tuple[str, ...]) -> None:
        self.port = self.ingest_port = unused_port()
        words = (sys.executable, "relay.py", "127.0.0.1", str(self.port))
        Program.__init__(self, *prefix, *words, *options)
        try:
            wait_for(self._listens, "the relay to listen")
        except BaseException:
            self.__exit__()
            raise

    def _listens(self) -> bool:
        with contextlib.suppress(ConnectionError):
            Viewer(self.port).close()
            return True
        return False


def attack(
    each: Attack,
    seconds: float,
    *options: str,
    viewers: int = 20,
    quiet: float = 0.0,
    core: tuple[str, ...] = (),
) -> Outcome:
    """Attack a relay with these options, after `quiet` seconds to compare with.

    `core` is the prefix that puts the relay on a core of its own.

    Raises:
        FAILURES: the relay ended, or did not serve its viewers.
    """
    with contextlib.ExitStack() as stack:
        start = MuteRelay if each.log else Relay
        relay = stack.enter_context(start(*options, prefix=(*core, *each.prefix())))
        watchers = stack.enter_context(watching(relay.port, viewers))
        source = stack.enter_context(Worker("stream", relay.port, 0))
        watchers.wait_started()
        time.sleep(0.5 if quiet else 0.0)
        watchers.latencies()
        time.sleep(quiet)
        calm = watchers.latencies()
        by = each.by.__name__
        attacker = stack.enter_context(Worker("hostile", by, relay.port, seconds))
        wait_for(lambda: attacker.stdout, "the attacker to begin")
        watchers.latencies()
        counts = attacker.finish(seconds + PATIENCE)
        attacked = watchers.latencies()
        sent = source.finish()
        watchers.end(0, sent)
        peak, silent = memory(relay.pid, "VmHWM"), watchers.unanswered()
        status = relay.stop()
        return Outcome(
            counts=counts,
            sent=sent,
            received=watchers.received,
            lost=watchers.faults,
            silent=silent,
            bugs=len(relay.events("bug")),
            status=status,
            memory=peak,
            quiet=calm,
            attacked=attacked,
            log=relay.log,
        )
