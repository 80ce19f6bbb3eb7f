"""An attack: a relay, a 5 Mb/s stream, viewers who must lose nothing, and one way to disturb it.

Some of the ways are people (`hostile`), some are circumstances: a log that cannot be written, no
descriptors, a clock that jumps. Those come with people too, or nothing would be logged or opened.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tools.attackers import hostile
from tools.attackers.stream import HOST, RATE
from tools.attackers.viewers import watching
from tools.lab.edge import Edge
from tools.lab.machine import compile_c, cpu_seconds, memory
from tools.lab.media import studio
from tools.lab.process import PATIENCE, ChildProcess, NeedError, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.sockets import unused_port
from tools.lab.viewer import TestViewer


class Worker(ChildProcess):
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
    `preload` is a C file whose functions come before those of the C library (ld.so(8)), `terminal`
    has the log on a terminal that nobody reads.

    `first` is done before the stream begins, which has `rate` datagrams a second; with `takeover`,
    another source follows while the attack goes on. What is lost then of its beginning counts, too.
    It comes when the first one has been `away` for so many seconds, in which the attacker is the
    source; what the relay needs to give the ingest back is measured, and not lost.
    Some attacks are for `root` alone, some are for the `web`, or for an `edge` (nginx) before it.
    """

    what: str
    by: Callable[[int, float], hostile.Counts]
    limit: str = ""
    log: str = ""
    preload: str = ""
    terminal: bool = False
    options: tuple[str, ...] = ()
    first: Callable[[int], None] = lambda _port: None
    rate: int = RATE
    takeover: bool = False
    away: float = 0.0
    root: bool = False
    web: bool = False
    edge: bool = False

    def prefix(self) -> tuple[str, ...]:
        """The words that go before the relay's own.

        Raises:
            SetupError: there is no C compiler.
        """
        shell = ("bash", "-c", f'{self.limit} exec "$@" {self.log}', "bash")
        if self.terminal:
            return (*shell, sys.executable, "-m", "tools.attackers.unread")
        if not self.preload:
            return shell
        return (*shell, "env", f"LD_PRELOAD={compile_c(self.preload, '-shared', '-fPIC')}")


@dataclass(frozen=True)
class AttackOutcome:
    """What came of it.

    `lost` are datagrams that a healthy viewer missed, `silent` the viewers whose control connection
    does not answer any more, `bugs` the exceptions that the relay logged, `status` its exit status
    after SIGTERM, `memory` its peak in KiB, `cpu` its share of a core during the attack, `logged`
    how many bytes a second it logged then. Latencies are in seconds, sorted.
    """

    counts: dict[str, int]
    sent: int
    received: int
    lost: int
    silent: int
    bugs: int
    status: int
    memory: int
    cpu: float
    logged: float
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
    "idlers": Attack("1,000 connections that want nothing, 5 newcomers a second", hostile.idlers),
    "pausing": Attack("20 connections, INTERRUMPIR and CONTINUAR", hostile.pausing),
    "posts": Attack("CONECTAR in the body of an HTTP POST, 100/s", hostile.posts),
    "descriptors": Attack(
        "64 descriptors, 400 connections twice a second", hostile.exhaust, limit="ulimit -n 64;"
    ),
    "requests": Attack("21 connections, floods of HTTP requests", hostile.requests, web=True),
    "deaf-requests": Attack(
        "50 clients that never read an HTTP response", hostile.deaf_requests, web=True
    ),
    "malformed": Attack("floods of what is no HTTP request", hostile.malformed, web=True),
    "slow-heads": Attack(
        "2,000 HTTP connections, a byte a second each", hostile.slow_heads, web=True
    ),
    "edge": Attack(
        "10 connections to an edge (nginx), floods of odd requests", hostile.odd_requests,
        web=True, edge=True,
    ),
    "stranger": Attack("100,000 datagrams/s into the locked ingest", hostile.stranger),
    "ring": Attack(
        "a --to that comes back to the ingest, in bursts", hostile.send_back,
        options=("--to", f"udp://{HOST}:{hostile.BACK}"), takeover=True,
    ),
    "squatter": Attack(
        "3 datagrams/s while the encoder restarts", hostile.squatter,
        options=("--source-timeout", "0.5"), takeover=True, away=1.2,
    ),
    "garbage": Attack("10,000 datagrams/s of every size from ever new ports", hostile.garbage),
    "outsider": Attack(
        "100,000 datagrams/s of a source not allowed, at a takeover", hostile.outsider,
        options=("--allow-source", "127.0.0.1"), takeover=True,
    ),
    "oversize": Attack(
        "20 datagrams of 1,480 bytes before 25 Mb/s", hostile.nobody,
        first=hostile.oversize, rate=5 * RATE, options=("--coalesce", "5"),
    ),
    "forgers": Attack(
        "ICMP errors forged, 40/s for each viewer", hostile.forgers, root=True
    ),
    "hangups": Attack("SIGHUP, 10/s", hostile.hangups),
    "terminal": Attack(
        "the log on a terminal nobody reads, with a storm", hostile.storm, terminal=True
    ),
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


