"""The matrix of sources and viewers: what is published is what `make matrix` tries."""

from tools.interop import table
from tools.lab.process import ROOT

GOOD: table.Results = dict.fromkeys(table.CELLS, "")


def test_the_published_table_is_the_one_that_is_tried() -> None:
    """Sources and viewers are those of the program, and no cell has failed."""
    assert (ROOT / "docs" / "PLAYERS.md").read_text() == table.page(GOOD)


def test_a_cell_tells_what_failed_and_what_was_not_tried() -> None:
    """One that failed is struck out, one that was not tried is a question mark."""
    results = GOOD | {("fake_vlc", "VLC", "HTTP"): "0 frames"}
    del results["fake_vlc", "mpv", "HLS"]
    ways = "UDP HTTP HLS"
    row = f"| fake_vlc | UDP ~~HTTP~~ HLS | {ways} | UDP HTTP ? | {ways} | ¹ HTTP HLS | ¹ HTTP ² |"
    assert table.markdown(results, ("fake_vlc",)).splitlines()[2:] == [row]
