"""When streams are written, and how much at once."""

from relaylib.net.loop import Loop
from relaylib.web.pace import LARGEST, PER_TURN, Pace
from tools.lab.inprocess import running_loop, turn_until


class Stream:
    """The live stream: so many bytes come each time somebody asks."""

    def __init__(self, loop: Loop, rate: float) -> None:
        self._loop, self._rate, self._begun = loop, rate, loop.time()

    def byte_count(self) -> int:
        """Count."""
        return int((self._loop.time() - self._begun) * self._rate)


class Writer:
    """Writes down when it may write, and how much."""

    def __init__(self) -> None:
        self.writes: list[tuple[float, int]] = []

    def write_on(self, until: float, most: int) -> None:
        """Write nothing."""
        self.writes.append((until, most))

    def abort(self, reason: str) -> None:
        """Not be told to."""
        raise AssertionError(reason)


def test_all_are_written_each_time_and_the_loop_turns_meanwhile() -> None:
    """More writers than a turn writes all have their turn, at one time, before the next comes."""
    with running_loop() as loop:
        pace = Pace(loop, 0.01, Stream(loop, 1e6).byte_count)
        writers, turns = [Writer() for _ in range(3 * PER_TURN)], [0]
        for writer in writers:
            pace.add(writer)

        def count() -> None:
            turns[0] += 1
            loop.call_soon(count)

        loop.call_soon(count)
        turn_until(loop, lambda: all(len(each.writes) >= 5 for each in writers), "five rounds")
        assert turns[0] > 10
        for index in range(5):
            assert len({each.writes[index][0] for each in writers}) == 1


def test_who_has_gone_is_not_written() -> None:
    """One that another one's write removes has no turn any more; the timer ends with the last."""
    with running_loop() as loop:
        pace = Pace(loop, 0.01, lambda: 0)
        second = Writer()

        class First(Writer):
            """Removes both."""

            def write_on(self, until: float, most: int) -> None:
                """Remove."""
                super().write_on(until, most)
                pace.remove(self)
                pace.remove(second)

        first = First()
        pace.add(first)
        pace.add(second)
        turn_until(loop, lambda: first.writes, "the first")
        third = Writer()
        turn_until(loop, lambda: not pace.is_running, "the end of the timer")
        pace.add(third)
        turn_until(loop, lambda: third.writes, "the third")
        assert not second.writes
        assert len(first.writes) == 1


def test_a_write_fits_the_buffer() -> None:
    """A stream of many bits is written more often; who is behind gets some times as much."""
    with running_loop() as loop:
        pace = Pace(loop, 0.05, Stream(loop, 100e6 / 8).byte_count)
        writer = Writer()
        pace.add(writer)
        turn_until(loop, lambda: len(writer.writes) > 9, "some writes")
        assert pace.period < 0.05
        assert abs(pace.most - 4 * LARGEST) < LARGEST


def test_a_bug_in_a_write_stops_nobody() -> None:
    """The one that it meets is ended; the others are written."""
    bugs: list[Exception] = []
    loop = Loop(bugs.append)
    pace, after = Pace(loop, 0.01, lambda: 0), Writer()

    class Broken(Writer):
        """Fails."""

        def write_on(self, until: float, most: int) -> None:
            """Fail."""
            raise ZeroDivisionError

        def abort(self, reason: str) -> None:
            """Go."""
            assert reason == "bug"
            pace.remove(self)

    pace.add(Broken())
    pace.add(after)
    turn_until(loop, lambda: after.writes, "the other")
    loop.close()
    assert len(bugs) == 1
