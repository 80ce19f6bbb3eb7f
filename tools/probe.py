"""Tells what a stream is and how healthy: from a UDP port, a transport stream file or a capture.

The findings are `relaylib.media.health`'s; this program brings it datagrams with their times, and
shows them as a table that is redrawn while the stream comes, or as JSON at the end.
"""

import argparse
import dataclasses
import json
import math
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from relaylib.cli import Parser, port
from relaylib.errors import SetupError
from relaylib.media.health import Monitor
from relaylib.net.mrl import Mrl
from tools.probing.inputs import LiveInput, mrl, watch_file
from tools.probing.table import Style, View, table
from tools.replay.program import Interruption, ReplayError, positive, run, say
from tools.replay.tap import Tap

HEALTHY, NOT_HEALTHY, CANNOT_TELL = 0, 1, 2
"""Exit statuses, as grep(1) has them."""

EXAMPLES = """
examples:
  probe.py 5004                          what arrives at this port, until Ctrl-C
  probe.py 192.168.1.5 5004              at this address of the machine alone
  probe.py udp://@239.1.1.1:5004         a multicast group (?iface=eth0: on that interface)
  probe.py udp://10.0.0.5@232.1.1.1:5004 a group, as this source alone sends it
  probe.py 5004 --seconds 10 --json      ten seconds, then one JSON object
  probe.py film.ts                       a file, in the time that its clock (PCR) tells
  probe.py stream.pcapng                 a capture: its largest flow, or --flow ADDRESS:PORT

exit status: 0 healthy, 1 not healthy, 2 it could not be looked at.
"""


def _parser() -> Parser:
    parser = Parser(
        prog="probe.py",
        usage="%(prog)s [options] [HOST] PORT | MRL | FILE",
        description="Tell what a stream is and how healthy, under the names of ETSI TR 101 290.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("words", nargs="+", metavar="PORT, MRL or FILE", help=argparse.SUPPRESS)
    add("--seconds", metavar="S", type=positive, help="stop after this time (of a file: in it)")
    add("--json", action="store_true", help="print one JSON object at the end, and no table")
    add("--flow", metavar="WHICH", help="which flow of a capture: its rank by size, or the "
        "ADDRESS:PORT of one end (default: the largest)")  # fmt: skip
    return parser


def _where(words: Sequence[str]) -> Mrl | Path:
    """Tell ports, MRLs and files from each other."""
    match words:
        case [word] if word.isdecimal():
            return Mrl("udp", "", "", port(word, 1))
        case [word] if "://" in word:
            return mrl(word)
        case [word]:
            return Path(word)
        case [host, number]:
            return Mrl("udp", "", host.strip("[]"), port(number, 1))
        case _:
            raise argparse.ArgumentTypeError(f"too many arguments: {words[2]!r}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status. A signal is a way to end, not a failure."""
    parser = _parser()
    given = parser.parse_intermixed_args(argv)
    try:
        where = _where(given.words)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    if isinstance(where, Path):
        return _probe_file(where, given.flow, given.seconds, given.json)
    if given.flow is not None:
        parser.error("--flow chooses from a capture (pcap, pcapng)")
    try:
        return _probe_port(where, given.seconds, given.json)
    except SetupError as error:
        raise SetupError(str(error), CANNOT_TELL) from None


def _probe_file(path: Path, flow: str | None, seconds: float | None, as_json: bool) -> int:
    monitor = Monitor()
    try:
        with path.open("rb") as file:
            view = watch_file(file, str(path), flow, seconds or math.inf, monitor)
    except ReplayError as error:
        raise SetupError(f"{path}: {error}", CANNOT_TELL) from None
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}", CANNOT_TELL) from None
    return _conclude(monitor, view, as_json)


def _probe_port(where: Mrl, seconds: float | None, as_json: bool) -> int:
    monitor = Monitor()
    with Tap(where) as tap, Interruption() as interruption:
        live = LiveInput(tap, monitor)
        screen = SecondScreen(not as_json and sys.stdout.isatty())
        title = f"port {where.port}" + (f" of {where.host}" if where.is_group else "")

        def view() -> View:
            return View(
                title, live.source, live=True, silent=live.silent(),
                unread=live.unread, others=live.others,
            )  # fmt: skip

        if not screen.on:
            say(f"probing {title}" + ("" if seconds else "; Ctrl-C ends"))
        with screen:
            live.watch(interruption, seconds, lambda: screen.show(monitor, view()))
        return _conclude(monitor, view(), as_json)


class SecondScreen:
    """A terminal's second screen, on which the table is redrawn; the first one keeps its lines."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def show(self, monitor: Monitor, view: View) -> None:
        """Draw the table as it is now, as much of it as there is room for."""
        if self.on:
            height = shutil.get_terminal_size().lines
            lines = [*table(monitor, view, Style(True)), "", "Ctrl-C ends"][: height - 1]
            # Lines are not wrapped (?7l), so that none takes the place of two.
            self._write("\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in lines) + "\x1b[J")

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def __enter__(self) -> None:
        if self.on:
            self._write("\x1b[?1049h\x1b[?25l\x1b[?7l")

    def __exit__(self, *exc: object) -> None:
        if self.on:
            self._write("\x1b[?7h\x1b[?25h\x1b[?1049l")


def _conclude(monitor: Monitor, view: View, as_json: bool) -> int:
    monitor.finish()
    report = monitor.report()
    lines = table(monitor, view, Style(sys.stdout.isatty()))
    _print(json.dumps(dataclasses.asdict(report)) if as_json else "\n".join(lines))
    return HEALTHY if report.is_healthy else NOT_HEALTHY


def _print(text: str) -> None:
    """Print; if nobody reads it any more, the exit status still tells."""
    try:
        print(text, flush=True)
    except OSError:  # what is buffered would be tried again, and fail again, at the very end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(run("probe.py", main))
