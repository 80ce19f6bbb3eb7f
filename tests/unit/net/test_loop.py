"""The reactor: sockets, timers, end-of-turn work, bugs and signals."""

import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from relaylib.net.loop import PRIORITY_EVERY, Loop
from tools.lab.inprocess import running_loop, turn_for, turn_until, unexpected

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[selectors.DefaultSelector, selectors.PollSelector])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    """A loop on the system's best selector, and one on a plainer one."""
    with running_loop(request.param()) as made:
        yield made


@pytest.fixture
def pairs() -> Iterator[Callable[[], Pair]]:
    """Make connected sockets that are closed at the end."""
    made: list[socket.socket] = []

    def make() -> Pair:
        pair = socket.socketpair()
        made.extend(pair)
        return pair

    yield make
    for sock in made:
        sock.close()


# --- sockets


def test_readable_is_called_when_something_arrives(loop: Loop, pairs: Callable[[], Pair]) -> None:
    """A watched socket's callback runs when bytes are there, and only then."""
    near, far = pairs()
    got: list[bytes] = []
    loop.watch(near, lambda: got.append(near.recv(10)), broken=unexpected)
    turn_for(loop, 0.02)
    assert got == []
    far.send(b"x")
    turn_until(loop, lambda: got == [b"x"], "the byte")


def test_interest_is_what_a_socket_is_watched_for(loop: Loop, pairs: Callable[[], Pair]) -> None:
    """Reading and writing are watched for separately, and not at all if neither is wanted."""
    near, far = pairs()
    calls: list[str] = []
    loop.watch(
        near,
        lambda: calls.append(f"read {near.recv(1)!r}"),
        writable=lambda: calls.append("write"),
        broken=unexpected,
    )
    far.send(b"xy")
    loop.interest(near, read=False)
    turn_for(loop, 0.02)
    assert calls == []
    loop.interest(near, read=False, write=True)
    turn_until(loop, lambda: calls, "the socket to be writable")
    loop.interest(near, read=True)
    turn_until(loop, lambda: "read b'y'" in calls, "both bytes")
    assert set(calls) == {"write", "read b'x'", "read b'y'"}


def test_a_handler_may_unregister_another_socket_of_its_turn(
    loop: Loop, pairs: Callable[[], Pair]
) -> None:
    """Of two sockets that are ready in one turn, the first one's handler can silence the second."""
    ends, calls = [pairs(), pairs()], list[int]()

    def handler(index: int) -> None:
        calls.append(index)
        loop.discard(ends[1 - index][0])
        loop.unwatch(ends[index][0])

    for index, (near, far) in enumerate(ends):
        loop.watch(near, lambda index=index: handler(index), broken=unexpected)  # type: ignore[misc]
        far.send(b"x")
    turn_for(loop, 0.02)
    assert len(calls) == 1


def test_a_descriptor_is_closed_at_the_end_of_the_turn(
    loop: Loop, pairs: Callable[[], Pair]
) -> None:
    """A discarded socket keeps its number for the rest of the turn, so that no other can get it."""
    near, far = pairs()
    numbers: list[int] = []

    def handler() -> None:
        loop.discard(near)
        numbers.append(near.fileno())

    loop.watch(near, handler, broken=unexpected)
    far.send(b"x")
    turn_until(loop, lambda: near.fileno() < 0, "the socket to be closed")
    assert numbers[0] >= 0


def test_unwatching_twice_is_allowed(loop: Loop, pairs: Callable[[], Pair]) -> None:
    """A socket that is not watched can be unwatched."""
    near, _ = pairs()
    loop.watch(near, unexpected_call, broken=unexpected)
    loop.unwatch(near)
    loop.unwatch(near)
    turn_for(loop, 0)


def unexpected_call() -> None:
    """Stand where no call may come, or be the bug that a test needs."""
    raise AssertionError("must not be called")


