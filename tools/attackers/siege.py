"""A siege: a relay, a 5 Mb/s stream, viewers who must lose nothing, and one way to spoil it.

Some of the ways are people (`assaults`), some are circumstances: a log that cannot be written, no
descriptors, a clock that jumps. Those come with people too, or nothing would be logged or opened.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.attackers.audience import Audience
from tools.attackers.relay import HOST, PATIENCE, BrokenError, Relay
from tools.attackers.stream import Source
from tools.benchmarks.machine import ROOT, on_core

_WARM_UP = 0.5
_CLOCK = Path(__file__).with_name("clock.c")


Fault = Callable[[], contextlib.AbstractContextManager[dict[str, Any]]]


def _no_fault() -> contextlib.AbstractContextManager[dict[str, Any]]:
    return contextlib.nullcontext({})


@dataclass(frozen=True)
class Siege:
    """What is tried: `what` in words, the name of an assault, and how the relay is started.

    `fault` is a context whose value are more arguments for `Relay`; `options` are words of its
    command line.
    """

    what: str
    assault: str
    prefix: tuple[str, ...] = ()
    fault: Fault = _no_fault
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    `lost` are datagrams that a healthy viewer missed, `silent` the viewers whose control connection
    does not answer any more, `bugs` the exceptions that the relay logged, `status` its exit status
    after Ctrl-C, `memory` its peak in KiB. Latencies are in seconds, sorted.
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


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the sorted values does not exceed; NaN if there are none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


@contextlib.contextmanager
def full_disk() -> Iterator[dict[str, Any]]:
    """Every write to the log fails with ENOSPC (full(4))."""
    with open("/dev/full", "wb") as device:
        yield {"stderr": device.fileno()}


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        for fd in (reader, writer):
            with contextlib.suppress(OSError):
                os.close(fd)


@contextlib.contextmanager
def stuck_reader() -> Iterator[dict[str, Any]]:
    """The log goes to a pipe that nobody empties: soon every write would block."""
    with _pipe() as (_, writer):
        yield {"stderr": writer}


@contextlib.contextmanager
def closed_pipe() -> Iterator[dict[str, Any]]:
    """The log goes to a pipe whose reader has gone: every write fails with EPIPE."""
    with _pipe() as (reader, writer):
        os.close(reader)
        yield {"stderr": writer}


@contextlib.contextmanager
def jumping_clock() -> Iterator[dict[str, Any]]:
    """The wall clock jumps two days to and fro whenever it is looked at.

    Raises:
        BrokenError: there is no C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise BrokenError("a C compiler; on Debian: sudo apt-get install -y gcc libc6-dev")
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, _CLOCK], check=True)
        yield {"env": {"LD_PRELOAD": str(library)}}


SIEGES = {
    "slowloris": Siege("1,000 connections, a byte a second each", "slowloris"),
    "storm": Siege("connect and leave, 1,000/s", "storm"),
    "resets": Siege("subscribe and reset in the middle of a line, 500/s", "resets"),
    "commands": Siege("20 connections, commands as fast as answered", "commands"),
    "nonsense": Siege("20 connections, blank lines, unknown words, Telnet bytes", "nonsense"),
    "moving": Siege("10 connections, CONECTAR to and fro", "moving"),
    "deaf": Siege("50 clients that never read a reply", "deaf"),
    "endless": Siege("50 clients whose lines never end, 1,000 x 4 KiB a second", "endless"),
    "descriptors": Siege(
        "64 descriptors, 400 connections twice a second", "crowd", ("prlimit", "--nofile=64")
    ),
    "stranger": Siege("100,000 datagrams/s into the locked ingest", "stranger"),
    "uninvited": Siege(
        "100,000 datagrams/s from outside of --allow-source",
        "uninvited",
        options=("--allow-source", HOST),
    ),
    "garbage": Siege("10,000 datagrams/s of every size from ever new ports", "garbage"),
    "full-disk": Siege("the log on a full disk, with a storm", "storm", fault=full_disk),
    "stuck-log": Siege("the log in a pipe nobody reads, with a storm", "storm", fault=stuck_reader),
    "closed-log": Siege("the log in a closed pipe, with a storm", "storm", fault=closed_pipe),
    "clock": Siege("the wall clock jumps 2 days, with a storm", "storm", fault=jumping_clock),
}


def _attack(name: str, port: int, seconds: float) -> subprocess.Popen[str]:
    """Start an assault; it has begun when this returns."""
    words = [sys.executable, "-m", "tools.attackers.assaults", name, str(port), str(seconds)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def lay(
    siege: Siege,
    seconds: float,
    *options: str,
    viewers: int = 20,
    quiet: float = 0.0,
    core: int = -1,
) -> Outcome:
    """Lay a siege to a relay with these options, after `quiet` seconds of peace to compare with.

    With a `core` the relay has it to itself, if the caller is not on it.

    Raises:
        BrokenError: the relay ended, or did not serve its viewers.
    """
    with contextlib.ExitStack() as stack:
        extra = stack.enter_context(siege.fault())
        with on_core(core) if core >= 0 else contextlib.nullcontext():
            relay = stack.enter_context(
                Relay(*siege.options, *options, prefix=siege.prefix, **extra)
            )
        audience = stack.enter_context(Audience(relay.port, viewers))
        source = stack.enter_context(Source(relay.port, epoch=0))
        audience.wait_started()
        time.sleep(_WARM_UP if quiet else 0)
        audience.forget_latencies()
        time.sleep(quiet)
        peace = audience.latencies()
        process = stack.enter_context(_attack(siege.assault, relay.port, seconds))
        audience.forget_latencies()
        output, _ = process.communicate(timeout=seconds + PATIENCE)
        attacked = audience.latencies()
        sent = source.stop()
        audience.end(0, sent)
        memory, silent = relay.memory("VmHWM"), audience.silent()
        return Outcome(
            counts=json.loads(output),
            sent=sent,
            received=audience.received,
            lost=audience.faults,
            silent=silent,
            status=relay.stop(),
            bugs=len(relay.events("bug")),
            memory=memory,
            quiet=peace,
            attacked=attacked,
            log=relay.log(),
        )
