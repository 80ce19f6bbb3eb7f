"""Links of the documents lead somewhere; docs/STATUS.md has every status of HTTP."""

import re
from pathlib import Path

import pytest

from tools.lab.process import ROOT

DOCUMENTS = [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    """What a document links to exists."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    assert [each for each in links if not (document.parent / each).exists()] == []


def test_every_status_of_http_is_documented() -> None:
    """docs/STATUS.md has each status of an error in the code, and no other."""
    code = "".join(path.read_text() for path in (ROOT / "relaylib" / "web").glob("*.py"))
    raised = re.findall(r"HttpError\(\s*(\d{3})\b(?: if .*? else (\d{3})\b)?", code)
    answered = re.findall(r"Response\([^()]*, (4\d\d)\)", code)
    table = (ROOT / "docs" / "STATUS.md").read_text().partition("## Errors")[2]
    listed = re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
    found = {*answered, *(status for pair in raised for status in pair if status)}
    assert {each for cell in listed for each in cell.split(", ")} == found
