"""The results as Markdown that also reads well on a terminal: a table by UDP, a table over TCP."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.benchmarks.plan import FLOODED, SIZE
from tools.benchmarks.results import Measurement, Results, WebSample, figure, rounds_held

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
and nothing skipped. tcpserversink sends as many bytes without HTTP. ffmpeg serves a single viewer
(`-listen 1`; with `-listen 2` its program serves nobody). nginx serves files that ffmpeg cuts, on
another core and not counted. MP4 has fewer bytes than the stream. Beside UDP: 100 viewers by UDP,
and others by HTTP, who get their stream, or the round does not count. Delay is the longest
from a datagram's `send` to the end of its segment's arrival, at a viewer who follows the end of the
playlist as RFC 8216 (6.3.4) has it, in target durations."""

UDP = ("by UDP", "egress, /s", "of a core", "CPU, ns", "p50 / p99 / max, ms", "lost", "held")
TCP = ("over TCP", "Mb/s", "of a core", "CPU-ms per Mb", "slowest", "delay", "held")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        return f"| {' | '.join((cells[0].ljust(widths[0]), *padded[1:]))} |"

    rule = (":".ljust(widths[0], "-"), *("-" * (width - 1) + ":" for width in widths[1:]))
    return "\n".join([line(header), line(rule), *map(line, rows)])


def _rounds(results: Results) -> Iterator[list[Measurement]]:
    """Yield the rounds of each contender under each load, loads in the order measured."""
    for load in dict.fromkeys(each.load for each in results.samples):
        of_load = [each for each in results.samples if each.load == load]
        for name in dict.fromkeys(each.contender for each in of_load):
            yield [each for each in of_load if each.contender == name]


def _web_rounds(results: Results) -> Iterator[list[WebSample]]:
    """Yield the rounds of each server with each audience."""
    for audience in dict.fromkeys(each.audience for each in results.web):
        of_it = [each for each in results.web if each.audience == audience]
        for name in dict.fromkeys(each.server for each in of_it):
            yield [each for each in of_it if each.server == name]


def _row(rounds: list[Measurement]) -> list[str]:
    first = rounds[0]
    times = [figure(rounds, name) * 1e3 for name in ("p50", "p99", "max")]
    return [
        f"{first.load}, {first.contender}",
        figure(rounds, "egress").text("{:,.0f}"),
        figure(rounds, "cpu").text("{:.0%}"),
        (figure(rounds, "cpu_per_datagram") * 1e9).text("{:,.0f}"),
        " / ".join(f"{each.median:,.2f}" for each in times if each) or "-",
        figure(rounds, "lost").text("{:,.0f}"),
        rounds_held(rounds) if first.lag is not None else "-",
    ]


def _web_row(rounds: list[WebSample]) -> list[str]:
    first = rounds[0]
    return [
        f"{first.audience}, {first.server}",
        figure(rounds, "megabits").text("{:,.0f}"),
        figure(rounds, "cpu").text("{:.1%}"),
        (figure(rounds, "cost") * 1e3).text("{:.3f}"),
        figure(rounds, "slowest").text("{:.0%}"),
        figure(rounds, "delay").text("{:.1f}"),
        rounds_held(rounds) if first.slowest is not None else "-",
    ]


def _relay(results: Results) -> str:
    """Say how fast the relay starts, and what memory it takes."""
    parts = []
    if results.starts:
        parts.append(f"The relay listens {min(results.starts):.2f} to {max(results.starts):.2f} s "
                     "after its start.")  # fmt: skip
    if memory := results.memory:
        full, empty = (memory[name] / 2**20 for name in ("rss_full", "rss_empty"))
        parts.append(f"It takes {empty:.1f} MiB with nobody, and {full:.1f} MiB with "
                     f"{memory['sessions']:,} sessions.")  # fmt: skip
    return " ".join(parts)


def markdown(results: Results) -> str:
    """Everything."""
    parts = [
        "; ".join(f"{key} {value}" for key, value in results.machine.items() if value) + ".",
        table(UDP, [_row(rounds) for rounds in _rounds(results)]),
        table(TCP, [_web_row(rounds) for rounds in _web_rounds(results)]) if results.web else "",
        _relay(results),
        *(f"Not measured: {name}: {reason}." for name, reason in results.failures.items()),
        NOTES,
        WEB_NOTES if results.web else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


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
