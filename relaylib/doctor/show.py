"""Findings for a person, or for a program.

    hint  receive buffer  208 KiB hold 39 ms of 50 Mb/s
                          Should the machine be busy for longer, datagrams are lost. For 8 MiB:
                            sysctl -w net.core.rmem_max=8388608

A sentence is broken where the terminal ends, a command never: it is to be copied.
"""

import contextlib
import json
import os
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relaylib import __version__
from relaylib.doctor.finding import Finding, Grade, exit_status

_COLOURS = {Grade.OK: "32", Grade.HINT: "33", Grade.WRONG: "1;31"}
_BOLD = "1"

_GRADE, _ABOUT = 5, 14
"""Columns of the grade and of what was looked at: "receive buffer" is the longest."""

_MARGIN = 2 + _GRADE + 2 + _ABOUT + 2
_WIDEST, _NARROWEST = 100, 60


class FindingsView:
    """Writes findings one by one, so that a person sees how far it is."""

    def __init__(self, *, colour: bool, width: int) -> None:
        self._colour = colour
        self._begun = False
        self._width = min(max(width, _NARROWEST), _WIDEST)

    def heading(self, text: str) -> None:
        """Begin a part."""
        write("\n" * self._begun + f"{self._paint(text, _BOLD)}\n")
        self._begun = True

    def finding(self, finding: Finding) -> None:
        """Write one."""
        grade = self._paint(f"{finding.grade.value:<{_GRADE}}", _COLOURS[finding.grade])
        lines = self._wrap(finding.found) or [""]
        head = f"  {grade}  {finding.about:<{_ABOUT}}  {lines[0]}\n"
        more = [" " * _MARGIN + line for line in (*lines[1:], *self._wrap(finding.advice))]
        more += self._commands(finding.commands)
        write(head + "".join(f"{line}\n" for line in more))

    def conclusion(self, findings: Sequence[Finding]) -> None:
        """Say how it is on the whole."""
        wrong = [each.about for each in findings if each.grade is Grade.WRONG]
        hints = [each.about for each in findings if each.grade is Grade.HINT]
        told = f"{len(hints)} hint{'s' * (len(hints) != 1)}" if hints else "no hints"
        if wrong:
            text = f"Something is wrong: {', '.join(dict.fromkeys(wrong))}"
            write(f"\n{self._paint(text, _COLOURS[Grade.WRONG])}; {told}.\n")
        else:
            write(f"\n{self._paint('Nothing is wrong', _COLOURS[Grade.OK])}, {told}.\n")

    def _wrap(self, text: str) -> list[str]:
        return textwrap.wrap(
            _printable(text), self._width - _MARGIN, break_long_words=False, break_on_hyphens=False
        )

    def _commands(self, commands: Sequence[str]) -> list[str]:
        """Set them under the sentence, or further left where one would not fit."""
        longest = max(map(len, commands), default=0)
        indent = " " * max(4, min(_MARGIN + 2, self._width - longest))
        return [indent + self._paint(_printable(command), _BOLD) for command in commands]

    def _paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[m" if self._colour else text


def _printable(text: str) -> str:
    """Spell out what would command a terminal: some of this was told by another program."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def screen() -> FindingsView:
    """Return the screen that stdout is: colours on a terminal, unless NO_COLOR says otherwise."""
    colour = os.isatty(1) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return FindingsView(colour=colour, width=shutil.get_terminal_size().columns)


def as_json(findings: Sequence[Finding]) -> str:
    """Write the one object that programs read."""
    whole = {
        "version": __version__,
        "status": exit_status(findings),
        "checks": list(_plain(findings)),
    }
    return json.dumps(whole, indent=1) + "\n"


def _plain(findings: Sequence[Finding]) -> Iterator[Mapping[str, Any]]:
    for each in findings:
        yield {
            "name": each.name,
            "grade": each.grade.value,
            "found": each.found,
            "advice": each.advice,
            "commands": list(each.commands),
            "figures": dict(each.figures),
        }


def write(text: str) -> None:
    """Write all of it on stdout; a reader that closes the pipe has seen enough."""
    with (
        contextlib.suppress(OSError),
        open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False) as output,
    ):
        output.write(text)
