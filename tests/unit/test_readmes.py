"""The README in two languages: what can be compared is the same in both."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

ENGLISH, SPANISH = (Path(name).read_text() for name in ("README.md", "README.es.md"))


def headings(text: str) -> list[str]:
    """Return the level of each heading."""
    return re.findall(r"^(#+) ", text, re.MULTILINE)


def links(text: str) -> list[str]:
    """Return what is linked, without places on the page, whose names are translated."""
    found = re.findall(r'\]\(([^)#]+)\)|src="([^"]+)"', text)
    return [a or b for a, b in found if not a.startswith("README")]


def commands(text: str) -> list[str]:
    """Return the lines of code without their comments, which are translated."""
    indented = re.findall(r"^ {4}(?=\S)(.*)$", text, re.MULTILINE)
    return [re.split(r"  +#| {3,}", line)[0].rstrip() for line in indented]


def rows(text: str) -> list[int]:
    """Return the cells of each row of each table."""
    return [line.count("|") for line in text.splitlines() if line.startswith("|")]


def words(text: str) -> list[str]:
    """Return the options that are named, in order."""
    return re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)


@pytest.mark.parametrize("of", [headings, links, commands, rows, words])
def test_both_say_the_same(of: Callable[[str], list[object]]) -> None:
    """Headings, links, commands, tables and options stand in both, in the same order."""
    assert of(ENGLISH) == of(SPANISH)


@pytest.mark.parametrize("text", [ENGLISH, SPANISH], ids=["en", "es"])
def test_every_link_leads_somewhere(text: str) -> None:
    """Files are there, and places on the page are headings of it."""
    slugs = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= slugs
    assert [link for link in links(text) if "://" not in link and not Path(link).exists()] == []
