"""Python's search for cycles, kept from holding up the loop.

A full search looks at every object: with a thousand connections it takes tens of milliseconds, and
with a million objects half a second, in which nothing is read. So what is there at the start is
never searched, and of the rest only what has been made lately: some hundred objects, 0.1 to 0.2 ms,
whatever the relay holds. Cycles that grow older than that stay until a reload. The relay makes
none: `tests/system/test_collector.py` looks for them under load. All else is freed at once, since
Python counts references.

Rejected: no search at all, which would keep cycles that an unforeseen error makes; and a full one
in idle moments, since a stream has none.
"""

import gc

YOUNG = 700
"""Objects made, beyond those freed, between two searches."""

_NEVER = 1 << 30


def search_young_only() -> None:
    """Exempt the objects that exist now; from then on search each new object only once."""
    gc.freeze()
    gc.set_threshold(YOUNG, _NEVER, _NEVER)
