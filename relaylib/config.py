"""The configuration: a frozen dataclass, made from the command line and from nothing else."""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from relaylib import __version__
from relaylib.log import LEVELS

COALESCE_MAX_MS = 100.0
"""A viewer notices more: players buffer a few hundred milliseconds, people feel a zap's delay."""

EXAMPLES = """
examples:
  python relay.py                              listen on every address, port 9000
  python relay.py 192.168.1.5 7000             on one address and another port
  python relay.py :: 9000                      IPv6 and IPv4
  python relay.py 0.0.0.0 9000 --ingest-port 5000
                                               control on TCP 9000, the stream on UDP 5000
  python relay.py --coalesce 0                 forward every datagram at once, at any cost
  python relay.py --log-format json --log-level debug 2>relay.log
"""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be configured. Times are in seconds."""

    host: str = "0.0.0.0"
    port: int = 9000
    ingest_port: int | None = None
    """UDP port of the ingest; None: the same as the control port."""
    coalesce: float | None = None
    """Longest time a datagram may wait for company; None: the relay finds out by itself."""
    segmentation: bool = True
    """Use UDP_SEGMENT where the system has it."""
    source_timeout: float = 2.0
    """Silence after which the ingest is up for another source: longer than any encoder's pause
    between two frames, short enough for a viewer to wait for the standby."""
    log_format: str = "auto"
    log_level: str = "info"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Print one line on stderr and exit."""
        sys.stderr.write(f"{self.prog}: {message} (--help shows how)\n")
        raise SystemExit(2)


def parse(argv: Sequence[str]) -> Config:
    """Make the configuration from the words of the command line.

    Raises:
        SystemExit: after --help or --version (0), or a wrong option (2).
    """
    return Config(**vars(_parser().parse_args(argv)))


def _parser() -> Parser:
    default = Config()
    parser = Parser(
        prog="relay.py",
        description="Relay a live UDP stream to every viewer who asks for it over TCP.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("host", nargs="?", metavar="HOST", default=default.host, help="address to listen on "
        "(%(default)s; :: for IPv6 and IPv4)")  # fmt: skip
    add("port", nargs="?", metavar="PORT", type=_port, default=default.port,
        help="port for control (TCP) and stream (UDP) (%(default)s; 0: any free one)")  # fmt: skip
    add("--ingest-port", metavar="N", type=_port, help="UDP port for the stream, if another")
    add("--coalesce", metavar="MS|auto|0", type=_coalesce, default=default.coalesce,
        help="longest wait of a datagram for company, to save CPU (auto: up to 10 ms "
        "when there are many viewers)")  # fmt: skip
    add("--no-segmentation", dest="segmentation", action="store_false",
        help="never hand whole batches to the kernel (UDP_SEGMENT)")  # fmt: skip
    add("--source-timeout", metavar="S", type=_seconds, default=default.source_timeout,
        help="silence after which another source may take over (%(default)s)")  # fmt: skip
    add("--log-format", choices=("auto", "console", "json"), default=default.log_format,
        help="auto: console on a terminal, JSON lines otherwise")  # fmt: skip
    add("--log-level", choices=tuple(LEVELS), default=default.log_level, help="(%(default)s)")
    add("--version", action="version", version=f"relay {__version__}")
    return parser


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"not a port (0 to 65535): {text!r}")


def _number(text: str, low: float, high: float, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if low <= value <= high:
        return value
    raise argparse.ArgumentTypeError(f"not between {low:g} and {high:g} {unit}: {text!r}")


def _coalesce(text: str) -> float | None:
    if text == "auto":
        return None
    return _number(text, 0, COALESCE_MAX_MS, "ms, nor auto") / 1000


def _seconds(text: str) -> float:
    return _number(text, 0.1, 3600, "seconds")
