"""The history: what it keeps is what came, until it is overwritten; and it outlives the program."""

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.config import Config
from relaylib.errors import SetupError
from relaylib.history.history import History, HistoryState, Place, open_history
from relaylib.net.descriptors import Descriptor
from relaylib.source.batch import MAX_BYTES, MAX_DATAGRAMS, Batch, Run

BYTES = 1 << 18

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
    return History(1e9, BYTES)


@given(batches)
def test_it_holds_the_latest_datagrams_as_they_came(sizes: list[list[int]]) -> None:
    """From the oldest place on, what is read is the end of what was written; nothing else."""
    history = History(1e9, BYTES)
    sent = [datagram for _, datagram in write(history, sizes)]
    got = read(history, Place(history.oldest))
    assert got == sent[len(sent) - len(got) :]
    assert len(got) == len(sent) or sum(map(len, got)) > BYTES // 2
    history.close()


@given(batches, st.integers(0, 130))
def test_what_came_since_a_time_is_found(sizes: list[list[int]], since: int) -> None:
    """Reading from the place of a time on gives just what came then or later."""
    history = History(1e9, BYTES)
    sent = write(history, sizes)
    kept = len(read(history, Place(history.oldest)))
    wanted = [datagram for time, datagram in sent[len(sent) - kept :] if time >= since]
    assert read(history, history.find(since)) == wanted
    history.close()


@given(batches, st.integers(0, 130))
def test_nothing_is_read_before_it_is_due(sizes: list[list[int]], until: int) -> None:
    """What came later than asked for is not among what is read."""
    history = History(1e9, BYTES)
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


def copied(history: History) -> HistoryState:
    """Return what a reload hands over, with a descriptor of its own."""
    saved = history.export()
    assert saved is not None
    return replace(saved, memory=Descriptor(os.dup(saved.memory)))


def is_shared(saved: HistoryState, history: History) -> bool:
    """Tell whether the descriptor still leads to the memory of a history."""
    mine = history.export()
    assert mine is not None
    try:
        return os.path.sameopenfile(saved.memory, mine.memory)
    except OSError:
        return False


@given(batches, batches)
def test_the_next_program_goes_on_with_it(
    before: list[list[int]], meanwhile: list[list[int]]
) -> None:
    """What the old program and the stand-in wrote is there, and is gone on with."""
    old = History(1e9, BYTES)
    sent = write(old, before)
    new = History(1e9, BYTES, copied(old))
    sent += write(old, meanwhile, len(before))
    new.refresh()
    assert (new.oldest, new.end) == (old.oldest, old.end)
    sent += write(new, [[1000]] * 10, len(before) + len(meanwhile))
    got = read(new, Place(new.oldest))
    everything = [datagram for _, datagram in sent]
    assert got == everything[len(everything) - len(got) :]
    assert len(got) == len(everything) or sum(map(len, got)) > BYTES // 2
    old.close()
    new.close()


@given(batches, st.data())
def test_a_byte_is_found_in_its_datagram(sizes: list[list[int]], data: st.DataObject) -> None:
    """Each byte that is there belongs to one datagram; what is overwritten or unused to none."""
    history = History(1e9, BYTES)
    write(history, sizes)
    number = data.draw(st.integers(history.oldest, history.end - 1))
    record = history[number]
    at = data.draw(st.integers(0, record.byte_count - 1))
    datagram, offset = divmod(at, record.size)
    assert history.locate(record.start + at) == (Place(number, datagram), offset)
    behind = record.start + record.byte_count
    following = history[number + 1].start if number + 1 < history.end else None
    found = history.locate(behind)
    assert found == (None if following != behind else (Place(number + 1), 0))
    if history.oldest:
        assert history.locate(history[history.oldest].start - 1) is None
    history.close()


def test_there_is_none_if_nobody_wants_it() -> None:
    """Without inspection and time-shift no memory is taken, and what there was is let go."""
    saved = History(1.0, BYTES).export()
    assert saved is not None
    assert open_history(Config(inspect=False), saved) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(saved.memory)


def test_another_size_begins_empty() -> None:
    """Memory of another size than is wanted now is let go, and nothing of it is taken over."""
    config = Config(timeshift=60, timeshift_mib=1)
    old = open_history(config, None)
    assert old is not None
    write(old, [[1000] * 60] * 5)
    same = open_history(config, copied(old))
    assert same is not None
    assert len(read(same, Place(0))) == 300
    saved = copied(old)
    assert is_shared(saved, old)
    other = open_history(Config(timeshift=60, timeshift_mib=2), saved)
    assert other is not None
    assert (other.oldest, other.end, other.capacity) == (0, 0, 2 << 20)
    assert not is_shared(saved, old)
    for each in (old, same, other):
        each.close()


def test_a_reload_goes_on_without_the_memory_that_it_cannot_have() -> None:
    """A new program does not begin without it; one that has viewers goes on without a history."""
    greedy = Config(timeshift=60, timeshift_mib=1 << 40)
    with pytest.raises(SetupError, match="more than the machine has"):
        open_history(greedy, None)
    assert open_history(greedy, None, reloaded=True) is None
    before = History(1.0, BYTES)
    saved = copied(before)
    assert open_history(greedy, saved, reloaded=True) is None
    assert not is_shared(saved, before)
    before.close()