def test_the_priority_reader_is_called_in_a_crowd(loop: Loop, pairs: Callable[[], Pair]) -> None:
    """In a turn with many ready sockets the priority reader is called between slow handlers."""
    calls: list[str] = []

    def watch(near: socket.socket) -> None:
        loop.watch(near, lambda: work(near.recv(1).decode()), broken=unexpected)

    def work(name: str) -> None:
        calls.append(name)
        until = loop.time() + PRIORITY_EVERY
        while loop.time() < until:
            pass

    for _ in range(5):
        near, far = pairs()
        watch(near)
        far.send(b"-")
    loop.add_priority_reader(lambda: calls.append("!"))
    turn_until(loop, lambda: len(calls) >= 10, "all the sockets")
    assert "-!" * 5 in "".join(calls)


def test_priority_readers_are_called_one_after_another_until_they_are_removed(loop: Loop) -> None:
    """Each of several is called; one that is removed is not, even if it removes itself."""
    calls: list[str] = []

    def once() -> None:
        calls.append("once")
        loop.remove_priority_reader(once)

    def always() -> None:
        calls.append("always")

    def read() -> None:
        until = loop.time() + PRIORITY_EVERY
        while loop.time() < until:
            pass
        loop.read_priority()

    loop.remove_priority_reader(once)  # it was never added
    loop.add_priority_reader(once)
    loop.add_priority_reader(always)
    read()
    read()
    assert calls == ["once", "always", "always"]


# --- time


def test_timers_run_in_order_of_their_time(loop: Loop) -> None:
    """Timers run when they are due, whatever order they were made in; cancelled ones never."""
    calls: list[str] = []
    began = loop.time()
    loop.call_later(0.02, lambda: calls.append("later"))
    cancelled = loop.call_later(0.005, unexpected_call)
    loop.call_later(0.01, lambda: calls.append("sooner"))
    cancelled.cancel()
    cancelled.cancel()
    turn_until(loop, lambda: len(calls) == 2, "both timers")
    assert calls == ["sooner", "later"]
    assert loop.time() - began >= 0.02


def test_cancelling_a_timer_that_has_run_is_harmless(loop: Loop) -> None:
    """`cancel` may come too late."""
    calls: list[None] = []
    timer = loop.call_later(0, lambda: calls.append(None))
    turn_until(loop, lambda: calls, "the timer")
    timer.cancel()
    turn_for(loop, 0.01)
    assert len(calls) == 1


def test_a_timer_that_rearms_itself_starves_nobody(loop: Loop, pairs: Callable[[], Pair]) -> None:
    """Timers that are always due again leave sockets their turn."""
    near, far = pairs()
    got: list[bytes] = []

    def again() -> None:
        if not got:
            loop.call_later(0, again)

    loop.call_later(0, again)
    loop.watch(near, lambda: got.append(near.recv(1)), broken=unexpected)
    far.send(b"x")
    turn_until(loop, lambda: got, "the socket")


def test_call_every_repeats(loop: Loop) -> None:
    """A periodic callback runs again and again, not more often than its period."""
    times: list[float] = []
    loop.call_every(0.01, lambda: times.append(loop.time()))
    turn_until(loop, lambda: len(times) >= 4, "four calls")
    assert times[3] - times[0] >= 0.03


def test_what_is_in_step_shares_a_turn(loop: Loop) -> None:
    """Whenever each of them began."""
    turns, slow = set[float](), set[float]()
    loop.call_in_step(0.01, lambda: turns.add(loop.now))
    loop.call_later(0.013, lambda: loop.call_in_step(0.02, lambda: slow.add(loop.now)))
    turn_until(loop, lambda: len(slow & turns) >= 3, "turns for both")


def test_cancelled_timers_do_not_pile_up(loop: Loop) -> None:
    """A program that makes and cancels timers for ever keeps a small heap of them."""
    for _ in range(20_000):
        loop.call_later(3600, unexpected_call).cancel()
    assert len(loop._timers) < 2_000
    ran: list[None] = []
    loop.call_later(0, lambda: ran.append(None))
    turn_until(loop, lambda: ran, "a timer among the cancelled")


