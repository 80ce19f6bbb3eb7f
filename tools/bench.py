"""Measures the relay and its peers side by side: `make bench`.

Prints the tables, and writes bench.json, bench.md and bench.svg.  The rooms are in
tools/benchmarks/: what is measured and when (plan), who (contenders), how (measures, source,
sinks), and what comes of it (results, targets, report, chart).
"""

import argparse
import dataclasses
import json
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from relaylib.cli import Parser
from relaylib.errors import SetupError
from relaylib.net.descriptors import raise_descriptor_limit
from tools.benchmarks import chart, machine, report
from tools.benchmarks.conduct import Conductor
from tools.benchmarks.contenders import AUTO, NAMES, Contender, line_up
from tools.benchmarks.measures import Bench
from tools.benchmarks.plan import PLANS, Plan
from tools.replay.program import positive, run, say, whole

_OUTPUT = machine.ROOT / "build" / "bench"
_MARK = "<!-- bench -->\n"
_PUBLISHED = ("bench.json", "bench.md", "bench.svg")

_EPILOG = """\
examples:
  bench.py                                everything, about six minutes
  bench.py --plan quick                   one short round, to see where it stands
  bench.py --only relay,'C reference'     two contenders
  bench.py --publish                      also show the figures and the chart in README.md
"""


def _seconds(text: str) -> float:
    value = positive(text)
    if value > 60:
        raise argparse.ArgumentTypeError(f"more than a minute a window: {text!r}")
    return value


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"no contender {name!r}; there are {', '.join(NAMES)}")
    return names


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="bench.py",
        description="Measure the relay and its peers side by side, on the loopback.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--plan", choices=PLANS, default="full", help="how much to measure; smoke only tries it out"
    )
    add("--rounds", type=whole, metavar="N", help="repetitions of everything (plan full: 3)")
    add("--seconds", type=_seconds, metavar="S", help="length of each window (plan full: 2.5)")
    add("--only", type=_names, metavar="NAME,...", default=NAMES, help=f"of {', '.join(NAMES)}")
    add("--output", type=Path, metavar="DIR", default=_OUTPUT, help="where to (build/bench)")
    add("--publish", action="store_true", help="show what came of it in README.md, too")
    return parser.parse_args(words)


def _plan(options: argparse.Namespace) -> Plan:
    plan = PLANS[options.plan]
    return dataclasses.replace(
        plan,
        repetitions=options.rounds or plan.repetitions,
        seconds=options.seconds or plan.seconds,
    )


def _measure(options: argparse.Namespace) -> bool:
    """Carry out the plan and write what came of it; return whether the relay could be measured."""
    machine.require_linux()
    chart.require()
    plan, output = _plan(options), options.output
    reference = machine.compile_c("reference", output)
    source = machine.compile_c("source", output)
    raise_descriptor_limit()
    everyone = line_up(reference)
    present: dict[str, Contender] = {name: everyone[name] for name in NAMES if name in options.only}
    facts = machine.describe()
    results = Conductor(Bench(source, machine.claim_core()), plan, present).run()
    text = report.markdown(results, plan, facts)
    print(text, end="")
    (output / "bench.md").write_text(text)
    document = report.document(results, plan, facts)
    (output / "bench.json").write_text(json.dumps(document, indent=1) + "\n")
    chart.draw(results, plan, facts, output / "bench.svg")
    return not any(name.startswith(AUTO) for name in results.failures)


def publish(output: Path, root: Path) -> None:
    """Copy the figures and the chart to docs/, and the tables to between two marks in README.md.

    Raises SetupError when the marks are not there.
    """
    docs, readme = root / "docs", root / "README.md"
    parts = readme.read_text().split(_MARK)
    if len(parts) != 3:
        raise SetupError(f"{readme}: the tables go between two lines {_MARK.strip()}")
    docs.mkdir(exist_ok=True)
    for name in _PUBLISHED:
        shutil.copyfile(output / name, docs / name)
    parts[1] = f"\n{(output / 'bench.md').read_text()}\n"
    readme.write_text(_MARK.join(parts))


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status, 1 when this relay could not be measured.

    Missing a target is a result and no failure.  Raises SetupError.
    """
    options = _options(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # let every child be ended
    try:
        measured = _measure(options)
        if options.publish:
            publish(options.output, machine.ROOT)
    except OSError as error:
        raise SetupError(f"{error.strerror}: {error.filename}") from None
    except KeyboardInterrupt:
        return 130
    if not measured:
        say("bench.py: the relay could not be measured; the report says why")
    return 0 if measured else 1


if __name__ == "__main__":
    sys.exit(run("bench.py", main))
