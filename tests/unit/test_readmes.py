"""The README in two languages: what can be compared is the same in both."""

import re
from collections.abc import Callable

import pytest

from tools.lab.process import ROOT

ENGLISH, SPANISH = ((ROOT / name).read_text() for name in ("README.md", "README.es.md"))


def undrawn(text: str) -> str:
    """Return it without drawings, whose words are translated."""
    return re.sub(r"^```$.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """Return it without lines of code either."""
    return re.sub(r"^ {4}.*$", "", undrawn(text), flags=re.MULTILINE)


def headings(text: str) -> list[str]:
    """Return the level of each heading."""
    return re.findall(r"^(#+) ", prose(text), re.MULTILINE)


def links(text: str) -> list[str]:
    """Return what is linked, without places on the page, whose names are translated."""
    found = re.findall(r'\]\(([^)#]+)\)|src="([^"]+)"', text)
    return [a or b for a, b in found if not a.startswith("README")]


def commands(text: str) -> list[str]:
    """Return the lines of code without their comments, which are translated."""
    lines = re.findall(r"^ {4,8}(?=[^\s#])(.*)$", undrawn(text), re.MULTILINE)
    return [re.split(r"  +#| {3,}", line)[0].rstrip() for line in lines]


def rows(text: str) -> list[int]:
    """Return the cells of each row of each table."""
    return [line.count("|") for line in text.splitlines() if line.startswith("|")]


def options(text: str) -> list[str]:
    """Return the options that are named, in order."""
    return re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)


def names(text: str) -> list[str]:
    """Return what is set as code in a sentence, in any order: no language changes it."""
    found = re.findall(r"`([^`]+)`", prose(text))
    return sorted(re.sub(r"<.*?>", "<>", " ".join(each.split())) for each in found)


def numbers(text: str) -> list[str]:
    """Return the figures, in any order."""
    return sorted(re.findall(r"\d(?:[\d.,]*\d)?", prose(text)))


@pytest.mark.parametrize("of", [headings, links, commands, rows, options, names, numbers])
def test_both_say_the_same(of: Callable[[str], list[object]]) -> None:
    """What does not depend on the language stands in both."""
    assert of(ENGLISH) == of(SPANISH)


@pytest.mark.parametrize("text", [ENGLISH, SPANISH], ids=["en", "es"])
def test_every_link_leads_somewhere(text: str) -> None:
    """Files are there, the other language too, and places on the page are headings of it."""
    slugs = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= slugs
    assert text.count("](README") == 1
    paths = [a or b for a, b in re.findall(r'\]\(([^)#]+)|src="([^"]+)"', text)]
    assert [path for path in paths if "://" not in path and not (ROOT / path).exists()] == []
