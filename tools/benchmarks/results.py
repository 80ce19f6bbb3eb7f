"""What a run gave, the figures that are read from it, and what the project promises itself.

Speeds are compared with peers of the same run, round by round, because absolutes belong to a
machine.
"""

import itertools
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from tools.benchmarks.contenders import AUTO, DEFERRED, MULTIUDPSINK, NAMES, PROMPT, REFERENCE
from tools.benchmarks.plan import Load, Plan

NOISE = 1.1
"""Two medians of equal costs differ by up to this ratio between runs on a shared machine."""


@dataclass(frozen=True)
class Sample:
    """What one measurement gave. Egress in datagrams/s, CPU in seconds per datagram and second.

    `lost` is what never arrived, `lag` the seconds of stream still to come when the source ended;
    both are None under a flood, where they say nothing. One-way latencies are in seconds.
    """

    contender: str
    load: str
    egress: float
    cpu_per_datagram: float
    cpu: float
    lost: int | None = None
    lag: float | None = None
    p50: float | None = None
    p99: float | None = None
    max: float | None = None

    def held(self) -> bool:
        """Whether nothing was lost and the stream did not pile up in front of the contender.

        A receive buffer hides a relay that is too slow for a second or more: so what was still to
        come when the source ended may be the relay's own delay and a turn's work, 50 ms, no more.
        """
        return self.lost == 0 and self.lag is not None and self.lag <= 0.05


@dataclass(frozen=True)
class Figure:
    """The values of one measure over the rounds; false where there are none."""

    values: list[float]

    def __bool__(self) -> bool:
        return bool(self.values)

    def __mul__(self, factor: float) -> "Figure":
        return Figure([value * factor for value in self.values])

    @property
    def median(self) -> float:
        """Raises StatisticsError where there are no values."""
        return statistics.median(self.values)

    def text(self, style: str) -> str:
        """The median, and the range where it differs from it when written in that style."""
        if not self.values:
            return "-"
        low, high = style.format(min(self.values)), style.format(max(self.values))
        return style.format(self.median) + (f" ({low} to {high})" if low != high else "")


@dataclass
class Results:
    """Every sample of a run in the order measured, and why others are missing.

    `held` is, for a load that the relay did not hold, the egress in datagrams/s of the heaviest
    share of it that it did hold (0 when none was). `starts` are in seconds. `memory` are the
    relay's bytes with nobody and with `sessions` streaming: resident, and Python objects.
    """

    plan: Plan
    machine: dict[str, str]
    samples: list[Sample] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    starts: list[float] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)

    @property
    def contenders(self) -> list[str]:
        """The names of those that were measured, this relay first."""
        measured = {sample.contender for sample in self.samples}
        return [name for name in NAMES if name in measured]

    def of(self, contender: str, load: Load) -> list[Sample]:
        """The samples of one contender under one load, a round each."""
        key = (contender, str(load))
        return [sample for sample in self.samples if (sample.contender, sample.load) == key]

    def figure(self, contender: str, load: Load, name: str) -> Figure:
        """One field of the samples."""
        values = [getattr(sample, name) for sample in self.of(contender, load)]
        return Figure([value for value in values if value is not None])

    def ratio(self, peer: str, load: Load, name: str) -> Figure:
        """This relay's field divided by a peer's, round by round."""
        ours, theirs = (self.figure(each, load, name).values for each in (AUTO, peer))
        return Figure([our / their for our, their in zip(ours, theirs, strict=False) if their])


@dataclass(frozen=True)
class Verdict:
    """One measure's target and value in words; `met` is None when it could not be measured."""

    measure: str
    target: str
    value: str = "-"
    met: bool | None = None


