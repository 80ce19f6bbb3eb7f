"""The table: a source a row, a viewer a column, in a cell the ways by which it decoded frames."""

from tools.interop.sources import SOURCES
from tools.interop.viewers import REASONS, TRANSPORTS, VIEWERS, WHY_NOT

PAGE = """\
# What plays with what

`make matrix` starts each source in turn, and all viewers watch it at once. A way is in a cell when
the viewer has decoded two seconds of pictures. HTTP is `/live.ts`, in a browser the page; HLS is
`/live.m3u8`, in Chromium a bare `<video>`. Safari and iPhones, which play HLS by themselves, are
not in the table: none was at hand.

{table}
{notes}"""
"""docs/PLAYERS.md."""

NUMBERS = "\u00b9\u00b2\u00b3"

Cell = tuple[str, str, str]
"""Source, viewer, transport."""

Results = dict[Cell, str]
"""What became of each cell: "" for frames, or why there were none."""

CELLS: tuple[Cell, ...] = tuple(
    (source, viewer, transport)
    for source in SOURCES
    for viewer in VIEWERS
    for transport in TRANSPORTS
    if (viewer, transport) not in WHY_NOT
)
"""Everything that can be."""


def markdown(results: Results, sources: tuple[str, ...] = tuple(SOURCES)) -> str:
    """Return the table."""
    rows = [("", *VIEWERS), (":--",) * (len(VIEWERS) + 1)]
    rows += [
        (source, *(" ".join(_ways(results, source, viewer)) for viewer in VIEWERS))
        for source in sources
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _ways(results: Results, source: str, viewer: str) -> list[str]:
    ways = []
    for transport in TRANSPORTS:
        if (why := WHY_NOT.get((viewer, transport))) is not None:
            ways.append(NUMBERS[REASONS.index(why)])
        elif (source, viewer, transport) not in results:
            ways.append("?")
        else:
            ways.append(f"~~{transport}~~" if results[source, viewer, transport] else transport)
    return ways


def page(results: Results) -> str:
    """Return docs/PLAYERS.md."""
    return PAGE.format(table=markdown(results), notes=notes())


def notes() -> str:
    """Say what the numbers in the table stand for."""
    return "".join(f"{NUMBERS[at]} {reason}.\n" for at, reason in enumerate(REASONS))
