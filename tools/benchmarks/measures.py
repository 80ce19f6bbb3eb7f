"""One measurement of one contender: start it, feed it, count at the destinations, read its costs.

Every measurement is the same procedure under another load, and gives every figure that the load
allows.  Counting is exact, so what is missing at the end was lost by the contender or is still
queued in it; the source, the sinks and the probes are paid for by the other core.
"""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tools.benchmarks.contenders import Contender, Relay, Running
from tools.benchmarks.machine import cpu_seconds, rss_bytes
from tools.benchmarks.sinks import Sinks
from tools.benchmarks.source import FLOODED, NotReadyError, Source

_SETTLE = 0.5
"""Seconds (at most a window's) before it opens, for caches and adaptive batches to settle."""

_TAIL = 0.1
_QUIET = 0.3
_UNDER_TRACEMALLOC = (sys.executable, str(Path(__file__).resolve().parent / "traced.py"))


@dataclass(frozen=True)
class Load:
    """A stream of `rate` datagrams/s to `destinations`, of which `probes` measure latency."""

    destinations: int
    rate: int
    probes: int = 0

    @property
    def flooded(self) -> bool:
        """Whether the rate is more than anyone forwards, so that losing most of it is expected."""
        return self.rate >= FLOODED

    def __str__(self) -> str:
        rate = "flooded" if self.flooded else f"{self.rate:,}/s"
        return f"{rate} to {self.destinations:,}"


@dataclass(frozen=True)
class Latency:
    """One-way latency over the probes, in seconds."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True)
class Sample:
    """What one measurement gave. Egress in datagrams/s, CPU in seconds a datagram and a second.

    `lost` is what never arrived, `lag` the seconds of stream still to come when the source ended;
    both are None under a flood, where they say nothing.
    """

    contender: str
    load: Load
    egress: float
    cpu_per_datagram: float
    cpu: float
    lost: int | None = None
    lag: float | None = None
    latency: Latency | None = None


@dataclass(frozen=True)
class Memory:
    """The relay's bytes with nobody and with `sessions` streaming: resident, and Python objects."""

    sessions: int
    rss_empty: int
    rss_full: int
    objects_empty: int
    objects_full: int

    @property
    def objects_per_session(self) -> float:
        """Bytes of live Python objects that one more session costs, by tracemalloc."""
        return (self.objects_full - self.objects_empty) / self.sessions


def quantile(ordered: list[float], share: float) -> float:
    """The smallest value that at least `share` of the sorted values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Bench:
    """The means to measure: the compiled source, and the contenders' core."""

    def __init__(self, source: Path, core: int) -> None:
        self._source = source
        self._core = core

    def sample(self, contender: Contender, load: Load, seconds: float) -> Sample:
        """Measure over a window of `seconds`.

        Raises NotReadyError when the contender cannot serve this load at all, OSError when this
        process has not enough descriptors for the destinations.
        """
        update_counters = min(_SETTLE, seconds)
        with (
            Sinks(load.destinations, load.probes) as sinks,
            contender.running(sinks.ports, self._core) as running,
            Source(self._source, running.ingest_port) as source,
        ):
            before = source.wait_until_forwarded(sinks, running.process)
            source.start(load.rate, update_counters + seconds + _TAIL)
            sinks.watch(update_counters)
            first = _reading(sinks, running)
            sinks.watch(seconds)
            last = _reading(sinks, running)
            sent = source.finish()
            missing = before + sent * load.destinations - sinks.delivered()
            sample = _window(contender.name, load, first, last)
            if load.flooded:
                return sample
            delivered = sinks.update_counters(before + sent * load.destinations, _QUIET)
            return replace(
                sample,
                lost=before + sent * load.destinations - delivered,
                lag=missing / load.destinations / load.rate,
                latency=_latency(sinks, first, last),
            )

    def start_time(self, relay: Relay) -> float:
        """Seconds from starting the relay's process to its log saying that it listens."""
        with relay.running([], self._core) as running:
            return running.start_seconds

    def memory(self, relay: Relay, load: Load, seconds: float) -> Memory:
        """Measure the relay's memory after streaming `load` for some seconds."""
        nobody = replace(load, destinations=0)
        return Memory(
            sessions=load.destinations,
            rss_empty=self._after(relay, nobody, seconds, _rss),
            rss_full=self._after(relay, load, seconds, _rss),
            objects_empty=self._after(relay, nobody, seconds, _traced, _UNDER_TRACEMALLOC),
            objects_full=self._after(relay, load, seconds, _traced, _UNDER_TRACEMALLOC),
        )

    def _after(
        self,
        relay: Relay,
        load: Load,
        seconds: float,
        read: Callable[[Running], int],
        interpreter: Sequence[str] = (sys.executable,),
    ) -> int:
        with (
            Sinks(load.destinations) as sinks,
            relay.running(sinks.ports, self._core, interpreter) as running,
            Source(self._source, running.ingest_port) as source,
        ):
            source.wait_until_forwarded(sinks, running.process)
            source.start(load.rate, seconds)
            source.finish()
            return read(running)


@dataclass(frozen=True)
class _Reading:
    """What was known at one moment: both clocks, datagrams delivered, CPU seconds used."""

    monotonic: float
    realtime: int
    delivered: int
    cpu: float


def _reading(sinks: Sinks, running: Running) -> _Reading:
    cpu = cpu_seconds(running.process.pid)
    return _Reading(time.monotonic(), time.time_ns(), sinks.delivered(), cpu)


def _window(name: str, load: Load, first: _Reading, last: _Reading) -> Sample:
    seconds = last.monotonic - first.monotonic
    datagrams = last.delivered - first.delivered
    cpu = last.cpu - first.cpu
    return Sample(name, load, datagrams / seconds, cpu / max(1, datagrams), cpu / seconds)


def _latency(sinks: Sinks, first: _Reading, last: _Reading) -> Latency | None:
    ordered = sinks.latencies(first.realtime, last.realtime)
    if not ordered:
        return None
    return Latency(quantile(ordered, 0.5), quantile(ordered, 0.99), ordered[-1])


def _rss(running: Running) -> int:
    return rss_bytes(running.process.pid)


def _traced(running: Running) -> int:
    """Ask traced.py, which runs the relay, for the bytes of its live Python objects."""
    stdin, stdout = running.process.stdin, running.process.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write(b"\n")
    stdin.flush()
    if not (answer := stdout.readline()):
        raise NotReadyError("ended under tracemalloc")
    return int(answer)
