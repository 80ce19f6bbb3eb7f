"""What a check returns, and what checks share."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Grade(StrEnum):
    """The meaning of a finding."""

    OK = "ok"
    HINT = "hint"
    """It works, but less well than it could; or it cannot be told from here."""
    WRONG = "wrong"
    """Something will not work."""


Figure = int | float | str | bool | list[str] | None
Figures = Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was found, and what to do about it.

    `name` is its name for programs, `about` for people. `advice` is a sentence, `commands` are what
    to type, a line each. `figures` are for programs; their names keep their meaning.
    """

    name: str
    about: str
    found: str
    grade: Grade = Grade.OK
    advice: str = ""
    commands: tuple[str, ...] = ()
    figures: Figures = field(default_factory=dict)


DATAGRAM = 1316
"""Bytes: seven packets of a transport stream, what nearly every encoder sends."""


def exit_status(findings: Iterable[Finding]) -> int:
    """Return 1 if something will not work, else 0."""
    return int(any(each.grade is Grade.WRONG for each in findings))


def read(path: str | Path) -> str:
    """Return the content of a system file, without the newline; "": it cannot be read."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def read_number(path: str | Path) -> int | None:
    """Return the number in such a file; None: there is none, as in the "max" of a cgroup."""
    text = read(path)
    return int(text) if text.isascii() and text.isdecimal() else None


def size(byte_count: float) -> str:
    """Write a number of bytes as people do: 208 KiB, 8 MiB, 1.5 GiB."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if byte_count >= factor:
            style = ".3g" if byte_count < 1000 * factor else ".0f"
            return f"{byte_count / factor:{style}} {unit}"
    return f"{byte_count:.0f} bytes"


def time(seconds: float) -> str:
    """Write a duration with two digits: 0.45 ms, 39 ms, 770 ms, 1.5 s."""
    value, unit = (seconds, "s") if seconds >= 1 else (seconds * 1000, "ms")
    return f"{float(f'{value:.2g}'):g} {unit}"
