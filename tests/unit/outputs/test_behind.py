"""Outputs that are behind: real sockets on loopback, and a clock that the test moves."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relaylib.config import Config
from relaylib.history.history import START, History, Place
from relaylib.net.loop import Loop
from relaylib.outputs.behind import TICK, Deferred
from relaylib.outputs.output import Behind, Output
from relaylib.outputs.port_probe import CLOSED_LIMIT
from relaylib.track.ring import Ring
from relaylib.track.track import Entry, Track
from tools.lab.fanout_bench import Bench, make_fanout, received, runs_of
from tools.lab.inprocess import unexpected
from tools.lab.sockets import unused_port

EVERY = 0.02
"""Seconds between two batches of the stream."""

PER = 3
"""Datagrams in each of them."""

PACKET = 188


class MovedLoop(Loop):
    """A loop whose clock the test moves; only its timers are run."""

    clock = 1000.0

    @staticmethod
    def time() -> float:
        return MovedLoop.clock

    @property
    def waiting(self) -> int:
        """How many timers there are."""
        return sum(timer.callback is not None for timer in self._timers)

    def advance(self, to: float) -> None:
        """Let all timers run that are due by then."""
        while self._timers and self._timers[0].when <= to:
            MovedLoop.clock = self.now = max(self.now, self._timers[0].when)
            self._run_timers()
        MovedLoop.clock = self.now = to


class Shift(Bench):
    """A relay's way out with a history, whose stream goes on as the clock does."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        *,
        timeshift: float = 60.0,
        start: str = "live",
        byte_count: int = 8 << 20,
    ) -> None:
        MovedLoop.clock = 1000.0
        self.loop = MovedLoop(unexpected)
        self.loop.now = MovedLoop.clock
        super().__init__(make_fanout(segmentation=True), stack)
        self.history = History(timeshift or float("inf"), byte_count)
        stack.callback(self.history.close)
        ring = Ring(float("inf"), 7 * PACKET)
        stack.callback(ring.close)
        self.track = Track(ring, 0.0)
        stack.callback(self.loop.close)
        config = Config(timeshift=timeshift, start=start)
        self.deferred = Deferred(
            self.loop, self.fanout, self.history, self.track.entry_since, config
        )
        self.silent = False
        self.count = 0
        self.sent: list[tuple[float, bytes]] = []
        self.got: dict[Output, list[tuple[float, bytes]]] = {}
        self.players: dict[Output, socket.socket] = {}

    def viewer(self) -> Output:
        """Add a viewer, as CONECTAR does."""
        output, player = self.pair()
        self.fanout.pause(output)
        self.players[output] = player
        self.got[output] = []
        self.deferred.start(output)
        return output

    def datagrams(self) -> list[bytes]:
        """Make the next batch."""
        self.count += PER
        return [number.to_bytes(4, "big") * 50 for number in range(self.count - PER, self.count)]

    def batch(self) -> None:
        """Take a batch in, as the relay does."""
        datagrams, now = self.datagrams(), self.loop.time()
        self.sent += [(now, each) for each in datagrams]
        runs = runs_of(datagrams)
        self.fanout.forward(runs, now)
        self.history.append(runs, now)

    def play(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / EVERY)):
            if not self.silent:
                self.batch()
            self.look()
            for _ in range(4):
                self.loop.advance(self.loop.now + EVERY / 4)
                self.look()

    def look(self) -> None:
        """Take note of what has arrived."""
        for output, player in self.players.items():
            self.got[output] += [(self.loop.now, each) for each in received(player)]

    def whole(self, output: Output, first: int = 0) -> bool:
        """Tell whether an output got all from that datagram to the latest, once, in order."""
        return [each for _, each in self.got[output]] == [each for _, each in self.sent[first:]]


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as made:
        yield made


@pytest.fixture
def shift(stack: contextlib.ExitStack) -> Shift:
    return Shift(stack)


STEPS = st.lists(
    st.tuples(st.sampled_from(["pause", "go on", "play", "silence"]), st.floats(0.01, 0.25)),
    max_size=12,
)


@given(STEPS)
def test_nothing_is_missing_and_nothing_comes_twice(steps: list[tuple[str, float]]) -> None:
    """However a viewer pauses and goes on deferred, it gets the whole stream, in order."""
    with contextlib.ExitStack() as stack:
        shift = Shift(stack)
        viewers = [shift.viewer(), shift.viewer()]
        for place, (step, seconds) in enumerate(steps):
            viewer = viewers[place % 2]
            if step == "pause" and not viewer.paused:
                shift.deferred.pause(viewer)
            elif step == "go on" and viewer.paused:
                shift.deferred.go_on(viewer)
            shift.silent = step == "silence"
            shift.play(seconds)
        for viewer in viewers:
            if viewer.paused:
                shift.deferred.go_on(viewer)
        shift.silent = True
        shift.play(4)
        assert all(shift.whole(viewer) for viewer in viewers)


