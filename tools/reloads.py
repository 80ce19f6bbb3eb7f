"""How long a reload in place holds the stream up, and what it loses.

For each number of viewers and each rate, a relay is reloaded several times under that load. The
longest one-way latency of a datagram (the kernel's time stamps, at a few of the viewers) tells for
how long nobody forwarded; beside it stands that of the same stream before the first reload. What is
lost is counted at every viewer.

`--unprivileged` runs the relay without capabilities, and with the receive buffer that Linux grants
as it comes (net.core.rmem_max 212,992). Nothing is pinned to a core: the programs of a reload share
the machine with the source, as they would elsewhere.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from relaylib.cli import Parser
from relaylib.errors import SetupError
from relaylib.net.descriptors import raise_descriptor_limit
from tools.benchmarks.contenders import ask_for_stream
from tools.benchmarks.measure import greet
from tools.benchmarks.plan import SIZE
from tools.benchmarks.sinks import Sinks
from tools.benchmarks.stream import streaming
from tools.lab.altered import Altered
from tools.lab.machine import FAILURES, require_linux
from tools.lab.relay import RelayProcess
from tools.lab.reloads import hang_up
from tools.lab.sockets import source
from tools.replay.program import run, whole

PROBES = 5
PERIOD = 3.0
"""Seconds from one reload to the next: several times what one takes."""

UNTUNED = 212_992
"""Bytes: net.core.rmem_max as it comes."""

POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")
"""Root without capabilities: it can read this program, and force no buffer (SO_RCVBUFFORCE)."""

SMALL = f"from relaylib.source import receive_buffer; receive_buffer.RECEIVE_BUFFER = {UNTUNED}"

ROW = "| {:>7} | {:>4} | {:>7} | {:>9} | {:>12} | {:>22} |"
TITLES = ("viewers", "Mb/s", "reloads", "quiet, ms", "reloaded, ms", "lost")


@dataclass(frozen=True)
class ReloadOutcome:
    """The longest latencies before any reload and with them, in seconds; what was lost of what."""

    quiet: float
    reloaded: float
    sent: int
    lost: int


def measure(viewers: int, rate: int, reloads: int, prefix: tuple[str, ...]) -> ReloadOutcome:
    """Reload a relay so many times under `rate` datagrams a second.

    Raises:
        FAILURES: it does not start, declines a session, or was not reloaded every time.
    """
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        sinks = enter(Sinks(viewers, min(PROBES, viewers)))
        relay = enter(RelayProcess("--max-clients", "4000", prefix=prefix))
        for port in sinks.ports:
            enter(ask_for_stream(relay.port, port))
        sock = enter(source(relay.ingest_port))
        greet(sock, sinks, relay)
        sinks.watch(0.3)
        expected = sinks.delivered()
        sent = enter(streaming(sock, rate, PERIOD * (1 + reloads)))
        sinks.watch(0.3)
        began = time.time_ns()
        sinks.watch(PERIOD - 0.3)
        quiet = time.time_ns()
        for _ in range(reloads):
            hang_up(relay)
            sinks.watch(PERIOD)
        expected += sent() * viewers
        lost = expected - sinks.wait(expected, 1.0)
        relay.wait_event("reloaded", reloads)
        return ReloadOutcome(
            sinks.latencies(began, quiet)[-1],
            sinks.latencies(quiet, time.time_ns())[-1],
            expected,
            lost,
        )


def _unprivileged(directory: Path) -> tuple[str, ...]:
    return (*(POWERLESS if os.geteuid() == 0 else ()), *Altered(directory, SMALL).prefix)


def _numbers(text: str) -> list[int]:
    return [whole(number) for number in text.split(",")]


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="reloads.py", description="Reload a relay under load.")
    add = parser.add_argument
    add("--viewers", type=_numbers, metavar="N,...", default=[1, 200, 1000], help="(1,200,1000)")
    add("--rates", type=_numbers, metavar="MBITS,...", default=[5, 20], help="Mb/s (5,20)")
    add("--reloads", type=whole, metavar="N", default=3, help="under each load (3)")
    add("--unprivileged", action="store_true", help="no capabilities, a small receive buffer")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Measure; return the exit status, 1 when anything was lost.

    Raises SetupError when there is no Linux or no relay.
    """
    options = _options(words)
    require_linux()
    raise_descriptor_limit()
    lost = 0
    print(ROW.format(*TITLES), ROW.format(*(["---"] * len(TITLES))), sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        prefix = _unprivileged(Path(directory)) if options.unprivileged else ()
        for viewers in options.viewers:
            for rate in options.rates:
                try:
                    outcome = measure(
                        viewers, round(rate * 1e6 / 8 / SIZE), options.reloads, prefix
                    )
                except FAILURES as error:
                    raise SetupError(f"{viewers} viewers, {rate} Mb/s: {error}") from None
                lost += outcome.lost
                print(_row(viewers, rate, options.reloads, outcome), flush=True)
    return int(lost > 0)


def _row(viewers: int, rate: int, reloads: int, outcome: ReloadOutcome) -> str:
    return ROW.format(
        f"{viewers:,}",
        rate,
        reloads,
        f"{outcome.quiet * 1e3:.1f}",
        f"{outcome.reloaded * 1e3:.1f}",
        f"{outcome.lost:,}/{outcome.sent:,}",
    )


if __name__ == "__main__":
    sys.exit(run("reloads.py", main))
