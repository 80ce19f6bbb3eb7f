"""The ring: the latest bytes as they came and when, as if nothing had been thrown away before."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.net.descriptors import Descriptor
from relaylib.track.ring import GRAIN, Ring
from tools.lab.web import PACKET, numbers, packet

PACKETS = 40
"""Room of a ring in these tests."""

A_MOMENT = 512
"""Bytes of data for which there is a moment of the index."""


def of(first: int, count: int) -> bytes:
    """Make some packets."""
    return b"".join(packet(first + each) for each in range(count))


@dataclass
class Model:
    """What a ring has to know, without a bound: the whole stream, and when each packet came."""

    seconds: float
    byte_count: int
    times: list[float] = field(default_factory=list)
    moments: list[tuple[float, int]] = field(default_factory=list)
    oldest: int = 0
    latest: float = -math.inf

    @property
    def end(self) -> int:
        return len(self.times) * PACKET

    def append(self, count: int, time: float) -> None:
        if time - self.latest >= GRAIN:
            self.latest = time
            self.moments.append((time, self.end))
            young = [at for begun, at in self.moments if begun >= time - self.seconds]
            remembered = [at for _, at in self.moments[-(self.byte_count // A_MOMENT) :]]
            self.oldest = max(self.oldest, young[0], remembered[0])
        self.times += [self.latest] * count
        self.oldest = max(self.oldest, self.end - self.byte_count)

    def find(self, time: float) -> int:
        found = (at for at in range(self.oldest, self.end, PACKET) if self.time(at) >= time)
        return next(found, self.end)

    def time(self, place: int) -> float:
        return self.times[min(place // PACKET, len(self.times) - 1)]


def check(ring: Ring, model: Model, place: int, length: int, time: float) -> None:
    """Compare all that can be asked, at one place and one time."""
    assert (ring.oldest, ring.end) == (model.oldest, model.end)
    kept = b"".join(ring.pieces(ring.oldest, ring.end))
    assert list(numbers(kept)) == list(range(ring.oldest // PACKET, ring.end // PACKET))
    begin = ring.oldest + place % (len(kept) + 1)
    end = min(begin + length, ring.end)
    pieces = ring.pieces(begin, end)
    assert b"".join(pieces) == kept[begin - ring.oldest : end - ring.oldest]
    assert len(pieces) <= 2
    assert all(len(each) for each in pieces)
    if ring.end > ring.oldest:
        assert ring.time(begin) == model.time(begin)
        assert ring.time(ring.end) == model.time(model.end)
        assert ring.find(time) == model.find(time)


def handed_over(ring: Ring, seconds: float) -> Ring:
    """Return what the next program makes of it."""
    saved = ring.export()
    assert saved is not None
    saved.memory = Descriptor(os.dup(saved.memory))
    return Ring(seconds, saved.octets, saved)


appends = st.tuples(st.integers(1, 12), st.sampled_from([0.0, 0.001, 0.004, 0.006, 0.3, 0.8, 3.0]))
looks = st.tuples(st.integers(0, 1 << 20), st.integers(0, PACKETS * PACKET), st.floats(-1, 200))


@given(
    st.lists(st.tuples(appends, looks, st.booleans()), max_size=60),
    st.sampled_from([1.0, math.inf]),
    st.integers(0, PACKET - 1),
)
def test_it_is_what_a_list_would_be(
    steps: list[tuple[tuple[int, float], tuple[int, int, float], bool]],
    seconds: float,
    rest: int,
) -> None:
    """Bounded by bytes, by seconds and by its index, and also where it goes through reloads."""
    ring = Ring(seconds, PACKETS * PACKET + rest)
    model, now = Model(seconds, PACKETS * PACKET), 0.0
    for (count, step), look, reload in steps:
        now += step
        model.append(count, now)
        ring.append(of(ring.end // PACKET, count), now)
        if reload:
            before, ring = ring, handed_over(ring, seconds)
            before.close()
            model.latest = -math.inf
        check(ring, model, *look)
    ring.close()


@pytest.fixture
def ring() -> Iterator[Ring]:
    """A ring without a bound in time."""
    ring = Ring(math.inf, PACKETS * PACKET)
    yield ring
    ring.close()


def test_there_is_nothing_yet(ring: Ring) -> None:
    """An empty ring has one place, at which there is nothing."""
    assert (ring.oldest, ring.end) == (0, 0)
    assert ring.pieces(0, 0) == []
    assert ring.find(-math.inf) == ring.find(math.inf) == 0


def test_what_lies_over_the_end_of_the_memory_is_two_pieces(ring: Ring) -> None:
    """The first place is kept as long as there is room; no packet is cut by the end."""
    ring.append(of(0, 30), 1.0)
    ring.append(of(30, 10), 2.0)
    assert len(ring.pieces(0, ring.end)) == 1
    ring.append(of(40, 15), 3.0)
    assert ring.oldest == 15 * PACKET
    first, second = ring.pieces(ring.oldest, ring.end)
    assert list(numbers(bytes(first))) == list(range(15, 40))
    assert list(numbers(bytes(second))) == list(range(40, 55))


def test_a_piece_over_the_end_is_written_in_two(ring: Ring) -> None:
    """Its packets are whole, and follow those before."""
    ring.append(of(0, 35), 1.0)
    ring.append(of(35, 12), 2.0)
    assert list(numbers(b"".join(ring.pieces(ring.oldest, ring.end)))) == list(range(7, 47))


def test_pieces_are_no_copies(ring: Ring) -> None:
    """Who keeps one sees what overwrites it: that is what makes many readers cheap."""
    ring.append(of(0, 40), 1.0)
    (piece,) = ring.pieces(0, PACKET)
    ring.append(of(40, 1), 2.0)
    assert bytes(piece) == packet(40)


def test_what_is_too_old_is_forgotten() -> None:
    """What came more than so many seconds before the newest, and all that came in its moment."""
    ring = Ring(10.0, PACKETS * PACKET)
    for second in range(14):
        ring.append(of(second, 1), float(second))
    assert ring.oldest == 3 * PACKET
    assert (ring.time(ring.oldest), ring.time(ring.end)) == (3.0, 13.0)
    ring.append(of(14, 1), 1000.0)
    assert ring.oldest == 14 * PACKET
    ring.close()


def test_a_stream_of_few_bytes_has_no_more_moments_than_there_is_room_for(ring: Ring) -> None:
    """What the index does not know any more is gone."""
    for number in range(100):
        ring.append(packet(number), float(number))
    kept = PACKETS * PACKET // A_MOMENT
    assert ring.oldest == (100 - kept) * PACKET
    assert ring.time(ring.oldest) == 100 - kept


def test_moments_are_of_five_milliseconds(ring: Ring) -> None:
    """What came in one is as if it had come at once."""
    for number in range(10):
        ring.append(packet(number), number * GRAIN / 4)
    assert [ring.time(number * PACKET) for number in range(10)] == [
        number // 4 * GRAIN for number in range(10)
    ]
    assert ring.find(GRAIN) == 4 * PACKET


def test_more_memory_than_the_machine_has() -> None:
    """That is found out when it is made."""
    with pytest.raises(OSError, match="more than the machine has"):
        Ring(math.inf, 1 << 60)
