"""The results in words: Markdown tables that also read well on a terminal."""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.benchmarks.measure import SIZE
from tools.benchmarks.plan import FLOODED, Load
from tools.benchmarks.results import Results, verdicts

NOTES = f"""\
Datagrams of {SIZE} bytes on the loopback. Medians of interleaved rounds, with their range. Every
contender has one core, the source and the destinations have the others. CPU is the contender's
whole process and includes the kernel's receive path up to the destination's socket, which the
loopback runs in the sender. Flooded means {FLOODED:,} datagrams/s offered. Latency is from the
source's `send` to the kernel's receive time stamp, at the first, middle and last destination. Lost
includes what a contender still had queued when nothing had come for 0.3 s, or after 3 s."""

MET = {True: "met", False: "MISSED", None: "not measured"}


def table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """A Markdown table, padded: the first `words` columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        [
            cell.ljust(width) if place < words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        for cells in (header, *rows)
    ]
    dashes = ["-" * (width - 1) for width in widths]
    lines.insert(1, [*(f":{each}" for each in dashes[:words]), *(f"{d}:" for d in dashes[words:])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _costs(results: Results, name: str, loads: Sequence[Load]) -> list[str]:
    found = [results.figure(name, load, "cpu_per_datagram") for load in loads]
    return [(cost * 1e9).text("{:,.0f}") for cost in found]


def _milliseconds(results: Results, name: str, load: Load) -> str:
    """Median, 99th percentile and maximum, without ranges: three figures fill a cell."""
    found = [results.figure(name, load, field) * 1e3 for field in ("p50", "p99", "max")]
    return " / ".join(f"{each.median:,.2f}" for each in found if each) or "-"


def _side_by_side(results: Results) -> str:
    plan = results.plan
    header = [f"to {plan.destinations:,} destinations", "egress flooded, /s"]
    header += [f"CPU at {load.rate:,}/s, ns" for load in plan.paced]
    header += [f"p50 / p99 / max at {load.rate:,}/s, ms" for load in plan.paced]
    header += [f"lost at {plan.rates[-1]:,}/s"]
    rows = [
        [
            name,
            results.figure(name, plan.flood, "egress").text("{:,.0f}"),
            *_costs(results, name, plan.paced),
            *(_milliseconds(results, name, load) for load in plan.paced),
            results.figure(name, plan.paced[-1], "lost").text("{:,.0f}"),
        ]
        for name in results.contenders
    ]
    return table(header, rows)


def _scaling(results: Results) -> str:
    loads = results.plan.scaled
    header = [f"CPU per datagram at {loads[0].rate:,}/s, ns"]
    header += [f"n = {load.destinations:,}" for load in loads]
    names = [name for name in results.contenders if results.of(name, loads[0])]
    return table(header, [[name, *_costs(results, name, loads)] for name in names])


def _heavy(results: Results) -> str:
    rows = [
        [
            f"{load}, {name}",
            results.figure(name, load, "egress").text("{:,.0f}"),
            results.figure(name, load, "cpu").text("{:.0%}"),
            results.figure(name, load, "lost").text("{:,.0f}"),
            f"{sum(sample.held() for sample in samples)} of {len(samples)}",
        ]
        for load in results.plan.heavy_loads
        for name in results.contenders
        if (samples := results.of(name, load))
    ]
    return table(["heavy", "egress, /s", "of a core", "lost", "rounds held"], rows)


def markdown(results: Results) -> str:
    targets = [(each.measure, each.target, each.value, MET[each.met]) for each in verdicts(results)]
    parts = [
        "; ".join(f"{key} {value}" for key, value in results.machine.items() if value) + ".",
        table(("measure", "target", "measured", ""), targets, words=4),
        _side_by_side(results),
        _scaling(results),
        _heavy(results),
        *(f"Not measured: {name}: {reason}." for name, reason in results.failures.items()),
        NOTES,
    ]
    return "\n\n".join(parts) + "\n"


def _version(*words: str) -> str:
    """The version in the first line of a program's answer; empty when it is not installed."""
    if shutil.which(words[0]) is None:
        return ""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    before_copyright = done.stdout.partition(" Copyright")[0].splitlines()[:1]
    return before_copyright[0].split()[-1] if before_copyright else ""


def describe_machine() -> dict[str, str]:
    """The machine and the peers' versions, for whoever compares the figures; empty: not there."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    virtual = any(line.startswith("flags") and " hypervisor" in line for line in lines)
    return {
        "processor": (names or [platform.machine()])[0] + ", virtual machine" * virtual,
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "GStreamer": _version("gst-launch-1.0", "--version"),
        "ffmpeg": _version("ffmpeg", "-version"),
        "cc": _version("cc", "--version"),
        "load average before": f"{os.getloadavg()[0]:.2f}",
        "net.core.rmem_max": Path("/proc/sys/net/core/rmem_max").read_text().strip(),
    }
