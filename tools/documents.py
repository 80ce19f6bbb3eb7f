"""Make the documents that follow from the options: man pages, completions, tables of options.

    tools/documents.py     write them all; a test says when that has to be done

They are kept with the source, because whoever installs the relay has neither of the packages that
make them (shtab, argparse-manpage). What an option does stands in one place, its `help`, and so
does its default: the last parenthesis at the end or before a semicolon.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

import client
from relaylib import __version__, config
from relaylib.cli import Parser
from tools.lab.process import ROOT

PROGRAMS: dict[str, Callable[[str], Parser]] = {
    "relay": config.make_parser,
    "relay-client": client.make_parser,
}

SUMMARY = {
    "relay": "give one live video stream to everyone who asks for it",
    "relay-client": "ask a relay for its stream, and control it",
}

SYNOPSIS = {
    "relay": "[OPTION...] [HOST [PORT]] [@FILE]",
    "relay-client": "HOST PORT VLCPORT [OPTION...]",
}

SECTIONS = {
    "relay": {
        "SIGNALS": r"""
.TP
.B SIGHUP
Check the program and its options, and reload: nobody is disconnected, nothing is lost.
.TP
.B SIGUSR1
Log a line about everything.
.TP
.BR SIGTERM ", " SIGINT
End, and tell everyone who is connected.
""",
        "EXIT STATUS": """
0 after a signal, 1 if a port cannot be had, 2 for a wrong option.
""",
        "SEE ALSO": r"""
.BR relay\-client (1)
""",
    },
    "relay-client": {
        "SEE ALSO": r"""
.BR relay (1)
""",
    },
}
"""What a man page says besides, in roff."""

COMPLETIONS = {"bash": "{}.bash", "zsh": "_{}", "fish": "{}.fish"}
"""The shells, and what each calls the file that completes a command."""

OPTIONS = """\
# Options

{relay}
They can stand in a file, one or more a line: `relay.py @relay.conf`. `relay.py --check @relay.conf`
says whether they are right. What a reload does with them is in
[OPERATION.md](OPERATION.md#install-and-reload).

## Those of client.py

{relay-client}"""
"""docs/OPTIONS.md: a table of each program."""


def main() -> int:
    """Write what there is to be written; say what has changed."""
    for path, text in documents():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(path.relative_to(ROOT))
    return 0


def documents() -> Iterator[tuple[Path, str]]:
    """Yield every document with the text that it should have."""
    for name in PROGRAMS:
        yield ROOT / "man" / f"{name}.1", man_page(name)
        for shell, file in COMPLETIONS.items():
            yield ROOT / "contrib" / "completion" / file.format(name), completion(name, shell)
    tables = {name: table(name) for name in PROGRAMS}
    yield ROOT / "docs" / "OPTIONS.md", OPTIONS.format_map(tables)


# --- man pages


def man_page(name: str) -> str:
    """Return a program's man page, man(7)."""
    from argparse_manpage.manpage import Manpage  # noqa: PLC0415 - only who makes them has it

    parser = PROGRAMS[name](name)
    examples, _, notes = (parser.epilog or "").strip().partition("\n\n")
    parser.epilog = None
    page = Manpage(parser)
    page.source, page.manual, page.description = f"relay {__version__}", "Relay", SUMMARY[name]
    page.add_section("synopsis", "=", f".B {_roff(name)}\n{_roff(SYNOPSIS[name])}")
    page.add_section("examples", "=", _as_it_is(examples.partition("\n")[2]))
    if notes:
        page.add_section("notes", "=", _as_it_is(notes))
    for heading, text in SECTIONS[name].items():
        page.add_section(heading, "=", text.strip())
    head = f'.TH "{_roff(name.upper())}" "1" "{_released()}" "{page.source}" "{page.manual}"\n'
    return head + str(page).partition("\n")[2]


def _released() -> str:
    """Return the date of this version: that of the day would make each day's page another one."""
    text = (ROOT / "CHANGELOG.md").read_text()
    found = re.search(rf"^## \[{re.escape(__version__)}\] - (\S+)$", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"documents.py: CHANGELOG.md has no date for version {__version__}")
    return found[1]


def _roff(text: str) -> str:
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def _as_it_is(text: str) -> str:
    return f".nf\n{_roff(text)}\n.fi"


# --- completion


def completion(name: str, shell: str) -> str:
    """Return what a shell reads to complete a program's command line."""
    import shtab  # noqa: PLC0415 - only who makes them has it

    parser = PROGRAMS[name](name)
    for action in parser._actions:
        if action.metavar in ("DIR", "FILE"):
            action.complete = {"DIR": shtab.DIRECTORY, "FILE": shtab.FILE}[action.metavar]  # type: ignore[attr-defined]
        if action.option_strings and action.nargs == "?":
            action.nargs, action.choices = 0, None  # its value, if any, stands behind an "="
    return shtab.complete(parser, shell=shell).strip() + "\n"


# --- tables of options


def table(name: str) -> str:
    """Return a program's options in Markdown, grouped and in the order of --help."""
    parser = PROGRAMS[name](name)
    formatter = parser._get_formatter()
    lines = ["| option | default | what |", "|---|---|---|"]
    for group in parser._action_groups:
        actions = [each for each in group._group_actions if _is_told(each)]
        if actions and group.title not in ("positional arguments", "options"):
            lines.append(f"| **{group.title}** | | |")
        for action in actions:
            default, what = _default_and_what(action, formatter._expand_help(action))
            cells = (each.replace("|", "\\|") for each in (_usage(action), default, what))
            lines.append(f"| {' | '.join(cells)} |")
    return "".join(f"{line}\n" for line in lines)


def _is_told(action: argparse.Action) -> bool:
    return "--help" not in action.option_strings and action.help != argparse.SUPPRESS


def _usage(action: argparse.Action) -> str:
    values = action.metavar or "|".join(action.choices or ())
    separator = "" if action.nargs == "?" else " "
    words = separator.join((*action.option_strings[-1:], *([str(values)] if values else ())))
    return f"`{words}`"


def _default_and_what(action: argparse.Action, text: str) -> tuple[str, str]:
    """Part the default from the help; one that can be typed is set as code."""
    if action.nargs == 0:
        return "", text
    said = re.findall(r" \(([^()]*)\)(?=;|$)", text)[-1:]
    default = re.split(r"[,;:] ", said[0])[0] if said else str(action.default or "")
    if default and said == [default]:
        before, _, after = text.rpartition(f" ({default})")
        text = before + after
    typed = (*str(action.metavar).split("|"), *(action.choices or ()))
    is_code = default in typed or default[:1].isdigit()
    return f"`{default}`" if is_code else default, text


if __name__ == "__main__":
    sys.exit(main())
