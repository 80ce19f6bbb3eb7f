"""The documents name files that exist; what is said to be an hour of reading is one."""

import re
from pathlib import Path

import pytest

from tools.lab.process import ROOT

DOCUMENTS = [ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
FOLDERS = [ROOT, ROOT / "relaylib", *(ROOT / "relaylib").iterdir()]
"""What a name in a document may be relative to."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_named_exists(document: Path) -> None:
    """Links lead somewhere, and so do the names of Python files."""
    text = document.read_text()
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert [each for each in links if not (document.parent / each).exists()] == []
    files = re.findall(r"`([\w/]+\.py)\b", text)
    assert [name for name in files if not any((top / name).exists() for top in FOLDERS)] == []


def test_the_reading_order_is_an_hour() -> None:
    """The minutes in docs/DESIGN.md add up."""
    table = (ROOT / "docs" / "DESIGN.md").read_text().partition("## An hour of reading")[2]
    assert sum(map(int, re.findall(r"^\| (\d+) \|", table, re.MULTILINE))) == 60


def test_every_status_of_http_is_documented() -> None:
    """docs/STATUS.md has each status of an error in the code, and no other."""
    code = "".join(path.read_text() for path in (ROOT / "relaylib" / "web").glob("*.py"))
    raised = re.findall(r"HttpError\(\s*(\d{3})\b(?: if .*? else (\d{3})\b)?", code)
    answered = re.findall(r"Response\([^()]*, (4\d\d)\)", code)
    table = (ROOT / "docs" / "STATUS.md").read_text().partition("## Errors")[2]
    listed = re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
    found = {*answered, *(status for pair in raised for status in pair if status)}
    assert {each for cell in listed for each in cell.split(", ")} == found
