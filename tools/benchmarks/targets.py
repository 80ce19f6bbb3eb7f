"""What the project promises itself, and whether a run kept it."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from tools.benchmarks.contenders import AUTO, DEFERRED, MULTIUDPSINK, PROMPT, REFERENCE
from tools.benchmarks.plan import Audience, Load
from tools.benchmarks.results import Figure, Results, rounds_held
from tools.benchmarks.servers import HLS, LIVE, MP4

NOISE = 1.1
"""Two medians of equal costs differ by up to this ratio between runs on a shared machine."""


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
        *_web(results),
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


def _web(results: Results) -> list[Verdict]:
    some, many, most = results.plan.audiences
    quiet, *others = results.plan.beside
    return [
        *(_served(results, each, "cost", "at most 0.08 ms", 0.08) for each in (some, many)),
        _served(results, most, "cpu", "at most 80%", 0.8),
        *(_remux(results, audience) for audience in results.plan.remuxes),
        *(_beside(results, quiet, load) for load in others),
        _behind(results, many),
    ]


def _served(results: Results, audience: Audience, name: str, target: str, limit: float) -> Verdict:
    what, style, scale = {
        "cost": ("CPU per megabit", "{:.3f} ms", 1e3),
        "cpu": ("of a core", "{:.0%}", 1),
    }[name]
    measure, target = f"{what}, {LIVE}, {audience}", f"{target}, nobody short"
    samples = results.served(LIVE, audience)
    if not samples:
        return Verdict(measure, target)
    found = results.web_figure(LIVE, audience, name) * scale
    value = f"{found.text(style)}, held in {rounds_held(samples)} rounds"
    met = found.median <= limit and all(sample.held() for sample in samples)
    return Verdict(measure, target, value, met)


def _remux(results: Results, audience: Audience) -> Verdict:
    """What viewers of MP4 take of a core beyond what as many of `/live.ts` do."""
    measure = f"of a core, {MP4} beyond {LIVE}, {audience}"
    target = "at most 1.5%"
    rounds = [results.web_figure(name, audience, "cpu").values for name in (MP4, LIVE)]
    more = Figure([remuxed - plain for remuxed, plain in zip(*rounds, strict=False)])
    return Verdict(measure, target, more.text("{:.1%}"), more.median <= 0.015 if more else None)


def _beside(results: Results, quiet: Load, load: Load) -> Verdict:
    measure, target = f"latency p99, {load}, {PROMPT}", "under 1 ms more than alone, none lost"
    rounds = [results.figure(PROMPT, each, "p99").values for each in (load, quiet)]
    more = Figure([(beside - alone) * 1e3 for beside, alone in zip(*rounds, strict=False)])
    if not more:
        return Verdict(measure, target)
    lost = sum(each.lost or 0 for each in results.of(PROMPT, load))
    value = f"{more.text('{:+.2f} ms')}, {lost:,} lost"
    return Verdict(measure, target, value, more.median < 1 and not lost)


def _behind(results: Results, audience: Audience) -> Verdict:
    delay = results.web_figure(HLS, audience, "delay")
    met = delay.median <= 3 if delay else None
    measure = f"live delay, {HLS}, {audience}"
    return Verdict(measure, "at most 3 target durations", delay.text("{:.1f}"), met)