def test_it_is_paced_as_it_arrived(shift: Shift) -> None:
    """Each datagram comes as long after the one before as it did live, but for a tick."""
    viewer = shift.viewer()
    shift.deferred.pause(viewer)
    shift.play(1)
    shift.deferred.go_on(viewer)
    assert shift.deferred.delay(viewer) == pytest.approx(1.0)
    shift.play(2)
    delays = [
        came - sent
        for (came, datagram), (sent, original) in zip(shift.got[viewer], shift.sent, strict=False)
        if datagram == original
    ]
    assert len(delays) == len(shift.got[viewer]) > 2 / EVERY
    assert 0.999 <= min(delays) <= max(delays) <= 1.0 + 2 * TICK
    assert shift.deferred.delay(viewer) == pytest.approx(1.0)


def test_going_back_in_an_opaque_stream(shift: Shift) -> None:
    """It goes on with the very datagram that came so long before what was sent last."""
    viewer = shift.viewer()
    shift.play(3)
    shift.got[viewer].clear()
    assert shift.deferred.rewind(viewer, 1.0)
    shift.play(2)
    since = next(at for at, (time, _) in enumerate(shift.sent) if time > 1001.97)
    got = [each for _, each in shift.got[viewer]]
    assert got[:1] == [shift.sent[since][1]]
    shift.deferred.rewind(viewer, 0.5)
    assert shift.deferred.delay(viewer) == pytest.approx(1.5, abs=2 * EVERY)
    shift.deferred.rewind(viewer, 1e5)
    shift.got[viewer].clear()
    shift.silent = True
    shift.play(6)
    assert shift.whole(viewer)


def test_there_is_nothing_to_go_back_to_yet(shift: Shift) -> None:
    """Before the first datagram, going back is declined, and the viewer stays live."""
    viewer = shift.viewer()
    assert not shift.deferred.rewind(viewer, 1.0)
    shift.play(1)
    assert shift.whole(viewer)


def test_live_again(shift: Shift) -> None:
    """A deferred viewer jumps to live: from the next datagram on, and without delay."""
    viewer = shift.viewer()
    shift.deferred.pause(viewer)
    shift.play(1)
    shift.deferred.go_on(viewer)
    shift.play(0.5)
    shift.got[viewer].clear()
    first = len(shift.sent)
    shift.deferred.start(viewer)
    shift.play(0.5)
    assert shift.whole(viewer, first)
    assert shift.deferred.delay(viewer) == 0.0


def test_what_was_overwritten_is_skipped_and_told(stack: contextlib.ExitStack) -> None:
    """Paused for longer than the history, it goes on at its oldest part, and stays that far behind.

    What is sent from there on is whole: it does not run into what is overwritten next.
    """
    shift = Shift(stack, timeshift=4.0)
    viewer = shift.viewer()
    shift.deferred.pause(viewer)
    shift.play(10)
    with capture_logs() as logs:
        shift.deferred.go_on(viewer)
        shift.play(6)
    got = [each for _, each in shift.got[viewer]]
    sent = [each for _, each in shift.sent]
    first = sent.index(got[0])
    assert got == sent[first : first + len(got)]
    assert 2.9 < shift.sent[first][0] - 1006.0 + 4 < 4.1 + 1
    assert [each["event"] for each in logs] == ["history_overtaken"]
    assert shift.deferred.overtaken == 1


# --- entry points


def ts(pid: int, count: int) -> bytes:
    """Make packets of a transport stream."""
    return bytes([0x47, pid >> 8, pid & 0xFF, 0x10]).ljust(PACKET, b"\xff") * count


TABLES = ts(0, 1) + ts(0x1000, 1)


class Marked(Shift):
    """The same, with an entry point in the second datagram of every 25th batch.

    The track keeps less than what is gone back to: whoever gets datagrams needs none of it.
    """

    def datagrams(self) -> list[bytes]:
        self.count += PER
        numbers = range(self.count - PER, self.count)
        return [ts(0x100, 1) + number.to_bytes(4, "big") * 47 * 6 for number in numbers]

    def batch(self) -> None:
        super().batch()
        now, number = self.loop.time(), self.history.end - 1
        for at, (_, each) in enumerate(self.sent[-PER:]):
            if number % 25 == 24 and at == 1:
                origin = self.history[number].start + len(each) + PACKET
                self.track.mark(Entry(self.track.end + PACKET, now, None, TABLES, origin))
            self.track.append(each[: 6 * PACKET], now)

    def opens(self, output: Output) -> int:
        """Check that what came begins with the tables, then the rest of a point; return which."""
        (_, first), *rest = self.got[output]
        which = next(
            place
            for place, (_, each) in enumerate(self.sent)
            if first == TABLES + each[PACKET : PACKET * 6]
        )
        assert rest[0][1] == self.sent[which][1][PACKET * 6 :]
        got = [each for _, each in rest[1:]]
        assert got == [each for _, each in self.sent[which + 1 :][: len(got)]]
        return which


