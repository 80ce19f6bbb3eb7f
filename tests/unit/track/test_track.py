"""The track: where decoding can start and where it does not go on, among what is there."""

import math
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.config import Config
from relaylib.errors import SetupError
from relaylib.history.history import MARGIN
from relaylib.net.descriptors import Descriptor
from relaylib.track.ring import Ring
from relaylib.track.track import (
    MAX_BREAKS,
    MAX_ENTRIES,
    Break,
    Entry,
    Track,
    TrackState,
    measures,
    open_track,
)
from tests.unit.track.tracks import SIZE, entry, fill, new_track
from tools.lab.web import PACKET, PACKETS, numbers

BYTES = 20 * SIZE


@pytest.fixture
def track() -> Iterator[Track]:
    """A track of twenty datagrams."""
    with new_track(BYTES) as track:
        yield track


def saved(track: Track) -> TrackState:
    """Return what a reload hands over, with a descriptor of its own."""
    state = track.export()
    assert state is not None
    return replace(state, ring=replace(state.ring, memory=Descriptor(os.dup(state.ring.memory))))


def is_shared(state: TrackState, track: Track) -> bool:
    """Tell whether the descriptor still leads to the memory of a track."""
    mine = track.export()
    assert mine is not None
    try:
        return os.path.sameopenfile(state.ring.memory, mine.ring.memory)
    except OSError:
        return False


# --- entry points and breaks

datagrams = st.lists(st.sampled_from(["entry", "break", "plain", "plain"]), max_size=60)


@given(datagrams, st.floats(-5, 70), st.floats(-5, 70), st.integers(-1, 60 * SIZE))
def test_what_is_found_is_what_a_search_would_find(
    kinds: list[str], time: float, since: float, place: int
) -> None:
    """By times and by places; entry points whose packets are gone only if that is wanted."""
    entries, breaks = list[Entry](), list[Break]()
    with new_track(BYTES) as track:
        for number, kind in enumerate(kinds):
            if kind == "entry":
                entries.append(entry(number, packets=number % 3))
                track.mark(entries[-1])
            elif kind == "break":
                track.cut(number - 0.5)
                breaks += [Break(number * SIZE, number - 0.5)] if number else []
            fill(track, number, number + 1)

        def best(of: list[Entry]) -> Entry | None:
            by_then = [each for each in of if each.time <= time]
            return by_then[-1] if by_then else next(iter(of), None)

        there = [each for each in entries if each.at >= track.oldest]
        assert track.entry(time) == best(there)
        assert track.entry_since(time, since) == best([e for e in entries if e.time >= since])
        assert track.entries_behind(place) == [each for each in entries if each.at > place]
        following = (each for each in breaks if each.at > place)
        assert track.break_behind(place) == next(following, None)


def test_breaks_are_between_packets(track: Track) -> None:
    """None before the first packet, and one where several things happen at once."""
    track.cut(-math.inf)
    fill(track, 0, 1)
    track.cut(0.0)
    track.cut(0.5)
    fill(track, 1, 2)
    assert list(track.breaks) == [Break(SIZE, 0.0)]


def test_entry_points_are_remembered_sparsely_in_a_long_track() -> None:
    """However many there are, they reach back over the whole of it, and so many at most."""
    track = Track(Ring(1024.0, BYTES), 1024.0 / MAX_ENTRIES)
    for number in range(10_000):
        track.mark(Entry(number * PACKET, number / 10, None, b"", 0))
    assert track.entries[0].time == 0.0
    assert track.entries[-1].time > 998
    for number in range(2000):
        track.mark(Entry(number * PACKET, 2000.0 + number, None, b"", 0))
    assert len(track.entries) == MAX_ENTRIES
    assert track.entries[-1].time == 3999.0
    track.ring.close()


def test_breaks_that_are_far_behind_are_forgotten(track: Track) -> None:
    """The latest ones are known."""
    for number in range(MAX_BREAKS + 9):
        track.cut(number)
        fill(track, number, number + 1)
    assert len(track.breaks) == MAX_BREAKS
    assert track.breaks[-1].at == (MAX_BREAKS + 8) * SIZE


# --- reloading


def config(**options: object) -> Config:
    """Return a configuration with HTTP."""
    return replace(Config(http=("127.0.0.1", 0)), **options)  # type: ignore[arg-type]


def test_the_next_program_goes_on_with_it() -> None:
    """Packets, entry points and breaks are there, and more of each come."""
    old = open_track(config(), None)
    assert old is not None
    fill(old, 0, 5)
    old.mark(entry(5))
    old.cut(4.0)
    fill(old, 5, 9)
    new = open_track(config(), saved(old), reloaded=True)
    assert new is not None
    new.cut(8.0)
    new.mark(entry(9))
    fill(new, 9, 12)
    data = b"".join(new.pieces(new.oldest, new.end))
    assert list(numbers(data)) == list(range(12 * PACKETS))
    assert list(new.entries) == [entry(5), entry(9)]
    assert list(new.breaks) == [Break(5 * SIZE, 4.0), Break(9 * SIZE, 8.0)]
    for each in (old, new):
        each.ring.close()


def test_another_size_begins_empty() -> None:
    """Memory of another size than is wanted now is let go, with all that was known of it."""
    old = open_track(config(timeshift=60, timeshift_mib=1), None)
    assert old is not None
    fill(old, 0, 5)
    old.mark(entry(2))
    old.cut(4.0)
    state = saved(old)
    assert is_shared(state, old)
    new = open_track(config(timeshift=60, timeshift_mib=2), state, reloaded=True)
    assert new is not None
    assert (new.oldest, new.end, list(new.entries), list(new.breaks)) == (0, 0, [], [])
    assert not is_shared(state, old)
    for each in (old, new):
        each.ring.close()


def test_there_is_none_if_nobody_wants_it() -> None:
    """Where nobody looks into the stream no memory is taken, and what there was is let go."""
    old = open_track(config(), None)
    assert old is not None
    state = saved(old)
    assert open_track(Config(inspect=False), state) is None
    assert not is_shared(state, old)
    old.ring.close()


def test_a_reload_goes_on_without_the_memory_that_it_cannot_have() -> None:
    """A new program does not begin without it; one that has viewers goes on without a track."""
    greedy = config(timeshift=60, timeshift_mib=1 << 40)
    with pytest.raises(SetupError, match="more than the machine has"):
        open_track(greedy, None)
    assert open_track(greedy, None, reloaded=True) is None


@pytest.mark.parametrize(
    ("options", "seconds", "least"),
    [
        ({"http": None}, math.inf, 1 << 17),
        ({"timeshift": 0}, math.inf, 15 << 20),
        ({"timeshift": 60, "timeshift_mib": 64}, 60 + MARGIN, 31 << 20),
    ],
)
def test_how_much_is_kept(options: dict[str, object], seconds: float, least: int) -> None:
    """Little where nobody watches by HTTP, half of what may be kept where somebody goes back."""
    found = measures(config(**options))
    assert found[0] == seconds
    assert least < found[1] <= 2.1 * least
    assert found[1] % PACKET == 0
