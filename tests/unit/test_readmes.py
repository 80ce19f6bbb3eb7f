"""The README in two languages: headings, commands and links."""

import re
from collections.abc import Callable

import pytest

from tools.lab.process import ROOT

ENGLISH, SPANISH = ((ROOT / name).read_text() for name in ("README.md", "README.es.md"))


def undrawn(text: str) -> str:
    """Return it without drawings, whose words are translated."""
    return re.sub(r"^```$.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[str]:
    """Return the level of each heading."""
    return re.findall(r"^(#+) ", undrawn(text), re.MULTILINE)


def commands(text: str) -> list[str]:
    """Return the lines of code without their comments, which are translated."""
    lines = re.findall(r"^ {4,8}(?=[^\s#])(.*)$", undrawn(text), re.MULTILINE)
    return [line.partition("  #")[0].rstrip() for line in lines]


@pytest.mark.parametrize("of", [headings, commands])
def test_both_have_the_same(of: Callable[[str], list[str]]) -> None:
    """A heading or a command that is in one is in the other, at the same place."""
    assert of(ENGLISH) == of(SPANISH)


@pytest.mark.parametrize("text", [ENGLISH, SPANISH], ids=["en", "es"])
def test_every_link_leads_somewhere(text: str) -> None:
    """Files are there, and places on the page are headings of it."""
    titles = re.findall(r"^#+ (.*)$", undrawn(text), re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= slugs
    paths = [a or b for a, b in re.findall(r'\]\(([^)#]+)|src="([^"]+)"', text)]
    assert [path for path in paths if "://" not in path and not (ROOT / path).exists()] == []
