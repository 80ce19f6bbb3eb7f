"""What of an RTP stream arrived."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relaylib.media import rtp
from relaylib.media.reception import MAX_MISORDER, REPEATS, InOrder, Reception

Counts = tuple[int, int, int, int]


def packet(sequence: int, timestamp: int = 0, ssrc: int = 1) -> rtp.Packet:
    """Return an RTP packet; counters are wrapped."""
    made = rtp.parse(rtp.header(sequence, timestamp, ssrc) + b"x")
    assert made
    return made


def received(*numbers: int, ssrc: int = 1) -> Counts:
    """Return what is counted after packets with these sequence numbers."""
    reception = Reception()
    for number in numbers:
        reception.add(packet(number, ssrc=ssrc), 0)
    return counts(reception)


def counts(reception: Reception) -> Counts:
    """Lost, reordered, duplicated, restarts."""
    return reception.lost, reception.reordered, reception.duplicated, reception.restarts


@pytest.mark.parametrize("start", [0, 65534, 300_000])
def test_each_fault_is_counted_as_what_it_is(start: int) -> None:
    """Lost, late, twice, late and twice, twice and late: also where the sequence wraps."""
    cases = {
        (0, 1, 2, 3): (0, 0, 0, 0),
        (0, 1, 4, 5): (2, 0, 0, 0),
        (0, 2, 1, 3): (0, 1, 0, 0),
        (0, 3, 1, 2, 4): (0, 2, 0, 0),
        (0, 1, 1, 2): (0, 0, 1, 0),
        (0, 2, 1, 1, 3): (0, 1, 1, 0),
        (1, 0, 2): (0, 1, 0, 0),
        (2, 0, 0, 3): (1, 1, 1, 0),
        (0, 1, 2, 3, 4, 5, 0): (0, 0, 1, 0),
    }
    for order, expected in cases.items():
        assert received(*(start + number for number in order)) == expected, order


def test_a_duplicate_hides_no_loss() -> None:
    """One lost and one twice are one lost and one twice, though as many came as were sent."""
    assert received(0, 1, 1, 3) == (1, 0, 1, 0)


def test_a_source_that_starts_again_lost_nothing() -> None:
    """Another SSRC, or another place in the sequence that goes on, is a restart; a stray is not."""
    reception = Reception()
    for sender, start in ((1, 5), (2, 40_000), (2, 10_000)):
        for number in range(start, start + 10):
            reception.add(packet(number, ssrc=sender), 0)
    assert counts(reception) == (0, 0, 0, 2)
    assert received(0, 1, 30_000, 2, 3) == (0, 0, 0, 0)


STAMPS = ["random", "continuing", "equal", "lower"]


def stamp(kind: str, number: int, step: int) -> int:
    """Return the time stamp of the packet that is `number` packets after the first one."""
    return {
        "random": 0x9ABCDEF0 + number * step,
        "continuing": (5000 + number) * step,
        "equal": 777,
        "lower": number * step,
    }[kind]


@given(
    st.sampled_from(STAMPS),
    st.integers(1, 2 * MAX_MISORDER),
    st.integers(10, 3000),
    st.sampled_from([0.0, 0.2, 5.0]),
)
@example("continuing", 1000, 500, 0.0)
@example("equal", 1000, 500, 0.0)
@example("random", 1000, 500, 0.0)
def test_a_sender_that_starts_again_lower_goes_on(
    kind: str, lower: int, rate: int, pause: float
) -> None:
    """With the same SSRC, whatever its time stamps: within half a second, by all that it sends.

    Where time stamps tell, with the second packet. Nothing is lost, and places go on.
    """
    reception, step = Reception(), 90_000 // rate
    first = 3 * MAX_MISORDER
    for number in range(first):
        before = stamp("equal", 0, 0) if kind == "equal" else (5000 - first + number) * step
        assert reception.add(packet(40_000 + number, before), number / rate) == number + 1
    began, again = first / rate + pause, list[tuple[float, int | None]]()
    for number in range(rate + lower + 10):
        sent = packet(40_000 + first - lower + number, stamp(kind, number, step))
        again.append((number / rate, reception.add(sent, began + number / rate)))
    wait = 1 / rate if kind == "random" else REPEATS + 2 / rate
    late = [place for time, place in again if time >= wait]
    assert late
    assert None not in late
    assert late == list(range(late[0] or 0, (late[0] or 0) + len(late)))
    assert reception.lost == 0
    assert reception.restarts <= 1


@pytest.mark.parametrize("kind", STAMPS)
def test_who_repeats_but_goes_on_has_not_started_again(kind: str) -> None:
    """A network that gives everything twice, up to a second late, is no restart."""
    reception, rate = Reception(), 500
    for number in range(4 * rate):
        now = number / rate
        assert reception.add(packet(number, stamp(kind, number, 180)), now) == number + 1
        if number >= rate:
            old = number - rate
            assert reception.add(packet(old, stamp(kind, old, 180)), now) is None
    assert counts(reception) == (0, 0, 3 * rate, 0)


def test_a_few_that_are_repeated_in_a_silence_are_no_restart() -> None:
    """One after the other, they have to be several; apart from each other, they are none."""
    reception = Reception()
    for number in range(100):
        reception.add(packet(number, number * 90), number / 100)
    for number in (50, 51, 52, 40, 30, 20, 10, 60, 61, 62):
        assert reception.add(packet(number, number * 90), 5.0) is None
    assert counts(reception) == (0, 0, 10, 0)


def test_a_duplicate_may_be_very_late() -> None:
    """Half a second late at 20 Mb/s, a duplicate is neither a loss nor a restart."""
    assert received(*range(1000), 1, *range(1000, 1010)) == (0, 0, 1, 0)


def test_what_is_missing_is_given_up_and_forgotten() -> None:
    """A loss stays counted for good, and costs memory for a while only."""
    reception = Reception()
    for number in range(0, 40 * MAX_MISORDER, 2):
        reception.add(packet(number), 0)
    assert reception.lost == 20 * MAX_MISORDER - 1
    assert len(reception._missing) <= MAX_MISORDER + 1


def test_places_go_on_over_wraps_and_restarts() -> None:
    """Places are those of the packets in the stream, whatever happens to their numbers."""
    reception = Reception()
    numbers = [65534, 65535, 1, 0, 2, 2, *range(30_000, 30_003)]
    places = [reception.add(packet(number), 0) for number in numbers]
    assert places == [1, 2, 4, 3, 5, None, None, 7, 8]


def test_jitter_is_that_of_the_rfc() -> None:
    """Arrivals that are late by turns converge to their size; even ones have none."""
    even, uneven = Reception(), Reception()
    start = (1 << 32) - 9000  # the time stamps wrap
    for index in range(1000):
        stamp, now = start + index * 900, index * 0.01
        even.add(packet(index, stamp), now)
        uneven.add(packet(index, stamp), now + 0.004 * (index % 2))
    assert even.jitter < 1e-9
    assert uneven.jitter == pytest.approx(0.004, rel=0.01)


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 2)), max_size=60))
@example([(0, 0), (0, 1), (0, 0), (65534, 0)])
def test_counts_never_contradict(each: list[tuple[int, int]]) -> None:
    """Whatever comes: nothing is negative, and no place is given out twice."""
    reception = Reception()
    places = [reception.add(packet(number, ssrc=ssrc), 0.0) for number, ssrc in each]
    found = [place for place in places if place is not None]
    assert min(counts(reception)) >= 0
    assert len(found) == len(set(found))


def in_order(places: Iterable[int], gap: float = 0.0) -> list[int]:
    """Return places as `InOrder` gives them, before what is left at the end."""
    order, out = InOrder(), list[int]()
    for index, place in enumerate(places):
        out += [int(payload) for payload, *_ in order.put(place, b"%d" % place, index * gap)]
    return out


def test_late_packets_take_their_places() -> None:
    """What comes late but in time is put in order, from any first place."""
    assert in_order([5, 7, 6, 8, 10, 11, 9]) == [5, 6, 7, 8, 9, 10, 11]


def test_a_missing_packet_is_waited_for_within_bounds() -> None:
    """After some packets, or some time, the stream goes on without it; then it is too late."""
    later = list(range(2, 2 + InOrder.DEPTH + 1))
    assert in_order([0, *later]) == [0, *later]
    assert in_order([0, *later[:-1]]) == [0]
    assert in_order([0, *later, 1, 50]) == [0, *later]
    assert in_order([0, 2, 3, 4], gap=InOrder.WAIT * 0.6) == [0, 2, 3, 4]


def test_all_that_is_held_comes_out_at_the_end() -> None:
    """At the end nothing is kept back, and everything is in order."""
    places = random.Random(3).sample(range(100), 60)
    order = InOrder()
    out = [order.put(place, b"%d" % place, 0.0) for place in places[:20]] + [order.rest()]
    numbers = [int(payload) for part in out for payload, *_ in part]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("missing", [3001, 9500, 32_000])
def test_a_long_hole_of_a_fast_stream_is_a_loss(missing: int) -> None:
    """However many are missing: the time stamps went on with the clock."""
    reception = Reception()
    reception.add(packet(65_000, 90_000), 1.0)
    assert reception.add(packet(65_001 + missing, 180_000), 2.0) == missing + 2
    assert counts(reception) == (missing, 0, 0, 0)


@pytest.mark.parametrize(("stamp", "now"), [(90_000, 2.0), (540_000, 2.0), (90_500, 1.0)])
def test_a_jump_is_none_if_time_stamps_jump_too(stamp: int, now: float) -> None:
    """They stand still, are far ahead, or hardly any time has passed: that is another beginning."""
    reception = Reception()
    reception.add(packet(0, 90_000), 1.0)
    assert reception.add(packet(9000, stamp), now) is None
    assert reception.add(packet(9001, stamp), now) == 3
    assert counts(reception) == (0, 0, 0, 1)
