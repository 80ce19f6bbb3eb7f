"""The house rules that a program can check: who may import what, and how long things may be."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT

PURE = ("control", "session", "batch", "errors", "moderation", "access", "dialogue", "lineedit")
"""Modules in which nothing happens but computation."""

EFFECTS = {"socket", "selectors", "select", "time", "structlog", "asyncio", "threading"}

SOURCES = sorted(
    path
    for pattern in ("*.py", "relaylib/**/*.py", "tools/**/*.py", "tests/**/*.py")
    for path in ROOT.glob(pattern)
)
PROGRAM = [path for path in SOURCES if path.parent != ROOT / "tests"]
RELAYLIB = sorted((ROOT / "relaylib").glob("*.py"))

LONGEST_FILE, LONGEST_FUNCTION, MEDIAN_FUNCTION = 300, 60, 10


def named(path: Path) -> str:
    """Name a file for pytest's report."""
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    """Return every module that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{named(path)}: relative import"
            module = node.module or ""
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and the length in lines of each function in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or 0) - node.lineno + 1


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_have_no_effects(name: str) -> None:
    """The protocol and its kin import nothing that touches the world or reads a clock."""
    roots = {module.partition(".")[0] for module in imports(ROOT / "relaylib" / f"{name}.py")}
    assert roots & EFFECTS == set()


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_only_pure_modules(name: str) -> None:
    """Purity is not lost through another module of ours."""
    ours = {
        module.split(".")[1]
        for module in imports(ROOT / "relaylib" / f"{name}.py")
        if module.startswith("relaylib.")
    }
    assert ours <= set(PURE)


@pytest.mark.parametrize("path", RELAYLIB, ids=named)
def test_parts_do_not_know_the_programs(path: Path) -> None:
    """Nothing in relaylib imports relay, client, a tool or a test."""
    roots = {module.partition(".")[0] for module in imports(path)}
    assert roots & {"relay", "client", "tools", "tests"} == set()


@pytest.mark.parametrize("path", RELAYLIB, ids=named)
def test_only_the_loop_has_the_clock_and_the_selector(path: Path) -> None:
    """Everyone else is told the time, and asks the loop to wait."""
    wanted = {"time", "selectors", "datetime"} & imports(path)
    assert not wanted or path.name == "loop.py"


@pytest.mark.parametrize("path", [ROOT / "relay.py", ROOT / "client.py", *RELAYLIB], ids=named)
def test_no_framework_and_no_threads(path: Path) -> None:
    """One thread and one loop, written by hand."""
    roots = {module.partition(".")[0] for module in imports(path)}
    forbidden = {"asyncio", "threading", "multiprocessing", "concurrent", "twisted", "trio"}
    assert roots & forbidden == set()


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_files_and_functions_are_short(path: Path) -> None:
    """No file is longer than 300 lines, no function longer than 60."""
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    for name, length in functions(path):
        assert length <= LONGEST_FUNCTION, name


def test_the_median_function_is_ten_lines_or_fewer() -> None:
    """Half of the program's functions fit in ten lines."""
    lengths = [length for path in PROGRAM for _, length in functions(path)]
    assert statistics.median(lengths) <= MEDIAN_FUNCTION


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_files_open_by_explaining_themselves(path: Path) -> None:
    """Every file that has anything in it begins with a docstring."""
    text = path.read_text()
    assert not text or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("test_*.py")), ids=named)
def test_every_test_says_what_it_shows(path: Path) -> None:
    """Each test has a docstring: the behaviour in a sentence."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            assert ast.get_docstring(node), node.name
