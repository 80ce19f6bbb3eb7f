"""What every program here asks of argparse: errors of one line, files of options, checked numbers.

Standard library only, because `client.py` and `tools/fake_vlc.py` run without any installation.
"""

import argparse
import contextlib
import math
import shlex
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and whose @files may have comments."""

    def error(self, message: str) -> NoReturn:
        """Print one line on stderr and exit with status 2."""
        with contextlib.suppress(OSError):
            print(f"{self.prog}: {' '.join(message.split())} (--help shows how)", file=sys.stderr)
        raise SystemExit(2)

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        """Split a line of an @file into words, as a shell would.

        Raises:
            UnicodeError: it is not text; newer Pythons smuggle such bytes in as surrogates.
        """
        arg_line.encode()
        try:
            return shlex.split(arg_line.removeprefix("\ufeff"), comments=True)
        except ValueError as error:
            self.error(f"cannot read {arg_line!r}: {error}")


def host(text: str) -> str:
    """Argument type: a name or an address; IPv6 may be in brackets, as addresses are shown here."""
    if text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} looks like a port: HOST comes before PORT")
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def port(text: str, lowest: int = 0) -> int:
    """Argument type: a TCP or UDP port."""
    if text.isascii() and text.isdecimal() and len(text) <= 5 and lowest <= int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"not a port ({lowest} to 65535): {text!r}")


def number(text: str, low: float, high: float, what: str) -> float:
    """Read a number in a range; `what` completes the message "not ..." ."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if low <= value <= high:
        return value
    raise argparse.ArgumentTypeError(f"not {what}: {text!r}")
