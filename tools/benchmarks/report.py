"""The results in words: Markdown tables that also read well on a terminal."""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.benchmarks.contenders import AUTO, PROMPT
from tools.benchmarks.plan import FLOODED, FRAME, SIZE, Load
from tools.benchmarks.results import Results, rounds_held
from tools.benchmarks.servers import SERVERS
from tools.benchmarks.targets import verdicts

NOTES = f"""\
Datagrams of {SIZE} bytes on the loopback. Medians of interleaved rounds, with their range. Every
contender has one core, the source and the destinations have the others. CPU is the contender's
whole process and includes the kernel's receive path up to the destination's socket, which the
loopback runs in the sender. Flooded means {FLOODED:,} datagrams/s offered. Latency is from the
source's `send` to the kernel's receive time stamp, at the first, middle and last destination. Lost
includes what a contender still had queued when nothing had come for 0.3 s, or after 3 s."""

WEB_NOTES = """\
Over TCP a film is sent, of constant rate with a keyframe a second. The viewers are one process that
throws away what it gets, or follows the playlist; it is not on the server's core. CPU is the
server's whole process: the relay's takes the stream in, inspects it and keeps its history, too.
Slowest is the share of the stream that one viewer got who got least; held is 95 % for everybody,
and nothing skipped. tcpserversink sends as many octets without HTTP. ffmpeg serves a single viewer
(`-listen 1`; with `-listen 2` its program serves nobody). nginx serves files that ffmpeg cuts, on
another core and not counted. MP4 has fewer octets than the stream. Beside UDP: 100 viewers by UDP,
and others by HTTP, who get their stream, or the round does not count. Live delay is the longest
from a datagram's `send` to the end of its segment's arrival, at a viewer who follows the end of the
playlist as RFC 8216 (6.3.4) has it."""

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


def _framed(results: Results) -> str:
    flood, paced = results.plan.framed
    rows = [
        [
            name,
            results.figure(name, flood, "egress").text("{:,.0f}"),
            *_costs(results, name, [flood, paced]),
            _milliseconds(results, name, paced),
        ]
        for name in results.contenders
        if results.of(name, flood)
    ]
    frame = f"{FRAME[0] - 1} x {SIZE} and {FRAME[1] * 188} bytes"
    header = [f"frames of {frame}, to {flood.destinations:,}", "egress flooded, /s"]
    header += ["CPU flooded, ns"]
    rate = f"at {paced.rate:,}/s"
    return table([*header, f"CPU {rate}, ns", f"p50 / p99 / max {rate}, ms"], rows)


def _heavy(results: Results) -> str:
    rows = [
        [
            f"{load}, {name}",
            results.figure(name, load, "egress").text("{:,.0f}"),
            results.figure(name, load, "cpu").text("{:.0%}"),
            results.figure(name, load, "lost").text("{:,.0f}"),
            rounds_held(samples),
        ]
        for load in results.plan.heavy_loads
        for name in results.contenders
        if (samples := results.of(name, load))
    ]
    return table(["heavy", "egress, /s", "of a core", "lost", "rounds held"], rows)


def _web(results: Results) -> str:
    """Who served whom over TCP, and at which cost."""
    plan = results.plan
    rows = [
        [
            f"{audience}, {name}",
            results.web_figure(name, audience, "megabits").text("{:,.0f}"),
            results.web_figure(name, audience, "cpu").text("{:.1%}"),
            (results.web_figure(name, audience, "cost") * 1e3).text("{:.3f}"),
            results.web_figure(name, audience, "slowest").text("{:.0%}"),
            rounds_held(samples) if samples[0].slowest is not None else "-",
        ]
        for audience in dict.fromkeys([*plan.audiences, *plan.remuxes])
        for name in SERVERS
        if (samples := results.served(name, audience))
    ]
    header = ["over TCP", "delivered, Mb/s", "of a core", "CPU-ms per Mb", "slowest", "held"]
    return table(header, rows)


def _beside(results: Results) -> str:
    loads = [load for load in results.plan.beside if results.of(PROMPT, load)]
    rows = [
        [
            f"{load}, {PROMPT}",
            _milliseconds(results, PROMPT, load),
            results.figure(PROMPT, load, "cpu").text("{:.0%}"),
            results.figure(PROMPT, load, "lost").text("{:,.0f}"),
        ]
        for load in loads
    ]
    return table(["UDP beside HTTP", "p50 / p99 / max, ms", "of a core", "lost"], rows)


def headline(results: Results) -> str:
    """The machine, and each measure that has a target."""
    targets = [(each.measure, each.target, each.value, MET[each.met]) for each in verdicts(results)]
    parts = [
        "; ".join(f"{key} {value}" for key, value in results.machine.items() if value) + ".",
        table(("measure", "target", "measured", ""), targets, words=4),
    ]
    return "\n\n".join(parts) + "\n"


def markdown(results: Results) -> str:
    """Everything."""
    parts = [
        headline(results).rstrip(),
        _side_by_side(results),
        _scaling(results),
        *([_framed(results)] if results.of(AUTO, results.plan.framed[0]) else []),
        _heavy(results),
        *([_web(results), _beside(results)] if results.web else []),
        *(f"Not measured: {name}: {reason}." for name, reason in results.failures.items()),
        NOTES,
        *([WEB_NOTES] if results.web else []),
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