def test_going_back_to_a_random_access_point(stack: contextlib.ExitStack) -> None:
    """The tables come first, then the stream from the packet of the point on."""
    shift = Marked(stack)
    viewer = shift.viewer()
    shift.play(3)
    shift.got[viewer].clear()
    assert shift.deferred.rewind(viewer, 0.7)
    assert shift.deferred.delay(viewer) == pytest.approx(1.0, abs=2 * EVERY)
    shift.play(2)
    assert shift.sent[shift.opens(viewer)][0] == pytest.approx(1001.98)


def test_a_new_viewer_catches_up(stack: contextlib.ExitStack) -> None:
    """It starts at the latest point, faster than live, and then is live; nothing is missing.

    So does one who was paused, and one who is deferred goes on from where it is.
    """
    shift = Marked(stack, start="keyframe")
    shift.play(1.4)
    viewer = shift.viewer()
    late = shift.deferred.delay(viewer)
    assert late is not None
    assert late == pytest.approx(0.42)
    shift.play(late / 2 + 4 * TICK)
    assert shift.deferred.delay(viewer) == 0.0
    assert viewer.behind is None
    assert shift.sent[shift.opens(viewer)][0] == pytest.approx(1000.98)
    shift.deferred.pause(viewer)
    shift.play(0.4)
    shift.got[viewer].clear()
    shift.deferred.start(viewer)
    shift.play(1)
    assert shift.sent[shift.opens(viewer)][0] == pytest.approx(1001.98)
    assert viewer.behind is None


def test_a_point_too_far_back_is_no_start(stack: contextlib.ExitStack) -> None:
    """Where entry points are rare, a viewer starts live."""
    shift = Marked(stack, start="keyframe")
    shift.play(1)
    shift.silent = True
    shift.play(START + 1)
    viewer = shift.viewer()
    assert viewer.behind is None


# --- ports, reloads


def test_a_port_that_stays_closed_while_it_is_behind(shift: Shift) -> None:
    """The output is paused, what was not sent is counted, and it can go on from there."""
    output = shift.output(unused_port())
    shift.play(1)
    shift.deferred.rewind(output, 1)
    for _ in range(200):
        shift.play(CLOSED_LIMIT / 100)
        if shift.given_up:
            break
    assert shift.given_up == [output]
    assert output.paused
    sent, dropped, unreachable = shift.counters(output)
    assert (dropped, sent + unreachable) == (0, output.counters.offered)
    assert unreachable > 0.9 * output.counters.offered
    shift.deferred.pause(output)
    assert shift.deferred.delay(output) == pytest.approx(1.0, abs=0.7)


@pytest.mark.parametrize(
    ("timeshift", "start", "behind", "kept"),
    [
        (60, "live", Behind(Place(3, 1), 2.0), True),
        (60, "live", Behind(Place(3), 2.0, True), True),
        (0, "keyframe", Behind(Place(3), 2.0, True), True),
        (0, "keyframe", Behind(Place(3), 2.0), False),
        (0, "live", Behind(Place(3), 2.0, True), False),
        (60, "live", None, True),
    ],
)
def test_what_the_next_program_can_go_on_with(
    stack: contextlib.ExitStack, timeshift: float, start: str, behind: Behind | None, kept: bool
) -> None:
    """Without a history for viewers nobody is behind, but who catches up where that is wanted."""
    shift = Shift(stack, timeshift=timeshift, start=start)
    output = shift.viewer()
    shift.deferred.put(output, behind)
    assert output.behind == (behind if kept else None)


def test_a_reload_that_failed_leaves_one_timer(shift: Shift) -> None:
    """Whoever is deferred is served as often as before."""
    viewer = shift.viewer()
    shift.play(0.5)
    shift.deferred.rewind(viewer, 0.2)
    shift.deferred.begin()
    shift.play(0.1)
    assert shift.loop.waiting == 1


def test_a_place_in_another_history(shift: Shift) -> None:
    """A place that the history has never had is one that was overwritten."""
    viewer = shift.viewer()
    shift.fanout.pause(viewer)
    shift.deferred.put(viewer, Behind(Place(10_000), 5.0))
    shift.deferred.go_on(viewer)
    shift.play(1)
    assert shift.whole(viewer)
