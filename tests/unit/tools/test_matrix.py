"""The matrix of sources and viewers: what is published is what `make matrix` tries."""

from pathlib import Path

import pytest

from tools.interop import table
from tools.lab.process import ROOT

GOOD: table.Results = dict.fromkeys(table.CELLS, "")


@pytest.mark.parametrize("readme", sorted(ROOT.glob("README*.md")), ids=lambda each: each.name)
def test_the_published_table_is_the_one_that_is_tried(readme: Path) -> None:
    """Sources and viewers are those of the program, and no cell has failed."""
    assert readme.read_text().split(table.MARK)[1].strip() == table.markdown(GOOD).strip()


def test_a_cell_tells_what_failed_and_what_was_not_tried() -> None:
    """One that failed is struck out, one that was not tried is a question mark."""
    results = GOOD | {("fake_vlc", "VLC", "HTTP"): "0 frames"}
    del results["fake_vlc", "mpv", "HLS"]
    ways = "UDP HTTP HLS"
    row = f"| fake_vlc | UDP ~~HTTP~~ HLS | {ways} | UDP HTTP ? | {ways} | ¹ HTTP HLS | ¹ HTTP ² |"
    assert table.markdown(results, ("fake_vlc",)).splitlines()[2:] == [row]
