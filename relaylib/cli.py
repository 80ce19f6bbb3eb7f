"""What every program here asks of argparse: errors of one line, files of options, checked numbers.

Standard library only, because `client.py` and `tools/fake_vlc.py` run without any installation.

Rejected: argparse's own files of options (`fromfile_prefix_chars`), because its errors cannot say
in which file and line the wrong word stands.
"""

import argparse
import contextlib
import math
import os
import re
import shlex
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

MOST_FILES = 64
"""Files of options that are read for a start: files that name one another could be without end."""

MOST_LETTERS = 1 << 18
"""Letters in all of them: a thousand options with as many comments."""

MOST_WORDS = 4096
"""Words in all of them: argparse takes a quarter of a second for as many."""


def program_name() -> str:
    """Return the name that this program was called by: `relay.py`, or `relay` once installed."""
    return os.path.basename(sys.argv[0])


def is_installed() -> bool:
    """Tell whether this is an installed command; a file in a working copy is none."""
    return "relay_programs" in sys.modules


def client_command() -> str:
    """Return what starts the client here."""
    return "relay-client" if is_installed() else "python3 client.py"


def examples(text: str, file: str, prog: str) -> str:
    """Return the examples of the program in a file as those of one called `prog`, columns kept."""
    if prog == file:
        return text
    use = re.compile(rf"(?:python3 )?{re.escape(file)}(.*?)( {{2,}}|$)", re.MULTILINE)
    return use.sub(lambda at: (prog + at[1] + at[2]).ljust(len(at[0]) if at[2] else 0), text)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line; `hint` ends it."""

    hint = "--help shows how"

    def error(self, message: str) -> NoReturn:
        """Print one line on stderr and exit with status 2."""
        with contextlib.suppress(OSError):
            print(f"{self.prog}: {' '.join(message.split())} ({self.hint})", file=sys.stderr)
        raise SystemExit(2)


class _Word(NamedTuple):
    """A word, and where it stands unless that is the command line: "relay.conf, line 3: "."""

    text: str
    place: str = ""


class _WrongError(Exception):
    """The words cannot be parsed."""


class FileParser(Parser):
    """A parser that puts the words of a file in the place of a word `@file`.

    A file is UTF-8 text. It holds words as a shell would read them, comments, and perhaps the names
    of further files; a quoted word ends on its line. The limits above are for all files together.
    `words` are those that were parsed last.
    """

    words: tuple[str, ...] = ()

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse the words of the command line and of the files that they name.

        Raises:
            SystemExit: after --help or --version (0), or a line on stderr about what is wrong (2).
        """
        try:
            words = _expand([_Word(text) for text in argv])
        except _WrongError as wrong:
            super().error(str(wrong))
        self.words = tuple(word.text for word in words)
        try:
            return self._parse(words)
        except _WrongError as wrong:
            super().error(self._place(words, str(wrong)) + str(wrong))

    def reject(self, message: str) -> NoReturn:
        """Print what is wrong with the words together and exit with status 2."""
        super().error(message)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found; `parse` finds out where."""
        raise _WrongError(message)

    def _parse(self, words: Sequence[_Word]) -> argparse.Namespace:
        return self.parse_args([word.text for word in words])

    def _place(self, words: Sequence[_Word], complaint: str) -> str:
        """Find where the wrong word stands: after it, and not before, the complaint is the same.

        Where an option stands last, without its argument, that alone is the complaint: so two
        prefixes are tried.
        """

        def complains(count: int) -> bool:
            return complaint in (
                self._complaint(words[:count]),
                self._complaint(words[: count + 1]),
            )

        count = bisect_left(range(len(words)), True, key=complains)
        if complaint != self._complaint(words[:count]):
            count += 1
        return words[count - 1].place if 0 < count <= len(words) else ""

    def _complaint(self, words: Sequence[_Word]) -> str:
        try:
            self._parse(words)
        except _WrongError as wrong:
            return str(wrong)
        return ""


@dataclass
class _Room:
    """What may still be read."""

    files: int = MOST_FILES
    letters: int = MOST_LETTERS


def _expand(given: Sequence[_Word]) -> list[_Word]:
    words, most = list[_Word](), max(MOST_WORDS, len(given))
    for word in _expanded(given, (), _Room()):
        if len(words) == most:
            raise _WrongError(f"{word.place}more than {MOST_WORDS} words in files of options")
        words.append(word)
    return words


def _expanded(words: Sequence[_Word], including: tuple[str, ...], room: _Room) -> Iterator[_Word]:
    for word in words:
        if word.text.startswith("@"):
            yield from _expanded(_read(word, including, room), (*including, word.text), room)
        else:
            yield word


def _read(word: _Word, including: tuple[str, ...], room: _Room) -> list[_Word]:
    name = word.text[1:]
    if word.text in including:
        raise _WrongError(f"{word.place}{name} includes itself")
    if not room.files:
        raise _WrongError(f"{word.place}more than {MOST_FILES} files of options")
    room.files -= 1
    try:
        with open(name, encoding="utf-8-sig") as file:
            text = file.read(room.letters + 1)
    except OSError as error:
        raise _WrongError(f"{word.place}cannot read {name}: {error.strerror}") from None
    except ValueError:  # among them: a name with a null byte
        raise _WrongError(f"{word.place}{name} is not text") from None
    if len(text) > room.letters:
        raise _WrongError(f"{word.place}{name}: more than {MOST_LETTERS} letters of options")
    room.letters -= len(text)
    return [
        _Word(text, f"{name}, line {number}: ")
        for number, line in enumerate(text.splitlines(), 1)
        for text in _split(line, f"{name}, line {number}: ")
    ]


def _split(line: str, place: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        raise _WrongError(f"{place}cannot read {line!r}: {error}") from None


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
