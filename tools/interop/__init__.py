"""The parts of `tools/matrix.py`: who sends (`sources`, `camera`), who watches (`viewers`), and
what is shown of it (`table`).

A new source is a row of `sources.SOURCES`, a new viewer one of `viewers.VIEWERS`; docs/PLAYERS.md
gets them by `make matrix ARGS=--publish`.
"""
