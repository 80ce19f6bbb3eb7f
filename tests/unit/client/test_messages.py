"""Everything is said in two languages."""

import argparse
import ast
import inspect
import re
from collections.abc import Iterator

import pytest

from relaylib.client import messages
from relaylib.client.messages import SPANISH, language, say, use
from tools.lab.process import ROOT

SOURCES = [ROOT / "client.py", *sorted((ROOT / "relaylib" / "client").glob("*.py"))]
_PLACEHOLDER = re.compile(r"\{[^}]*\}|%\(\w+\)\w|%\w")


def texts() -> Iterator[str]:
    """Every text in the code that is said, or kept to be said."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                first = node.args[0] if node.args else None
                if name in ("say", "text") and isinstance(first, ast.Constant):
                    yield str(first.value)


def test_every_text_is_translated_and_no_other() -> None:
    """The table has what the code says, the two long texts, and what argparse says by itself."""
    said = {*texts(), messages.HELP, messages.EXAMPLES}
    assert said - set(SPANISH) == set()
    argparse_says = {text for text in SPANISH if repr(text)[1:-1] in inspect.getsource(argparse)}
    assert set(SPANISH) - said - argparse_says == set()


def test_the_placeholders_are_the_same() -> None:
    """Each translation is filled in with the same values, formatted in the same way."""
    for english, spanish in SPANISH.items():
        found = [sorted(_PLACEHOLDER.findall(each)) for each in (english, spanish)]
        assert found[0] == found[1], english


def test_help_fits_the_terminal() -> None:
    """The long texts have no line that a terminal of 80 columns would wrap."""
    for long in (messages.HELP, messages.HELP_ES, messages.EXAMPLES, messages.EXAMPLES_ES):
        assert max(len(line) for line in long.splitlines()) < 80


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({}, "en"),
        ({"LANG": "es_ES.UTF-8"}, "es"),
        ({"LANG": "es"}, "es"),
        ({"LANG": "ES_MX"}, "es"),
        ({"LANG": "es@euro"}, "es"),
        ({"LANG": "est_EE"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "es_ES", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ({"LANG": "en_GB", "LC_MESSAGES": "en_GB", "LC_ALL": "es_AR"}, "es"),
        ({"LANG": "es_ES", "LC_MESSAGES": "", "LC_ALL": ""}, "es"),
    ],
)
def test_the_locale_decides(environ: dict[str, str], code: str) -> None:
    """LC_ALL before LC_MESSAGES before LANG, each unless it is empty, as in locale(7)."""
    assert language(environ) == code


def test_the_language_can_be_changed() -> None:
    """What is not in the table, such as argparse's rarer words, stays English."""
    use("es")
    try:
        assert say("unknown host: {host}", host="x") == "host desconocido: x"
        assert say("not in the table") == "not in the table"
    finally:
        use("en")
    assert say("unknown host: {host}", host="x") == "unknown host: x"


def test_a_terminal_without_accents_gets_none() -> None:
    """Where the character set lacks a letter, its plain form is written; others are spelled out."""
    assert "conexión perdida: ñ \u20ac".encode("ascii", messages.PLAIN) == (
        rb"conexion perdida: n \u20ac"
    )