def test_end_of_turn_work_runs_before_the_loop_sleeps(loop: Loop) -> None:
    """What is called soon runs at once, and may call for more."""
    calls: list[int] = []

    def first() -> None:
        calls.append(1)
        loop.call_soon(lambda: calls.append(2))

    loop.call_soon(first)
    turn_until(loop, lambda: len(calls) == 2, "both calls")
    assert calls == [1, 2]


# --- bugs


def test_a_bug_breaks_only_its_own_socket(pairs: Callable[[], Pair]) -> None:
    """An exception in a handler is reported, its socket told, and the others go on."""
    bugs, broken, got = list[Exception](), list[Exception](), list[bytes]()
    loop = Loop(bugs.append)
    (bad, bad_far), (good, good_far) = pairs(), pairs()

    def release(error: Exception) -> None:
        broken.append(error)
        loop.discard(bad)

    loop.watch(bad, unexpected_call, broken=release)
    loop.watch(good, lambda: got.append(good.recv(1)), broken=unexpected)
    loop.call_soon(unexpected_call)
    loop.call_later(0, unexpected_call)
    bad_far.send(b"x")
    good_far.send(b"x")
    turn_until(loop, lambda: got and len(bugs) == 3, "the good socket and three bugs")
    loop.close()
    assert {type(bug) for bug in bugs} == {AssertionError}
    assert len(broken) == 1


# --- signals


@pytest.fixture(autouse=True)
def kept_handlers() -> Iterator[None]:
    """Give the test's signals their handlers back."""
    signums = (signal.SIGUSR1, signal.SIGUSR2)
    handlers = [signal.getsignal(signum) for signum in signums]
    yield
    for signum, handler in zip(signums, handlers, strict=True):
        signal.signal(signum, handler)


def test_a_signal_wakes_a_sleeping_loop(loop: Loop) -> None:
    """A signal's callback runs inside the loop, though it was asleep for long."""
    calls: list[int] = []

    def woken() -> None:
        calls.append(signal.SIGUSR1)
        loop.stop()

    loop.on_signal(signal.SIGUSR1, woken)
    loop.call_later(0.02, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    loop.call_later(30, loop.stop)
    loop.run()
    loop.default_signal(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert calls == [signal.SIGUSR1]


def test_no_storm_of_one_signal_hides_another(loop: Loop) -> None:
    """More signals than the wakeup socket holds are one call, and the one after them another."""
    calls: list[str] = []
    loop.on_signal(signal.SIGUSR2, lambda: calls.append("rare"))
    loop.on_signal(signal.SIGUSR1, lambda: calls.append("storm"))
    for _ in range(5_000):
        os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    turn_for(loop, 0.05)
    assert calls == ["rare", "storm"]


def test_a_bug_in_one_signal_hides_no_other() -> None:
    """An exception in a signal's callback is reported, and the other signals are called back."""
    bugs, calls = list[Exception](), list[int]()
    loop = Loop(bugs.append)
    loop.on_signal(signal.SIGUSR1, unexpected_call)
    loop.on_signal(signal.SIGUSR2, lambda: calls.append(signal.SIGUSR2))
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    turn_until(loop, lambda: calls, "the other signal")
    loop.close()
    assert len(bugs) == len(calls) == 1


# --- in a forked child


def test_a_child_keeps_one_socket(loop: Loop, pairs: Callable[[], Pair]) -> None:
    """After `keep_only` that socket alone is read, also if it was not watched for reading."""
    (kept, kept_far), (other, other_far) = pairs(), pairs()
    got: list[bytes] = []
    loop.watch(kept, lambda: got.append(kept.recv(1)), broken=unexpected)
    loop.interest(kept, read=False)
    loop.watch(other, unexpected_call, broken=unexpected)
    loop.call_later(0, unexpected_call)
    loop.call_soon(unexpected_call)
    loop.keep_only(kept)
    other_far.send(b"x")
    kept_far.send(b"y")
    turn_for(loop, 0.05)
    assert got == [b"y"]
