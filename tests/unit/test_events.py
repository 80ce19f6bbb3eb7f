"""The log is an interface: docs/EVENTS.md names every event and its fields, and no other."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

from tools.lab.process import ROOT

SOURCES = [ROOT / "relay.py", *(ROOT / "relaylib").rglob("*.py")]
LEVELS = {"debug", "info", "warning", "error"}
NOT_FIELDS = {"exc_info"}


def logged() -> Iterator[tuple[str, set[str]]]:
    """Yield name and fields of each event in the code.

    That is in `log.info(...)`, `x.log(log.info, ...)` and `x._log(log.info, ...)`.
    """
    for path in SOURCES:
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            if ast.unparse(call.func.value) == "log" and call.func.attr in LEVELS:
                names = call.args[:1]
            elif call.func.attr in ("log", "_log"):
                names = call.args[1:2]
            else:
                continue
            fields = {word.arg for word in call.keywords if word.arg} - NOT_FIELDS
            for name in names:
                for each in ast.walk(name):
                    if isinstance(each, ast.Constant) and isinstance(each.value, str):
                        yield each.value, fields


def documented() -> dict[str, set[str]]:
    """Return the table of docs/EVENTS.md: fields by event."""
    rows = re.findall(
        r"^\| `(\w+)` \| \w+ \|([^|]*)\|", (ROOT / "docs" / "EVENTS.md").read_text(), re.MULTILINE
    )
    return {name: set(re.findall(r"`(\w+)`", fields)) for name, fields in rows}


def test_every_event_is_documented() -> None:
    """Every event in the code is in docs/EVENTS.md, with all of its fields."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, fields in logged():
        found[name] |= fields
    table = documented()
    assert {name: fields - table.get(name, set()) for name, fields in found.items()} == {
        name: set() for name in found
    }
    assert found.keys() <= table.keys()


def test_every_documented_event_exists() -> None:
    """docs/EVENTS.md names no event that nothing logs."""
    code = "".join(path.read_text() for path in SOURCES)
    assert [name for name in documented() if f'"{name}"' not in code] == []
