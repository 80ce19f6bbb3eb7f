"""A script of commands, for a client without a person. Pure.

One command a line (or between semicolons, where the script stands on the command line); `#` begins
a comment; `ESPERAR 5` waits five seconds. It is read and checked as a whole before the first
command: a typing error in the last line shall not show after an hour.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from relaylib.client.dialogue import explain, read_command
from relaylib.client.messages import say
from relaylib.errors import PeerError, SetupError
from relaylib.protocol.commands import MAX_SECONDS, Command, Verb
from relaylib.protocol.lines import MAX_LINE

WAIT = "ESPERAR"

_WAIT = re.compile(rb"ESPERAR\s+(\d{1,5}(?:[.,]\d{1,3})?)", re.IGNORECASE)

_COMMAND = re.compile(
    f"(?:{'|'.join([WAIT, *(verb.value for verb in Verb)])})" + r"(?=[\s;\d-]|\Z)", re.IGNORECASE
)
"""A word that is no name of a file: a file with such a name can be given as ./CONECTAR."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command, or None and the seconds to wait. `text` is as it was written, `place` where."""

    command: Command | None
    seconds: float
    text: str
    place: str


def is_script(word: str) -> bool:
    """Tell a script on the command line from the name of a file that has one."""
    return _COMMAND.match(word.strip()) is not None


def read_script(data: bytes, name: str, port: int) -> list[Step]:
    """Read a whole script; a bare CONECTAR asks for `port`.

    Raises:
        SetupError: a line is no command; exit status 2.
    """
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()
    return [
        step
        for number, line in enumerate(lines, 1)
        for step in _steps(line, say("{name}, line {number}", name=name, number=number), port)
    ]


def read_words(word: str, port: int) -> list[Step]:
    """Read a script that stands on the command line; errors as `read_script`."""
    commands = word.encode("utf-8", "surrogateescape").split(b";")
    return [step for line in commands for step in _steps(line, "--script", port)]


def _steps(line: bytes, place: str, port: int) -> Iterator[Step]:
    line = line.partition(b"#")[0].strip()
    if not line:
        return
    if len(line) > MAX_LINE:
        raise SetupError(say("{place}: too long to be a command", place=place), 2)
    if match := _WAIT.fullmatch(line):
        seconds = float(match[1].replace(b",", b"."))
        if seconds <= MAX_SECONDS:
            yield Step(None, seconds, line.decode("ascii"), place)
            return
    if line.split()[0].upper() == WAIT.encode():
        raise SetupError(
            say("{place}: ESPERAR takes seconds, up to {most}", place=place, most=MAX_SECONDS), 2
        )
    try:
        command = read_command(line, port)
    except PeerError:
        raise SetupError(f"{place}: {explain(line)}", 2) from None
    if command is not None:
        yield Step(command, 0.0, line.decode("ascii"), place)
