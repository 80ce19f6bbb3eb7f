"""What is told of the present source: nothing that was the former one's."""

from types import SimpleNamespace
from typing import Any, cast

from relaylib.media.clock import Clock
from relaylib.media.elementary import RandomAccess
from relaylib.media.mpegts import PCR_HZ
from relaylib.media.tr101290 import Errors
from relaylib.stream.inspection import Counts, Inspection
from relaylib.stream.present import Present


class Stream:
    """An inspection that has found what it is told."""

    def __init__(self) -> None:
        self.access = RandomAccess()
        self.clock = Clock(Errors())
        elementary = SimpleNamespace(random_access=self.access)
        main = SimpleNamespace(elementary=elementary)
        monitor = SimpleNamespace(main_stream=main, clock=self.clock)
        self.found: Any = SimpleNamespace(counts=Counts(), monitor=monitor)

    def lose(self, packets: int) -> None:
        """Find so many packets more to be missing."""
        self.found.counts = Counts(
            lost=self.found.counts.lost + packets,
            errors={"Continuity_count_error": self.found.counts.lost + packets},
        )

    @property
    def inspection(self) -> Inspection:
        return cast(Inspection, self.found)

    def points(self, *times: float) -> None:
        """Find random access points."""
        for each in times:
            self.access.add(each)


def test_the_first_source_has_all_that_was_found() -> None:
    """Nobody sent before it."""
    stream, present = Stream(), Present()
    stream.lose(3)
    stream.points(1.0, 3.0, 5.0)
    assert present.counts(stream.inspection).lost == 3
    assert present.interval(stream.inspection.monitor) == 2.0


def test_errors_end_with_their_source() -> None:
    """What is found until the next look was the former one's; what comes later counts."""
    stream, present = Stream(), Present()
    stream.lose(3)
    present.new_source()
    assert present.counts(stream.inspection) == Counts()
    stream.lose(2)
    present.look(stream.inspection)
    assert present.counts(stream.inspection).lost == 0
    stream.lose(4)
    counts = present.counts(stream.inspection)
    assert (counts.lost, counts.errors) == (4, {"Continuity_count_error": 4})
    assert Present(present.before).counts(stream.inspection) == counts


def test_the_interval_of_access_points_ends_with_its_source() -> None:
    """Neither the former one's points count, nor the gap before the first one of this."""
    stream, present = Stream(), Present()
    monitor = stream.inspection.monitor
    stream.points(1.0, 3.0, 5.0)
    present.new_source()
    assert present.interval(monitor) is None
    present.look(stream.inspection)
    assert present.interval(monitor) is None
    stream.points(60.0)
    assert present.interval(monitor) is None
    present.look(stream.inspection)
    assert present.interval(monitor) is None
    stream.points(60.5, 61.0)
    assert present.interval(monitor) == 0.5


def test_the_bitrate_ends_with_its_source() -> None:
    """It is that of the packets that came since."""
    stream, present = Stream(), Present()
    stream.clock.ticks, stream.clock.packets = PCR_HZ, 1000
    present.new_source()
    present.look(stream.inspection)
    assert present.bitrate(stream.inspection.monitor) is None
    stream.clock.ticks, stream.clock.packets = 3 * PCR_HZ, 1200
    assert present.bitrate(stream.inspection.monitor) == 100 * 188 * 8
