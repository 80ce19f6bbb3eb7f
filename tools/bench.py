"""Measures the relay and its peers side by side: `make bench`.

Prints the tables, and writes bench.json and bench.md. Its parts are in tools/benchmarks/.
"""

import argparse
import json
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from relaylib.cli import Parser
from relaylib.errors import SetupError
from relaylib.net.descriptors import raise_descriptor_limit
from tools.benchmarks.contenders import AUTO, NAMES
from tools.benchmarks.measure import carry_out
from tools.benchmarks.plan import PLANS
from tools.benchmarks.report import describe_machine, markdown
from tools.benchmarks.results import Results
from tools.lab.machine import claim_core, compile_c, require_linux
from tools.lab.process import ROOT
from tools.replay.program import run, say

EXAMPLES = """\
examples:
  bench.py                                everything, about eleven minutes
  bench.py --plan quick                   one short round, to see where it stands
  bench.py --only relay,'C reference'     two contenders
  bench.py --publish                      also keep them in docs/
"""


def _names(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"no contender {name!r}; there are {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in names)


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="bench.py",
        description="Measure the relay and its peers side by side, on the loopback.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--plan", choices=PLANS, default="full", help="how much; smoke only tries it out")
    add("--only", type=_names, metavar="NAME,...", default=NAMES, help=f"of {', '.join(NAMES)}")
    add("--output", type=Path, metavar="DIR", default=ROOT / "build" / "bench",
        help="where to (build/bench)")  # fmt: skip
    add("--publish", action="store_true", help="put the results into docs/, too")
    return parser.parse_args(words)


def write(results: Results, output: Path) -> str:
    """Write the results; return the tables. JSON is in seconds, bytes and datagrams."""
    text = markdown(results)
    (output / "bench.md").write_text(text)
    (output / "bench.json").write_text(json.dumps(asdict(results), indent=1) + "\n")
    return text


def _bench(options: argparse.Namespace) -> int:
    require_linux()
    for program in ("reference.c", "source.c"):
        compile_c(program)
    options.output.mkdir(parents=True, exist_ok=True)
    raise_descriptor_limit()
    results = Results(PLANS[options.plan], describe_machine())
    carry_out(results, options.only, claim_core())
    print(write(results, options.output), end="")
    if options.publish:
        for name in ("bench.json", "bench.md"):
            shutil.copyfile(options.output / name, ROOT / "docs" / name)
    failed = any(name.startswith(AUTO) for name in results.failures)
    if failed:
        say("bench.py: the relay could not be measured; the report says why")
    return int(failed)


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status, 1 when this relay could not be measured.

    Raises SetupError.
    """
    options = _options(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # let every child be ended
    try:
        return _bench(options)
    except OSError as error:
        raise SetupError(f"{error.strerror}: {error.filename}") from None


if __name__ == "__main__":
    sys.exit(run("bench.py", main))
