"""Where each figure falls against what the project promises itself.

Speeds are compared with peers of the same run, because absolutes belong to a machine.
"""

import itertools
from dataclasses import dataclass

from tools.benchmarks.contenders import AUTO, MULTIUDPSINK, PROMPT, REFERENCE
from tools.benchmarks.measures import Load
from tools.benchmarks.plan import Plan
from tools.benchmarks.results import Results, figure, holds

_NOISE = 1.1
"""Two medians of equal costs differ by up to this ratio between runs on a shared machine."""


@dataclass(frozen=True)
class Verdict:
    """One measure's target and value in words; `met` is None when it could not be measured."""

    measure: str
    target: str
    value: str
    met: bool | None

    @property
    def word(self) -> str:
        """`met`, `MISSED` or `not measured`."""
        return "not measured" if self.met is None else "met" if self.met else "MISSED"


def _unmeasured(measure: str, target: str) -> Verdict:
    return Verdict(measure, target, "-", None)


def _ratio(results: Results, peer: str, load: Load, name: str, limit: float) -> Verdict:
    """This relay to a peer: egress at least `limit` times, or CPU at most `limit` times."""
    more_is_better = name == "egress"
    measure = f"{'egress' if more_is_better else 'CPU per datagram'}, {load}, against {peer}"
    target = f"{'at least' if more_is_better else 'at most'} {limit:g}x"
    found = results.ratio((AUTO, peer), load, name)
    if found is None:
        return _unmeasured(measure, target)
    met = found.median >= limit if more_is_better else found.median <= limit
    return Verdict(measure, target, found.text(lambda ratio: f"{ratio:.2f}x"), met)


def _latency(results: Results, contender: str, load: Load, limit_ms: float) -> Verdict:
    measure, target = f"latency p99, {load}, {contender}", f"under {limit_ms:g} ms"
    found = results.figure(contender, load, "latency.p99")
    if found is None:
        return _unmeasured(measure, target)
    value = found.text(lambda seconds: f"{seconds * 1e3:.2f} ms")
    return Verdict(measure, target, value, found.median * 1e3 < limit_ms)


def _scaling(results: Results, plan: Plan) -> Verdict:
    counts = [load.destinations for load in plan.scaled]
    measure = f"CPU per datagram, {plan.rates[0]:,}/s, n = {', '.join(f'{n:,}' for n in counts)}"
    target = "does not grow with n (10 % for noise)"
    found = [results.figure(AUTO, load, "cpu_per_datagram") for load in plan.scaled]
    costs = [cost.median for cost in found if cost is not None]
    if len(costs) < len(counts):
        return _unmeasured(measure, target)
    value = ", ".join(f"{cost * 1e9:,.0f}" for cost in costs) + " ns"
    met = all(more <= fewer * _NOISE for fewer, more in itertools.pairwise(costs))
    return Verdict(measure, target, value, met)


def _heavy(results: Results, load: Load) -> Verdict:
    measure = f"{load.rate * load.destinations:,} datagrams/s egress, {load}"
    target = "nothing dropped, or say what it holds"
    samples = results.of(AUTO, load)
    if not samples:
        return _unmeasured(measure, target)
    lost, total = sum(sample.lost or 0 for sample in samples), len(samples)
    rounds = f"in {sum(map(holds, samples))} of {total} rounds"
    if str(load) in results.held:
        value = f"held {rounds}, {lost:,} lost; holds {results.held[str(load)]:,.0f}/s"
        return Verdict(measure, target, value, met=False)
    return Verdict(measure, target, f"held {rounds}, {lost:,} lost", met=True)


def _start(results: Results) -> Verdict:
    found = figure(results.starts)
    if found is None:
        return _unmeasured("start to listening", "under 0.4 s")
    value = found.text(lambda seconds: f"{seconds:.2f} s")
    return Verdict("start to listening", "under 0.4 s", value, found.median < 0.4)


def _memory(results: Results, sessions: int) -> list[Verdict]:
    resident, objects = f"RSS, {sessions:,} sessions streaming", "Python objects per session"
    memory = results.memory
    if memory is None:
        return [_unmeasured(resident, "under 60 MiB"), _unmeasured(objects, "under 8 KiB")]
    full, empty = memory.rss_full / 2**20, memory.rss_empty / 2**20
    each = memory.objects_per_session / 1024
    resident_each = (memory.rss_full - memory.rss_empty) / memory.sessions / 1024
    value = f"{full:.1f} MiB ({empty:.1f} with nobody)"
    traced = f"{each:.2f} KiB by tracemalloc, {resident_each:.2f} KiB by RSS"
    return [
        Verdict(resident, "under 60 MiB", value, full < 60),
        Verdict(objects, "under 8 KiB", traced, each < 8),
    ]


def verdicts(results: Results, plan: Plan) -> list[Verdict]:
    """Every measure that has a target, in the order of the project's table."""
    lower = plan.paced[0]
    return [
        _ratio(results, MULTIUDPSINK, plan.flood, "egress", 4),
        _ratio(results, REFERENCE, plan.flood, "egress", 0.9),
        _ratio(results, MULTIUDPSINK, lower, "cpu_per_datagram", 0.5),
        *(_latency(results, AUTO, load, 12) for load in plan.paced),
        *(_latency(results, PROMPT, load, 1.5) for load in plan.paced),
        _scaling(results, plan),
        *(_heavy(results, load) for load in plan.heavy),
        _start(results),
        *_memory(results, plan.sessions),
    ]
