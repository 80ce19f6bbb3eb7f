"""Who may send the stream: every case in a table, and any order of them."""

import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.net.address import Address
from relaylib.net.networks import ANY, PRIVATE
from relaylib.stream.source_lock import LockState, SourceLock, Verdict

TIMEOUT = 2.0
ONE: Address = ("192.0.2.1", 1000)
OTHER: Address = ("192.0.2.2", 1000)
NEIGHBOUR: Address = ("192.0.2.1", 1001)
MAPPED: Address = ("::ffff:192.0.2.1", 1000, 0, 0)
FOREIGN: Address = ("198.51.100.1", 1000)
ALLOWED = (ipaddress.ip_network("192.0.2.0/24"),)


def lock(active: Address | None = None, *, silent: bool = False) -> SourceLock:
    """Make a lock in this state, last heard at 10 s."""
    made = SourceLock(ALLOWED, TIMEOUT)
    made.restore(LockState(active, silent, 10.0))
    return made


@pytest.mark.parametrize(
    ("active", "silent", "source", "size", "verdict"),
    [
        (None, False, ONE, 1316, Verdict.STARTED),
        (None, False, MAPPED, 1316, Verdict.STARTED),
        (None, False, ONE, 0, Verdict.EMPTY),
        (None, False, FOREIGN, 1316, Verdict.NOT_ALLOWED),
        (None, False, FOREIGN, 0, Verdict.NOT_ALLOWED),
        (ONE, False, ONE, 1316, Verdict.STREAM),
        (ONE, False, ONE, 0, Verdict.STREAM),
        (ONE, False, OTHER, 1316, Verdict.LOCKED),
        (ONE, False, OTHER, 0, Verdict.LOCKED),
        (ONE, False, NEIGHBOUR, 1316, Verdict.LOCKED),
        (ONE, False, FOREIGN, 1316, Verdict.NOT_ALLOWED),
        (ONE, True, ONE, 1316, Verdict.RESUMED),
        (ONE, True, ONE, 0, Verdict.STREAM),
        (ONE, True, OTHER, 1316, Verdict.TAKEOVER),
        (ONE, True, NEIGHBOUR, 1316, Verdict.TAKEOVER),
        (ONE, True, OTHER, 0, Verdict.EMPTY),
        (ONE, True, FOREIGN, 1316, Verdict.NOT_ALLOWED),
    ],
)
def test_every_case(
    active: Address | None, silent: bool, source: Address, size: int, verdict: Verdict
) -> None:
    """What a datagram is follows from who is active, who sends it, and whether it is empty."""
    made = lock(active, silent=silent)
    assert made.accepts(source, size) is (verdict.accepted and size > 0)
    assert made.offer(source, size, 20.0) is verdict
    state = made.state
    assert state.rejected == (0 if verdict.accepted else 1)
    if verdict.accepted and size:
        assert state == LockState(source, silent=False, last=20.0)
    else:
        assert (state.active, state.silent, state.last) == (active, silent, 10.0)


@pytest.mark.parametrize(
    ("active", "silent", "now", "overdue"),
    [
        (ONE, False, 11.9, False),
        (ONE, False, 12.0, True),
        (ONE, True, 12.0, False),
        (None, False, 12.0, False),
    ],
)
def test_silence_is_overdue_after_the_timeout(
    active: Address | None, silent: bool, now: float, overdue: bool
) -> None:
    """An active source that was last heard `timeout` ago is due to be called silent, once."""
    assert lock(active, silent=silent).overdue(now) is overdue


def test_time_alone_frees_nothing() -> None:
    """However late a stranger comes, the lock holds until the silence has been established."""
    made = lock(ONE)
    assert made.offer(OTHER, 1316, 1e9) is Verdict.LOCKED
    made.fall_silent()
    assert made.offer(OTHER, 1316, 1e9) is Verdict.TAKEOVER


def test_a_restart_keeps_the_lock_unless_its_source_may_not_send_any_more() -> None:
    """A state that is taken over is gone on from; a new configuration may exclude the source."""
    for allowed, kept in ((ANY, ONE), (PRIVATE, None)):
        made = SourceLock(allowed, TIMEOUT)
        made.restore(LockState(ONE, silent=True, last=10.0, rejected=7))
        assert (made.state.active, made.state.rejected) == (kept, 7)
        assert made.offer(("127.0.0.1", 5), 1, 11.0) is (
            Verdict.TAKEOVER if kept else Verdict.STARTED
        )


SOURCES = st.sampled_from([ONE, OTHER, NEIGHBOUR, FOREIGN])
EVENTS = st.tuples(st.sampled_from(["datagram", "heard", "checked"]), SOURCES, st.integers(0, 2))


@given(st.lists(st.tuples(EVENTS, st.floats(0, 3)), max_size=50))
def test_streams_are_never_spliced(events: list[tuple[tuple[str, Address, int], float]]) -> None:
    """In any order of datagrams and looks, sources only change across a silence of `timeout`."""
    made, now, rejected = SourceLock(ALLOWED, TIMEOUT), 0.0, 0
    accepted: list[tuple[Address, float]] = []
    for (event, source, size), pause in events:
        now += pause
        if event == "checked":
            if made.overdue(now):
                made.fall_silent()
        elif event == "heard":
            if (active := made.undisputed) is not None:
                assert made.heard(now) is Verdict.STREAM
                accepted.append((active, now))
        else:
            sure = source == made.undisputed
            verdict = made.offer(source, size, now)
            assert verdict is Verdict.STREAM or not sure
            rejected += not verdict.accepted
            if verdict.accepted and size:
                accepted.append((source, now))
    assert made.state.rejected == rejected
    assert FOREIGN not in [source for source, _ in accepted]
    for (before, then), (after, later) in itertools.pairwise(accepted):
        assert before == after or later - then >= TIMEOUT
