"""How long datagrams may gather: the cap, and when gathering is worth it."""

from hypothesis import given
from hypothesis import strategies as st

from relaylib.source.batch import MAX_DATAGRAMS
from relaylib.source.coalescer import Coalescer

COSTS = st.floats(0, 0.05)
INTERVALS = st.floats(1e-6, 0.1)


def settled(coalescer: Coalescer, cost: float, per_second: float) -> float:
    """Return the wait once a stream of this rate, and turns of this cost, have gone on for long."""
    now, wait = 0.0, 0.0
    for _ in range(500):
        gathered = max(1, round((wait + cost) * per_second))
        now += max(wait + cost, gathered / per_second)
        wait = coalescer.wait(now, cost, gathered)
    return wait


@given(st.sampled_from([None, 0.0, 0.002, 0.005, 0.1]), COSTS, INTERVALS)
def test_the_added_delay_never_passes_its_cap(
    fixed: float | None, cost: float, interval: float
) -> None:
    """The wait and the turns around it together add no more than asked for: 10 ms by default."""
    wait = settled(Coalescer(fixed), cost, 1 / interval)
    assert wait >= 0
    assert wait == 0 or wait + 1.5 * cost <= (0.010 if fixed is None else fixed)


def test_zero_never_waits() -> None:
    """With --coalesce 0 every datagram leaves at once, whatever it costs."""
    for cost in (0.0, 0.001, 0.02):
        assert settled(Coalescer(0.0), cost, 5000) == 0


def test_few_outputs_are_served_at_once() -> None:
    """A turn that costs some microseconds is not worth waiting for."""
    assert settled(Coalescer(None), 20e-6, 500) == 0


def test_many_outputs_are_served_in_batches() -> None:
    """A turn that costs much is had less often, up to the cap, if that makes batches."""
    assert settled(Coalescer(None), 0.001, 500) > 0.004
    assert settled(Coalescer(None), 0.0007, 3000) > 0.004


def test_dear_turns_are_worth_a_short_wait() -> None:
    """What gathers during a turn counts, too: dear turns are had less often for a short wait."""
    assert settled(Coalescer(None), 0.003, 500) > 0


def test_one_slow_turn_holds_nothing_back() -> None:
    """One turn that cost much, on a machine with other things to do, is not the rule."""
    coalescer = Coalescer(None)
    assert settled(coalescer, 20e-6, 500) == 0
    assert coalescer.wait(1.0, 0.050, 1) == coalescer.wait(1.002, 20e-6, 1) == 0


def patient(coalescer: Coalescer, per_second: float) -> float:
    """Return the wait where nobody notices, once a stream of this rate has gone on for long."""
    now, wait = 0.0, 0.0
    for _ in range(300):
        gathered = max(1, round(wait * per_second))
        now += gathered / per_second
        wait = coalescer.wait(now, 20e-6, gathered, patient=True)
    return wait


def test_where_nobody_notices_datagrams_gather_for_longer() -> None:
    """However little a turn costs; unless a time was asked for."""
    assert 0.015 < patient(Coalescer(None), 760) <= Coalescer.PATIENT
    assert patient(Coalescer(0.0), 760) == 0
    assert patient(Coalescer(0.005), 760) < 0.005


def test_the_wait_where_nobody_notices_ends_at_half_a_batch() -> None:
    """A fast stream would overflow a small receive buffer; below the cap it does not, either."""
    for per_second in (1900, 3000, 5000):
        assert patient(Coalescer(None), per_second) * per_second <= MAX_DATAGRAMS
    assert patient(Coalescer(None), 2400) * 2400 <= MAX_DATAGRAMS / 2
    assert patient(Coalescer(None), 100_000) <= Coalescer.CAP


def test_what_would_gather_nothing_is_not_tried() -> None:
    """A stream of few datagrams a second is not delayed: no second one would come in time."""
    assert settled(Coalescer(None), 0.001, 20) == 0
