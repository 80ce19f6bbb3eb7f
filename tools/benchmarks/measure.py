"""One measurement of one contender: start it, feed it, count at the destinations, read its costs.

Every measurement is the same procedure under another load, and gives every figure that the load
allows. Counting is exact, so what is missing at the end was lost by the contender or is still
queued in it; the source, the sinks and the probes use the other cores.

A relay may lock onto its first source, so the datagrams that find out whether a contender is ready
and the stream itself come from one socket, which `tools/source.c` inherits as standard input.
"""

import contextlib
import math
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from tools.benchmarks.contenders import AUTO, DEFERRED, defer, missing, running
from tools.benchmarks.plan import SIZE, HttpLoad, Load
from tools.benchmarks.results import Measurement, Results
from tools.benchmarks.servers import WEB
from tools.benchmarks.sinks import Sinks
from tools.benchmarks.stream import make_film, streaming
from tools.benchmarks.web import arrival, company, web_sample
from tools.lab.machine import FAILURES, cpu_seconds, memory
from tools.lab.process import ChildProcess, wait_for
from tools.lab.sockets import source
from tools.replay.program import Progress

SETTLE = 0.5
"""Seconds before the measured window, at most as long as it, for caches and batches to settle."""

TAIL, QUIET = 0.1, 0.3
HELLO = bytes.fromhex("471fff10").ljust(SIZE, b"\0")

Core = Sequence[str]
"""The prefix that puts a program on the contenders' core."""


def greet(sock: socket.socket, sinks: Sinks, contender: ChildProcess) -> int:
    """Send a datagram now and then until one reaches every sink; return how many came in all."""

    def forwarded() -> bool:
        assert contender.process.poll() is None, "the contender ended"
        with contextlib.suppress(ConnectionRefusedError):
            sock.send(HELLO)
        sinks.watch(0.03)
        return sinks.delivered() >= len(sinks.ports)

    wait_for(forwarded, "every destination to be reached")
    return sinks.wait(sys.maxsize, 0.1)


def sample(name: str, load: Load, seconds: float, core: Core) -> Measurement:
    """Measure over a window of `seconds`.

    Raises:
        FAILURES: the contender cannot serve this load at all, or there are not enough descriptors.
    """
    settle = min(SETTLE, seconds)
    web, film = (WEB, [make_film(load.rate, stamped=True)]) if load.beside else ((), [])
    with (
        Sinks(load.destinations, load.probes) as sinks,
        running(name, sinks.ports, core, extra=web) as contender,
        source(contender.ingest_port) as sock,
    ):

        def reading() -> tuple[float, int, int, float]:
            cpu = cpu_seconds(contender.program.pid)
            return time.monotonic(), time.time_ns(), sinks.delivered(), cpu

        expected = greet(sock, sinks, contender.program)
        spread = 2 * settle if name == DEFERRED else arrival(load)
        length = spread + settle + seconds + TAIL
        with (
            streaming(sock, load.rate, length, *film, frames=load.frames) as sent,
            company(load, contender.program, settle + seconds, sinks.watch),
        ):
            if name == DEFERRED:
                defer(contender.sessions, settle)
            sinks.watch(settle)
            began, first, before, cpu = reading()
            sinks.watch(seconds)
            ended, last, after, cpu_after = reading()
            expected += sent() * load.destinations
        missing = expected - sinks.delivered()
        window, datagrams, cpu = ended - began, after - before, cpu_after - cpu
        measured = Measurement(
            contender=name,
            load=str(load),
            egress=datagrams / window,
            cpu_per_datagram=cpu / max(1, datagrams),
            cpu=cpu / window,
        )
        if load.flooded:
            return measured
        if name == DEFERRED:  # late on purpose
            return replace(measured, lost=expected - sinks.wait(expected, 3 * QUIET))
        lost = expected - sinks.wait(expected, QUIET)
        measured = replace(measured, lost=lost, lag=missing / load.destinations / load.rate)
        ordered = sinks.latencies(first, last)
        if not ordered:
            return measured
        p50, p99 = quantile(ordered, 0.5), quantile(ordered, 0.99)
        return replace(measured, p50=p50, p99=p99, max=ordered[-1])


def quantile(ordered: list[float], share: float) -> float:
    """The smallest value that at least `share` of the sorted values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def relay_memory(load: Load, seconds: float, core: Core) -> dict[str, int]:
    """Measure the relay's memory after some seconds, with nobody and with the load's sessions."""

    def after(sessions: int) -> int:
        with (
            Sinks(sessions) as sinks,
            running(AUTO, sinks.ports, core) as relay,
            source(relay.ingest_port) as sock,
        ):
            greet(sock, sinks, relay.program)
            with streaming(sock, load.rate, seconds) as sent:
                sent()
            return memory(relay.program.pid) << 10

    return {
        "sessions": load.destinations,
        "rss_empty": after(0),
        "rss_full": after(load.destinations),
    }


@contextlib.contextmanager
def _noting(results: Results, key: str) -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        results.failures[key] = " ".join(str(error).split())


def carry_out(results: Results, names: Sequence[str], core: Core) -> None:
    """Measure everything in the plan; what is not this relay over UDP, only beside that.

    A contender that cannot serve a load is noted with its reason and not tried under it again; the
    run goes on, because the other figures are worth having.
    """
    plan, progress = results.plan, Progress()
    results.failures |= {name: reason for name in names if (reason := missing(name))}
    todo: list[tuple[str, Load | HttpLoad]] = [
        *plan.measurements([name for name in names if name not in results.failures]),
        *(plan.web_measurements() if AUTO in names else ()),
    ]
    for done, (name, load) in enumerate(todo):
        key = f"{name}, {load}"
        progress.update(partial(str, f"{done / len(todo):4.0%} {key}"))
        if key in results.failures:
            continue
        with _noting(results, key):
            if isinstance(load, HttpLoad):
                results.web.append(web_sample(name, load, plan.seconds, core))
            else:
                results.samples.append(sample(name, load, plan.seconds, core))
    if AUTO in names:
        with _noting(results, f"{AUTO}, start and memory"):
            for _ in range(plan.starts):
                with running(AUTO, [], core) as relay:
                    results.starts.append(relay.start_seconds)
            sessions = Load(plan.sessions, plan.rates[0])
            results.memory = relay_memory(sessions, plan.seconds, core)
    progress.clear()
