"""The house rules that a program can check: which room may know which, and what stays pure."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tools.lab.process import ROOT

EVERYONE = {"relaylib", "config", "cli", "errors", "log", "stdio"}
"""What lies beside the rooms, for all of them."""

PURE_PARTS = {
    "relaylib.net.address",
    "relaylib.net.mrl",
    "relaylib.net.networks",
    "relaylib.net.access",
}
"""What the configuration takes from the rooms: values."""

KNOWS: dict[str, set[str]] = {
    "net": set(),
    "protocol": set(),
    "media": set(),
    "mp4": {"media"},
    "source": {"net", "media"},
    "history": {"net", "media", "source"},
    "outputs": {"net", "media", "source", "history"},
    "track": {"net", "media", "source", "outputs", "history"},
    "snapshot": {"net", "media", "mp4", "source", "outputs", "history", "track"},
    "channel": {"net", "source", "outputs", "history", "track", "snapshot"},
    "viewers": {"net", "protocol", "outputs", "channel"},
    "web": {"net", "media", "mp4", "source", "outputs", "track", "snapshot", "channel"},
    "lifecycle": {
        "net",
        "protocol",
        "media",
        "source",
        "outputs",
        "snapshot",
        "channel",
        "viewers",
        "web",
    },
    "client": {"net", "protocol"},
    "doctor": {"net", "protocol", "media", "source", "outputs", "history", "lifecycle"},
}
"""The rooms, and which others each may import from. Snapshot and channel are rooms of one file."""

PURE = {"protocol", "media", "mp4"}
"""Rooms in which nothing happens but computation."""

PURE_MODULES = {
    "relaylib.errors",
    "relaylib.net.address",
    "relaylib.net.mrl",
    "relaylib.net.networks",
    "relaylib.net.histogram",
    "relaylib.net.source_filter",
    "relaylib.source.batch",
    "relaylib.source.coalescer",
    "relaylib.source.failover",
    "relaylib.source.recognition",
    "relaylib.source.gate",
    "relaylib.source.send_rate",
    "relaylib.outputs.viewer_row",
    "relaylib.net.access",
    "relaylib.viewers.egress",
    "relaylib.web.request",
    "relaylib.web.reply",
    "relaylib.web.stream_state",
    "relaylib.web.playlist",
    "relaylib.client.dialogue",
    "relaylib.client.lineedit",
    "relaylib.client.messages",
    "relaylib.client.recovery",
    "relaylib.client.script",
    "relaylib.client.status",
}
"""Modules elsewhere that are as pure."""

EFFECTS = {"socket", "selectors", "select", "time", "datetime", "os", "structlog"}
FRAMEWORKS = {"asyncio", "threading", "multiprocessing", "concurrent", "twisted", "trio"}
NOT_EVERYWHERE = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
"""Parts of the standard library that some systems lack."""

PROGRAM = sorted([ROOT / "relay.py", ROOT / "client.py", *(ROOT / "relaylib").rglob("*.py")])
TOOLS = sorted((ROOT / "tools").rglob("*.py"))


def module_name(path: Path) -> str:
    """Name a file as `import` does."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PROGRAM}


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def room(module: str) -> str:
    """Return the room, or the file beside the rooms, that a module of `relaylib` is in."""
    return [*module.split("."), ""][1] or "relaylib"


def of(modules: set[str]) -> list[str]:
    """Sort modules, for pytest's report."""
    return sorted(modules)


@pytest.mark.parametrize("module", of({m for m in MODULES if m.startswith("relaylib.")}))
def test_rooms_know_only_what_they_may(module: str) -> None:
    """Data flows one way; nothing in relaylib imports a program, a tool or a test."""
    here = room(module)
    for name in imports(MODULES[module]):
        root = name.partition(".")[0]
        assert root not in {"relay", "client", "tools", "tests"}, name
        if root == "relaylib" and name not in (PURE_PARTS if here in EVERYONE else ()):
            assert room(name) in EVERYONE | {here} | KNOWS.get(here, set()), name


def test_every_room_is_known() -> None:
    """A new folder gets a place in the table above."""
    folders = {path.parent for path in PROGRAM} - {ROOT, ROOT / "relaylib"}
    assert {folder.name for folder in folders} == set(KNOWS) - {"snapshot", "channel"}


def test_no_import_circles() -> None:
    """Modules can be read one after another, each after those that it imports."""
    graph = {
        module: {name for name in imports(path) if name in MODULES} - {module}
        for module, path in MODULES.items()
    }
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    "module", of(PURE_MODULES | {m for m in MODULES if m.split(".")[1:2] and room(m) in PURE})
)
def test_pure_modules_have_no_effects(module: str) -> None:
    """The protocol and its kin touch nothing, read no clock, and import only what is as pure."""
    for name in imports(MODULES[module]):
        assert name.partition(".")[0] not in EFFECTS | FRAMEWORKS
        if name.startswith("relaylib."):
            assert name in PURE_MODULES or room(name) in PURE, name


@pytest.mark.parametrize("module", of(set(MODULES)))
def test_one_thread_one_clock_one_selector(module: str) -> None:
    """Only the loop has the clock and the selector; there is no framework and no thread."""
    roots = {name.partition(".")[0] for name in imports(MODULES[module])}
    assert roots & FRAMEWORKS == set()
    if module.startswith("relaylib.") and module != "relaylib.net.loop":
        assert roots & {"time", "selectors", "datetime"} == set()


def test_every_module_can_be_imported_everywhere() -> None:
    """What only some systems have is imported where it is used, or in a `try`."""
    for module, path in MODULES.items():
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import)]
        names = {alias.name for node in top for alias in node.names}
        assert not names & NOT_EVERYWHERE, module


def test_tools_need_no_pytest() -> None:
    """The harness serves the tools, which are there where nothing is installed for tests."""
    for path in TOOLS:
        assert "pytest" not in {name.partition(".")[0] for name in imports(path)}, path


def test_a_class_name_is_used_once() -> None:
    """A name stands for one thing, in the program and in the tools."""
    places = defaultdict[str, list[str]](list)
    for path in (*PROGRAM, *TOOLS):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module_name(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
