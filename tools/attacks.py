"""Attacks the relay in every way that SECURITY.md speaks of, and measures what the viewers lose.

Prints a table: what was tried, what twenty healthy viewers lost, their latency before and during
the attack, how much memory the relay took, and how much CPU time and log during the attack. The
relay has a core to itself, where there are two.

There are only twenty because for many viewers the relay holds datagrams back, by up to 10 ms, which
would hide the delay that an attack adds. On a slower machine add `-- --coalesce 0`.
"""

import argparse
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from relaylib.cli import Parser
from relaylib.errors import SetupError
from relaylib.net.descriptors import raise_descriptor_limit
from tools.attackers.attack import ATTACKS, AttackOutcome, attack
from tools.lab.machine import FAILURES, claim_core, require_linux
from tools.lab.process import NeedError
from tools.replay.program import positive, run, say, whole

LIMIT = 3.0
"""A p99 under attack above so many times the quiet one is marked; it is no failure."""

EXAMPLES = """\
examples:
  attacks.py                              all of them, about three minutes
  attacks.py --only storm,commands        two of them
  attacks.py -- --coalesce 0              a relay with other options
"""


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ATTACKS:
            raise argparse.ArgumentTypeError(f"no attack {name!r}; there are {', '.join(ATTACKS)}")
    return names


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="attacks.py",
        description="Attack a relay on the loopback and measure what its viewers lose.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", type=_names, metavar="NAME,...", default=list(ATTACKS), help="some of them")
    add("--seconds", type=positive, metavar="S", default=4.0, help="length of an attack (4)")
    add("--quiet", type=positive, metavar="S", default=3.0, help="seconds before each (3)")
    add("--viewers", type=whole, metavar="N", default=20, help="healthy viewers (20)")
    add("relay", nargs="*", metavar="OPTION", help="the relay's options, after --")
    return parser.parse_args(words)


ROW = "| {:58} | {:35} | {:>10} | {:>9} | {:>9} | {:>6} | {:>8} | {:>5} | {:>10} |"
TITLES = ("attack", "tried", "lost", "p99 quiet", "p99", "ratio", "peak RSS", "CPU", "log")


def p99(values: list[float]) -> float:
    """The value that 99 % of the sorted values do not exceed; NaN if there are none."""
    return values[math.ceil(0.99 * len(values)) - 1] if values else math.nan


def _row(what: str, outcome: AttackOutcome) -> str:
    quiet, attacked = p99(outcome.quiet), p99(outcome.attacked)
    return ROW.format(
        what,
        ", ".join(f"{count:,} {it}" for it, count in outcome.counts.items() if it != "bytes"),
        f"{outcome.lost:,}/{outcome.received:,}",
        f"{quiet * 1e3:.2f} ms",
        f"{attacked * 1e3:.2f} ms",
        f"{attacked / quiet:.1f}x" + ("!" if attacked > LIMIT * quiet else ""),
        f"{outcome.memory / 1024:.1f} MiB",
        f"{outcome.cpu:.0%}",
        f"{outcome.logged / 1024:.1f} KiB/s",
    )


def troubles(outcome: AttackOutcome) -> str:
    """What must not happen: loss, viewers without answers, bugs, a relay that did not end well."""
    found = {
        "datagrams lost": outcome.lost,
        "viewers not answered": outcome.silent,
        "exceptions in the relay": outcome.bugs,
        "as exit status of the relay": outcome.status,
    }
    return ", ".join(f"{count} {what}" for what, count in found.items() if count)


def main(words: Sequence[str] | None = None) -> int:
    """Attack; return the exit status, 1 if there were `troubles`.

    Raises SetupError when there is no Linux or no relay.
    """
    options = _options(words)
    require_linux()
    raise_descriptor_limit()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # let every child be ended
    core, failed = claim_core(), False
    print(ROW.format(*TITLES), ROW.format(*(["---"] * len(TITLES))), sep="\n", flush=True)
    for name in options.only:
        try:
            outcome = attack(
                ATTACKS[name], options.seconds, *options.relay,
                viewers=options.viewers, quiet=options.quiet, core=core,
            )  # fmt: skip
        except NeedError as error:
            say(f"attacks.py: {name}: left out, {error}")
            continue
        except FAILURES as error:
            raise SetupError(f"{name}: {str(error).strip()}") from None
        print(_row(ATTACKS[name].what, outcome), flush=True)
        if trouble := troubles(outcome):
            failed = True
            say(f"attacks.py: {name}: {trouble}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(run("attacks.py", main))
