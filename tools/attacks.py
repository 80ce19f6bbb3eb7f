"""Attacks the relay in every way that SECURITY.md speaks of, and counts what the viewers feel.

Prints a table: what was tried, what twenty healthy viewers lost, their latency before and during
the attack, and how much memory the relay took. The relay has a core to itself, where there are two.

Twenty viewers on purpose: they cost too little for the relay to hold datagrams back by itself, up
to 10 ms, which would hide what an attack adds. On a slower machine, say `-- --coalesce 0`.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from relaylib.cli import Parser
from relaylib.errors import SetupError
from relaylib.net.descriptors import raise_descriptor_limit
from tools.attackers.relay import BrokenError
from tools.attackers.siege import SIEGES, Outcome, Siege, lay, percentile
from tools.benchmarks.machine import claim_core, require_linux
from tools.replay.program import positive, run, say, whole

_LIMIT = 3.0
"""Times the quiet p99 that the p99 under attack may reach."""

_EPILOG = """\
examples:
  attacks.py                              all of them, about two minutes
  attacks.py --only storm,commands        two of them
  attacks.py -- --coalesce 0              a relay with other options
"""


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in SIEGES:
            raise argparse.ArgumentTypeError(f"no attack {name!r}; there are {', '.join(SIEGES)}")
    return names


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="attacks.py",
        description="Attack a relay on the loopback and count what its viewers feel.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", type=_names, metavar="NAME,...", default=tuple(SIEGES), help="some of them")
    add("--seconds", type=positive, metavar="S", default=4.0, help="length of an attack (4)")
    add("--quiet", type=positive, metavar="S", default=3.0, help="peace before each (3)")
    add("--viewers", type=whole, metavar="N", default=20, help="healthy viewers (20)")
    add("relay", nargs="*", metavar="OPTION", help="the relay's options, after --")
    return parser.parse_args(words)


_ROW = "| {:56} | {:35} | {:>10} | {:>10} | {:>10} | {:>6} | {:>8} |"
_TITLES = ("attack", "tried", "lost", "p99 quiet", "p99", "ratio", "peak RSS")


def _row(siege: Siege, outcome: Outcome) -> str:
    before, during = percentile(outcome.quiet, 0.99), percentile(outcome.attacked, 0.99)
    counts = [f"{count:,} {what}" for what, count in outcome.counts.items() if what != "bytes"]
    return _ROW.format(
        siege.what,
        ", ".join(counts),
        f"{outcome.lost:,}/{outcome.received:,}",
        f"{before * 1e3:.2f} ms",
        f"{during * 1e3:.2f} ms",
        f"{during / before:.1f}x" + ("!" if during > _LIMIT * before else ""),
        f"{outcome.memory / 1024:.1f} MiB",
    )


def _troubles(outcome: Outcome) -> list[str]:
    """What must not be: loss, viewers whose control died, bugs, a relay that ended."""
    return [
        f"{count} {what}"
        for count, what in (
            (outcome.lost, "datagrams lost"),
            (outcome.silent, "viewers not answered"),
            (outcome.bugs, "exceptions in the relay"),
            (outcome.status, "as exit status of the relay"),
        )
        if count
    ]


def main(words: Sequence[str] | None = None) -> int:
    """Attack; return the exit status, 1 when a healthy viewer felt more than a delay.

    Raises SetupError when there is no Linux or no relay.
    """
    options = _options(words)
    require_linux()
    raise_descriptor_limit()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    core = claim_core() if len(os.sched_getaffinity(0)) > 1 else -1
    failed = False
    print(_ROW.format(*_TITLES), _ROW.format(*(["---"] * len(_TITLES))), sep="\n", flush=True)
    for name in options.only:
        siege = SIEGES[name]
        try:
            outcome = lay(
                siege, options.seconds, *options.relay,
                viewers=options.viewers, quiet=options.quiet, core=core,
            )  # fmt: skip
        except BrokenError as error:
            raise SetupError(f"{name}: {error}") from None
        except KeyboardInterrupt:
            return 130
        print(_row(siege, outcome), flush=True)
        if troubles := _troubles(outcome):
            failed = True
            say(f"attacks.py: {name}: {', '.join(troubles)}")
        time.sleep(0.2)
    return int(failed)


if __name__ == "__main__":
    sys.exit(run("attacks.py", main))
