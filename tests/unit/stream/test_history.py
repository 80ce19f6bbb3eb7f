"""The history: what it keeps is what came, until it is overwritten; and it outlives the program."""

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.config import Config
from relaylib.errors import SetupError
from relaylib.net.descriptors import Descriptor
from relaylib.stream.batch import MAX_BYTES, MAX_DATAGRAMS, Batch, Run
from relaylib.stream.history import AccessPoint, History, Place, open_history

OCTETS = 1 << 18

batches = st.lists(
    st.lists(st.integers(1, 3000), min_size=1, max_size=MAX_DATAGRAMS), min_size=1, max_size=120
)
"""Sizes of datagrams, by batch: in all about one and a half times what the history holds."""


def runs_of(sizes: list[int], first: int) -> tuple[list[Run], list[bytes]]:
    """Make the runs that the ingest would make of datagrams of these sizes, each told apart."""
    batch = Batch()
    sent: list[bytes] = []
    for each in sizes:
        datagram = (first + len(sent)).to_bytes(4, "big") * (each // 4) + bytes(each % 4)
        batch.room()[:each] = datagram
        sent.append(datagram)
        if not batch.add(each):
            break
    return batch.finish(), sent


def write(history: History, sizes: list[list[int]], start: int = 0) -> list[tuple[float, bytes]]:
    """Append batches, one a second; return each datagram with its time."""
    sent: list[tuple[float, bytes]] = []
    for second, each in enumerate(sizes, start):
        runs, datagrams = runs_of(each, len(sent))
        history.append(runs, float(second))
        sent += [(float(second), datagram) for datagram in datagrams]
    return sent


def read(history: History, place: Place, until: float = float("inf")) -> list[bytes]:
    """Read on from a place to the end, as a sender does."""
    got: list[bytes] = []
    while (found := history.read(place, until)) is not None:
        run, place = found
        assert run.count <= MAX_DATAGRAMS
        assert len(run.view) <= MAX_BYTES or run.count == 1
        assert len(run.datagrams()) == run.count
        got += [bytes(each) for each in run.datagrams()]
    return got


@pytest.fixture
def history() -> History:
    return History(1e9, OCTETS)


@given(batches)
def test_it_holds_the_latest_datagrams_as_they_came(sizes: list[list[int]]) -> None:
    """From the oldest place on, what is read is the end of what was written; nothing else."""
    history = History(1e9, OCTETS)
    sent = [datagram for _, datagram in write(history, sizes)]
    got = read(history, Place(history.oldest))
    assert got == sent[len(sent) - len(got) :]
    assert len(got) == len(sent) or sum(map(len, got)) > OCTETS // 2
    history.close()


@given(batches, st.integers(0, 130))
def test_what_came_since_a_time_is_found(sizes: list[list[int]], since: int) -> None:
    """Reading from the place of a time on gives just what came then or later."""
    history = History(1e9, OCTETS)
    sent = write(history, sizes)
    kept = len(read(history, Place(history.oldest)))
    wanted = [datagram for time, datagram in sent[len(sent) - kept :] if time >= since]
    assert read(history, history.find(since)) == wanted
    history.close()


@given(batches, st.integers(0, 130))
def test_nothing_is_read_before_it_is_due(sizes: list[list[int]], until: int) -> None:
    """What came later than asked for is not among what is read."""
    history = History(1e9, OCTETS)
    sent = write(history, sizes)
    due = [datagram for time, datagram in sent if time <= until]
    got = read(history, Place(history.oldest), until)
    assert got == due[len(due) - len(got) :]
    history.close()


def test_it_forgets_what_is_older_than_its_seconds(history: History) -> None:
    """What came more than so many seconds before the newest is not there any more."""
    history.seconds = 3.0
    write(history, [[100]] * 10)
    assert [history[number].time for number in range(history.oldest, history.end)] == [6, 7, 8, 9]


def test_reading_goes_on_in_the_middle_of_a_run(history: History) -> None:
    """A place may be between two datagrams of a run."""
    runs, sent = runs_of([500] * 10, 0)
    history.append(runs, 0.0)
    assert read(history, Place(0, 7)) == sent[7:]


def test_a_place_that_was_overwritten_is_not_there(history: History) -> None:
    """Neither is what was overwritten, nor does the end count as missing."""
    write(history, [[1000] * 50] * 20)
    assert history.oldest > 0
    assert Place(history.oldest - 1) not in history
    assert Place(history.oldest) in history
    assert Place(history.end) in history


@given(batches, batches, st.sampled_from([OCTETS, 2 * OCTETS, OCTETS // 2]))
def test_the_next_program_goes_on_with_it(
    before: list[list[int]], meanwhile: list[list[int]], octets: int
) -> None:
    """What the old program and the stand-in wrote is there, in as much memory as is wanted now."""
    old = History(1e9, OCTETS)
    sent = write(old, before)
    saved = old.export()
    assert saved is not None
    saved = replace(saved, memory=type(saved.memory)(os.dup(saved.memory)))
    new = History.restore(saved, 1e9, octets)
    sent += write(old, meanwhile, len(before))
    new.refresh()
    got = read(new, Place(new.oldest))
    everything = [datagram for _, datagram in sent]
    assert got == everything[len(everything) - len(got) :]
    assert new.end == old.end
    enough = min(OCTETS, octets) // 2 - MAX_BYTES  # what a run at the end may leave unused
    assert len(got) == len(everything) or sum(map(len, got)) > enough
    old.close()
    new.close()


def test_decoding_can_start_at_the_latest_point_before_a_time(history: History) -> None:
    """The point is the latest one until then; before the first one, the first one that is kept."""
    write(history, [[1000] * 50] * 20)
    points = [AccessPoint(number, 0, 0, b"", float(number)) for number in range(0, 20, 4)]
    for point in points:
        history.mark(point)
    assert history.access(17.5) == points[4]
    kept = next(point for point in points if point.number >= history.oldest)
    assert history.access(0.0) == kept


def test_points_are_remembered_sparsely_in_a_long_history() -> None:
    """However many there are, they reach back over the whole of it."""
    history = History(1024.0, OCTETS)
    for number in range(10_000):
        history.mark(AccessPoint(number, 0, 0, b"", number / 10))
    assert history.points[0].time == 0.0
    assert history.points[-1].time > 998


def test_there_is_none_if_nobody_wants_it() -> None:
    """Without inspection and time-shift no memory is taken, and what there was is let go."""
    saved = History(1.0, OCTETS).export()
    assert saved is not None
    assert open_history(Config(inspect=False), saved) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(saved.memory)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no memory that outlives a program")
def test_memory_of_another_size_is_let_go_while_the_stream_goes_on() -> None:
    """After a restart with another size the former memory becomes free, piece by piece."""
    old = History(1e9, 4 << 20)
    saved = old.export()
    assert saved is not None
    kept = os.dup(saved.memory)
    write(old, [[1000] * 60] * 80)
    new = History.restore(saved, 1e9, OCTETS)
    new.refresh()
    assert os.fstat(kept).st_blocks > 0
    write(new, [[1000]] * 10, 80)
    assert os.fstat(kept).st_blocks == 0
    os.close(kept)
    new.close()


def test_a_restart_goes_on_without_the_memory_that_it_cannot_have() -> None:
    """A new program does not begin without it; one that has viewers keeps what there was."""
    greedy = Config(timeshift=60, timeshift_mib=1 << 40)
    with pytest.raises(SetupError, match="more than the machine has"):
        open_history(greedy, None)
    assert open_history(greedy, None, restarted=True) is None
    before = History(1.0, OCTETS)
    sent = [datagram for _, datagram in write(before, [[100], [200]])]
    saved = before.export()
    assert saved is not None
    after = open_history(
        greedy, replace(saved, memory=Descriptor(os.dup(saved.memory))), restarted=True
    )
    assert after is not None
    assert read(after, Place(0)) == sent
    assert after.export() is not None
    before.close()
    after.close()
