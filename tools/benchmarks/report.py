"""The results in words: Markdown tables that also read well on a terminal, and JSON."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tools.benchmarks.measures import Load
from tools.benchmarks.plan import Plan
from tools.benchmarks.results import Results, holds
from tools.benchmarks.source import FLOODED, SIZE
from tools.benchmarks.targets import verdicts

NOTES = f"""\
Datagrams of {SIZE} bytes on the loopback. Medians of interleaved rounds, with their range. Every
contender has one core, the source and the destinations have the others. CPU is the contender's
whole process and includes the kernel's receive path up to the destination's socket, which the
loopback runs in the sender. Flooded means {FLOODED:,} datagrams/s offered. Latency is from the
source's `send` to the kernel's receive time stamp, at the first, middle and last destination. Lost
includes what a contender still had queued when nothing had come for 0.3 s, or after 3 s."""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """A Markdown table, padded: the first `words` columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if place < words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        ":" + "-" * (width - 1) if place < words else "-" * (width - 1) + ":"
        for place, width in enumerate(widths)
    ]
    return "\n".join([line(header), f"| {' | '.join(rule)} |", *map(line, rows)])


def _targets(results: Results, plan: Plan) -> str:
    rows = [
        (verdict.measure, verdict.target, verdict.value, verdict.word)
        for verdict in verdicts(results, plan)
    ]
    return _table(("measure", "target", "measured", ""), rows, words=4)


def _cell(results: Results, contender: str, load: Load, name: str, scale: float = 1) -> str:
    found = results.figure(contender, load, name)
    if found is None:
        return "-"
    digits = 2 if name.startswith("latency.") else 0
    return found.text(lambda value: f"{value * scale:,.{digits}f}")


def _milliseconds(results: Results, contender: str, load: Load) -> str:
    """Median, 99th percentile and maximum, without ranges: three figures fill a cell."""
    names = ("latency.p50", "latency.p99", "latency.max")
    found = [results.figure(contender, load, name) for name in names]
    values = [f"{figure.median * 1e3:,.2f}" for figure in found if figure is not None]
    return " / ".join(values) if values else "-"


def _side_by_side(results: Results, plan: Plan) -> str:
    header = [f"to {plan.destinations:,} destinations", "egress flooded, /s"]
    header += [f"CPU at {load.rate:,}/s, ns" for load in plan.paced]
    header += [f"p50 / p99 / max at {load.rate:,}/s, ms" for load in plan.paced]
    header += [f"lost at {plan.rates[-1]:,}/s"]
    rows = [
        [
            name,
            _cell(results, name, plan.flood, "egress"),
            *(_cell(results, name, load, "cpu_per_datagram", 1e9) for load in plan.paced),
            *(_milliseconds(results, name, load) for load in plan.paced),
            _cell(results, name, plan.paced[-1], "lost"),
        ]
        for name in results.contenders
    ]
    return _table(header, rows)


def _scaling(results: Results, plan: Plan) -> str:
    header = [f"CPU per datagram at {plan.rates[0]:,}/s, ns"]
    header += [f"n = {load.destinations:,}" for load in plan.scaled]
    rows = [
        [name, *(_cell(results, name, load, "cpu_per_datagram", 1e9) for load in plan.scaled)]
        for name in results.contenders
        if results.of(name, plan.scaled[0])
    ]
    return _table(header, rows)


def _heavy(results: Results, plan: Plan) -> str:
    rows = []
    for load in plan.heavy:
        for name in results.contenders:
            samples = results.of(name, load)
            if samples:
                core = results.figure(name, load, "cpu")
                rows.append(
                    [
                        f"{load}, {name}",
                        _cell(results, name, load, "egress"),
                        core.text("{:.0%}".format) if core else "-",
                        _cell(results, name, load, "lost"),
                        f"{sum(map(holds, samples))} of {len(samples)}",
                    ]
                )
    return _table(["heavy", "egress, /s", "of a core", "lost", "rounds held"], rows)


def markdown(results: Results, plan: Plan, machine: dict[str, str]) -> str:
    """The whole report."""
    parts = [
        "; ".join(f"{key} {value}" for key, value in machine.items() if value) + ".",
        _targets(results, plan),
        _side_by_side(results, plan),
        _scaling(results, plan),
        _heavy(results, plan),
        *(f"Not measured: {name}: {reason}." for name, reason in results.failures.items()),
        NOTES,
    ]
    return "\n\n".join(parts) + "\n"


def document(results: Results, plan: Plan, machine: dict[str, str]) -> dict[str, Any]:
    """Everything, for JSON: seconds, bytes, datagrams and their quotients, without prefixes."""
    return {
        "machine": machine,
        "plan": dataclasses.asdict(plan),
        **dataclasses.asdict(results),
        "targets": [dataclasses.asdict(verdict) for verdict in verdicts(results, plan)],
    }