class RelayWithoutLog(RelayProcess):
    """A relay that cannot say where it listens: its port is chosen here."""

    def __init__(self, *options: str, prefix: tuple[str, ...]) -> None:
        self.port = self.ingest_port = unused_port()
        words = (sys.executable, "relay.py", "127.0.0.1", str(self.port))
        ChildProcess.__init__(self, *prefix, *words, *options)
        try:
            wait_for(self._listens, "the relay to listen")
        except BaseException:
            self.__exit__()
            raise

    def _listens(self) -> bool:
        with contextlib.suppress(ConnectionError):
            TestViewer(self.port).close()
            return True
        return False


def attack(
    each: Attack,
    seconds: float,
    *options: str,
    viewers: int = 20,
    quiet: float = 0.0,
    core: tuple[str, ...] = (),
) -> AttackOutcome:
    """Attack a relay with these options, after `quiet` seconds to compare with.

    `core` is the prefix that puts the relay on a core of its own.

    Raises:
        FAILURES: the relay ended, or did not serve its viewers.
    """
    if each.root and os.geteuid():
        raise NeedError("needs root")
    with contextlib.ExitStack() as stack:
        start = RelayWithoutLog if each.log or each.terminal else RelayProcess
        web = ("--http", "127.0.0.1:0") if each.web else ()
        words = (*each.options, *web, *options)
        relay = stack.enter_context(start(*words, prefix=(*core, *each.prefix())))
        healthy = stack.enter_context(watching(relay.port, viewers))
        each.first(relay.port)
        epoch = int(each.first is not Attack.first)
        source = stack.enter_context(Worker("stream", relay.port, epoch, each.rate))
        healthy.wait_started(epoch)
        time.sleep(0.5 if quiet else 0.0)
        if epoch:  # what a takeover costs at this rate is no part of the attack
            healthy.begin_anew()
        healthy.latencies()
        time.sleep(quiet)
        calm = healthy.latencies()
        by = each.by.__name__
        target = relay.wait_event("http_listening")["port"] if each.web else relay.port
        edge = None
        if each.edge:
            edge = stack.enter_context(Edge(stack.enter_context(studio()), target))
            target = edge.port
        attacker = stack.enter_context(Worker("hostile", by, target, seconds, relay.pid))
        wait_for(lambda: attacker.stdout, "the attacker to begin")
        healthy.latencies()
        began, spent, lines = time.monotonic(), cpu_seconds(relay.pid), len(relay.stderr)
        late: dict[str, int] = {}
        if each.takeover:
            source.finish()
            time.sleep(each.away)
            epoch, ended = epoch + 1 + bool(each.away), time.monotonic()
            source = stack.enter_context(Worker("stream", relay.port, epoch, each.rate))
            healthy.wait_started(epoch)
            late = {"ms takeover": round((time.monotonic() - ended) * 1e3)}
        counts = attacker.finish(seconds + PATIENCE) | late
        if edge:
            counts["passed on"] = edge.asked().total()
        cpu, took = cpu_seconds(relay.pid) - spent, time.monotonic() - began
        logged = sum(map(len, relay.stderr[lines:]))
        attacked = healthy.latencies()
        sent = source.finish()
        healthy.end(epoch, sent)
        peak, silent = memory(relay.pid, "VmHWM"), healthy.unanswered()
        status = _end(relay)
        if "SIGHUPs" in counts:
            counts["reloads"] = len(relay.events("reloaded"))
        return AttackOutcome(
            counts=counts,
            sent=sent,
            received=healthy.received,
            lost=healthy.faults,
            silent=silent,
            bugs=len(relay.events("bug")),
            status=status,
            memory=peak,
            cpu=cpu / took,
            logged=logged / took,
            quiet=calm,
            attacked=attacked,
            log=relay.log,
        )


def _end(relay: RelayProcess) -> int:
    """End the relay; return its exit status, that of SIGKILL if it does not mind SIGTERM."""
    try:
        return relay.stop()
    except subprocess.TimeoutExpired:
        relay.process.kill()
        return relay.wait()