def verdicts(results: Results) -> list[Verdict]:
    """Every measure that has a target, in the order of the project's table."""
    plan, (lower, higher) = results.plan, results.plan.paced

    def judge(
        measure: str, target: str, found: Figure, style: str, met: Callable[[float], bool]
    ) -> Verdict:
        value = met(found.median) if found else None
        return Verdict(measure, target, found.text(style), value)

    def egress(peer: str, least: float) -> Verdict:
        measure, target = f"egress, {plan.flood}, against {peer}", f"at least {least:g}x"
        found = results.ratio(peer, plan.flood, "egress")
        return judge(measure, target, found, "{:.2f}x", lambda ratio: ratio >= least)

    def latency(name: str, load: Load, limit: float) -> Verdict:
        measure, target = f"latency p99, {load}, {name}", f"under {limit:g} ms"
        found = results.figure(name, load, "p99") * 1e3
        return judge(measure, target, found, "{:.2f} ms", lambda ms: ms < limit)

    cost = results.ratio(MULTIUDPSINK, lower, "cpu_per_datagram")
    return [
        egress(MULTIUDPSINK, 4),
        egress(REFERENCE, 0.9),
        judge(f"CPU per datagram, {lower}, against {MULTIUDPSINK}", "at most 0.5x", cost,
              "{:.2f}x", lambda ratio: ratio <= 0.5),
        latency(AUTO, lower, 12),
        latency(AUTO, higher, 12),
        latency(PROMPT, lower, 1.5),
        latency(PROMPT, higher, 1.5),
        *_deferred(results),
        _scaling(results),
        *(_heavy(results, load) for load in plan.heavy_loads),
        judge("start to listening", "under 0.4 s", Figure(results.starts), "{:.2f} s",
              lambda seconds: seconds < 0.4),
        *_memory(results),
    ]  # fmt: skip


def _scaling(results: Results) -> Verdict:
    loads = results.plan.scaled
    counts = ", ".join(f"{load.destinations:,}" for load in loads)
    measure = f"CPU per datagram, {loads[0].rate:,}/s, n = {counts}"
    target = "does not grow with n (10 % for noise)"
    found = [results.figure(AUTO, load, "cpu_per_datagram") * 1e9 for load in loads]
    if not all(found):
        return Verdict(measure, target)
    costs = [cost.median for cost in found]
    met = all(more <= fewer * NOISE for fewer, more in itertools.pairwise(costs))
    return Verdict(measure, target, ", ".join(f"{cost:,.0f}" for cost in costs) + " ns", met)


def _deferred(results: Results) -> list[Verdict]:
    """Nothing, for a run of before there were deferred viewers."""
    found = []
    for load in results.plan.paced:
        ours, theirs = (
            results.figure(name, load, "cpu_per_datagram").values for name in (DEFERRED, AUTO)
        )
        ratios = Figure([each / live for each, live in zip(ours, theirs, strict=False)])
        if ratios:
            measure = f"CPU per datagram, {load}, deferred against live"
            lost = sum(each.lost or 0 for each in results.of(DEFERRED, load))
            value = f"{ratios.text('{:.2f}x')}, {lost:,} lost"
            found.append(
                Verdict(measure, "at most 2x, none lost", value, ratios.median <= 2 and not lost)
            )
    return found


def _heavy(results: Results, load: Load) -> Verdict:
    measure = f"{load.rate * load.destinations:,} datagrams/s egress, {load}"
    target = "nothing dropped, or say what it holds"
    samples = results.of(AUTO, load)
    if not samples:
        return Verdict(measure, target)
    held, lost = sum(each.held() for each in samples), sum(each.lost or 0 for each in samples)
    value = f"held in {held} of {len(samples)} rounds, {lost:,} lost"
    if held < len(samples):
        value += f"; holds {results.held.get(str(load), 0):,.0f}/s"
    return Verdict(measure, target, value, held == len(samples))


def _memory(results: Results) -> list[Verdict]:
    rss = (f"RSS, {results.plan.sessions:,} sessions streaming", "under 60 MiB")
    objects = ("Python objects per session", "under 8 KiB")
    if not (memory := results.memory):
        return [Verdict(*rss), Verdict(*objects)]
    full, empty = memory["rss_full"] / 2**20, memory["rss_empty"] / 2**20
    each = (memory["objects_full"] - memory["objects_empty"]) / memory["sessions"] / 2**10
    by_rss = (full - empty) * 2**10 / memory["sessions"]
    traced = f"{each:.2f} KiB by tracemalloc, {by_rss:.2f} KiB by RSS"
    return [
        Verdict(*rss, f"{full:.1f} MiB ({empty:.1f} with nobody)", full < 60),
        Verdict(*objects, traced, each < 8),
    ]
