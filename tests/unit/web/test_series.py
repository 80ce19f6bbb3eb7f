"""Points for graphs: one a second, whatever the clock and the relay do."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from relaylib.media.verdict import FAULTS
from relaylib.track.walk import Counts
from relaylib.web.parts import Parts
from relaylib.web.series import POINTS, Series
from relaylib.web.state import SeriesState


class Clock:
    """A loop that turns when it is told to."""

    def __init__(self) -> None:
        self.now, self.wall = 0.0, 1000.0
        self.turns = SimpleNamespace(sum=0.0)
        self.delay = 0.0

    def time(self) -> float:
        """Seconds since the start."""
        return self.now

    def wall_time(self) -> float:
        """Seconds since 1970."""
        return self.wall

    def call_later(self, delay: float, callback: Any) -> None:
        """Remember it."""
        self.delay, self.callback = delay, callback

    def turn(self, late: float = 0.0) -> None:
        """Let the timer run."""
        self.now += self.delay + late
        self.wall += self.delay + late
        self.callback()


@pytest.fixture
def relay() -> Any:
    """What the series looks at."""
    totals = SimpleNamespace(byte_count=0, overflowed=0, found=Counts())
    return SimpleNamespace(
        loop=Clock(), totals=totals, fresh=lambda: SimpleNamespace(totals=totals)
    )


def make(relay: Any, saved: SeriesState | None = None) -> Series:
    """Make a series of it."""
    web = SimpleNamespace(bytes_in_all=0)
    channel = SimpleNamespace(observer=relay)
    parts = SimpleNamespace(loop=relay.loop, channel=channel, web=lambda: web)
    return Series(cast(Parts, parts), saved)


def test_a_point_a_second(relay: Any) -> None:
    """What came, and what a viewer sees going wrong; who asks again gets what is new."""
    series = make(relay)
    for number in range(1, 5):
        relay.totals.byte_count += 1000 * number
        relay.totals.overflowed += number == 2
        relay.totals.found.errors = {FAULTS[0]: number // 3, "PTS_error": 9 * number}
        relay.loop.turn()
    assert (series.end, list(series.errors)) == (1004, [0, 1, 1, 0])
    assert [round(each, -2) for each in series.bitrate] == [8000, 16000, 24000, 32000]
    assert series.since(1002)["errors"] == [1, 0]
    assert series.since(1004)["errors"] == []
    assert series.since(0)["errors"] == [0, 1, 1, 0]


def test_who_was_late_was_not_lost(relay: Any) -> None:
    """A count that falls makes no point negative, and rises from where it was."""
    series = make(relay)
    for lost in (0, 5, 3, 6):
        relay.totals.found.lost = lost
        relay.loop.turn()
    assert list(series.errors) == [0, 5, 0, 1]


def test_time_that_is_missing(relay: Any) -> None:
    """A relay that stood still fills the gap; a clock that jumped begins a new series."""
    series = make(relay)
    relay.loop.turn()
    relay.loop.turn(late=3.0)
    assert (series.end, len(series.bitrate)) == (1005, 5)
    for jump in (5000.0, -3000.0):
        relay.loop.wall += jump
        relay.loop.turn()
        assert len(series.bitrate) == len(series.errors) == 1
        assert series.end == int(relay.loop.wall)


def test_it_travels_and_has_an_end(relay: Any) -> None:
    """The next program goes on with the points, of which there are never more than a page shows."""
    series = make(relay, SeriesState(1000, [1] * POINTS, [2] * POINTS))
    relay.loop.turn()
    saved = series.export()
    assert (saved.end, len(saved.bitrate), len(saved.errors)) == (1001, POINTS, POINTS)
    assert saved.errors[-2:] == [2, 0]
