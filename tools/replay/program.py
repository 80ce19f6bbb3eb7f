"""What the programs here share: argument types, one-line errors, signals, the progress line.

They are programs that people stop with Ctrl-C, so SIGINT and SIGTERM are a condition to wait for
(`Interruption`) and not an exception: an exception would come in the middle of a write as well, and
leave half a record at the end of a capture.
"""

import argparse
import contextlib
import re
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from relaylib.cli import number
from relaylib.errors import SetupError


class ReplayError(SetupError):
    """A file that cannot be replayed as asked; `str()` says why, without the name of the file."""


def run(program: str, main: Callable[[], int]) -> int:
    """Run a program's body; a `SetupError` becomes its line on stderr and its exit status."""
    try:
        return main()
    except SetupError as error:
        say(f"{program}: {error}")
        return error.status
    except KeyboardInterrupt:  # before there is an `Interruption` to receive it
        return 130


def say(line: str) -> None:
    """Print a line on stderr; if nobody can read it any more, go on without."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def positive(text: str) -> float:
    """Argument type: a number above 0, such as a factor or seconds."""
    return number(text, 1e-6, 1e9, "a number above 0")


def whole(text: str) -> int:
    """Argument type: a whole number above 0."""
    if text.isascii() and text.isdecimal() and 0 < int(text) < 2**63:
        return int(text)
    raise argparse.ArgumentTypeError(f"not a whole number above 0: {text!r}")


def milliseconds(text: str) -> float:
    """Argument type: a time in milliseconds, returned in seconds."""
    return number(text, 0, 60_000, "a time between 0 and 60000 ms") / 1000


def probability(text: str) -> float:
    """Argument type: 0.02 or 2%."""
    if text.endswith("%"):
        return number(text[:-1], 0, 100, "a probability (0.02 or 2%)") / 100
    return number(text, 0, 1, "a probability (0.02 or 2%)")


def bitrate(text: str) -> float:
    """Argument type: bits per second, with k, M or G for their powers of 1000."""
    match = re.fullmatch(r"([0-9.]+)([kKmMgG]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"not a bit rate (5M, 500k or 64000): {text!r}")
    unit = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[match[2].lower()]
    return number(match[1], 1 / unit, 1e12 / unit, "a bit rate (5M, 500k or 64000)") * unit


class Interruption:
    """SIGINT and SIGTERM as something to wait for. A second one ends the program at once."""

    def __init__(self) -> None:
        self.signum: int | None = None
        """The signal that came, or None."""

    def wait(self, timeout: float | None, readable: socket.socket | None = None) -> bool:
        """Wait for `readable` or a signal, at most `timeout` seconds; tell if it is readable."""
        watched = [self._wake] if readable is None else [self._wake, readable]
        return readable in select.select(watched, [], [], timeout)[0]

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        self.signum = signum
        for each in self._old:
            signal.signal(each, signal.SIG_DFL)

    def __enter__(self) -> Self:
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._old_fd = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._old: dict[int, Any] = {
            signum: signal.signal(signum, self._handle)
            for signum in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *exc: object) -> None:
        for signum, handler in self._old.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._old_fd)
        self._wake.close()
        self._waker.close()


class Progress:
    """One line that is rewritten in place: only on a terminal, and not so often that it costs."""

    INTERVAL = 0.2
    """Seconds between updates: smooth enough to watch, nothing next to the work."""

    def __init__(self) -> None:
        self._enabled = sys.stderr.isatty()
        self._next = 0.0
        self._shown = False

    def update(self, line: Callable[[], str]) -> None:
        """Show what `line` returns, if it is time to."""
        if self._enabled and (now := time.monotonic()) >= self._next:
            self._next = now + self.INTERVAL
            self._shown = True
            self._write(f"\r{line()}\x1b[K")

    def clear(self) -> None:
        """Remove the line, so that a lasting one can take its place."""
        if self._shown:
            self._shown = False
            self._write("\r\x1b[K")

    @staticmethod
    def _write(text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


def amount(byte_count: int) -> str:
    """Show a number of bytes: 1316 B, 12.3 kB, 4.56 MB."""
    if byte_count < 1000:
        return f"{byte_count} B"
    return f"{byte_count / 1e3:.1f} kB" if byte_count < 1e6 else f"{byte_count / 1e6:.2f} MB"


def rate(byte_count: int, seconds: float) -> str:
    """Show a bit rate; a dash where there is no time to speak of."""
    if seconds <= 0:
        return "-"
    bits = byte_count * 8 / seconds
    return f"{bits / 1e6:.2f} Mb/s" if bits >= 1e6 else f"{bits / 1e3:.1f} kb/s"
