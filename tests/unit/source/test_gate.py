"""Who may send the stream: every case in a table, and any order of them."""

import ipaddress
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.lifecycle import codec
from relaylib.media.form import Form
from relaylib.net.address import Address
from relaylib.net.networks import ANY, PRIVATE
from relaylib.source.gate import (
    LOOP_PAUSE,
    TABLE,
    Decision,
    Event,
    Former,
    Gate,
    GateState,
    Hold,
    Presence,
    Reason,
    Successor,
)

TIMEOUT = 2.0
ONE: Address = ("192.0.2.1", 1000)
OTHER: Address = ("192.0.2.2", 1000)
NEIGHBOUR: Address = ("192.0.2.1", 1001)
MAPPED: Address = ("::ffff:192.0.2.1", 1000, 0, 0)
FOREIGN: Address = ("198.51.100.1", 1000)
BACK: Address = ("192.0.2.3", 1000)
"""On the host of the former source."""
ALLOWED = (ipaddress.ip_network("192.0.2.0/24"),)


def gate(active: Address | None = None, *, silent: bool = False) -> Gate:
    """Make a gate in this state, last heard at 10 s."""
    made = Gate(ALLOWED, TIMEOUT)
    made.restore(GateState(active, silent, 10.0))
    return made


def test_who_is_barred_sends_nothing_and_anybody_else_may_begin() -> None:
    """The active source is none any more; until it is let in again, it is told from others."""
    made = gate(ONE)
    made.bar(11.0)
    assert (made.holder, made.presence) == (None, Presence.ABSENT)
    assert made.offer(ONE, 100, 11.0, Form.TS) is Decision.LOOP
    assert not made.accepts(ONE, 100, 11.0, Form.TS)
    assert made.offer(NEIGHBOUR, 100, 11.0, Form.TS) is Decision.STARTED
    assert made.offer(ONE, 100, 11.0 + LOOP_PAUSE, Form.TS) is Decision.LOCKED


Step = Callable[[Gate], Decision | None]


def datagram(
    source: Address, size: int = 1316, form: Form = Form.OPAQUE
) -> Callable[[Gate], Decision]:
    """Somebody sends."""

    def step(made: Gate) -> Decision:
        accepted = made.accepts(source, size, 20.0, form)
        verdict = made.offer(source, size, 20.0, form)
        assert accepted is (verdict.accepted and size > 0)
        return verdict

    return step


def appointed(made: Gate) -> Decision:
    """Somebody else is appointed, and sends."""
    made.appoint(Successor(OTHER, Reason.ERRORS, Form.TS))
    return made.offer(OTHER, 1316, 20.0)


def barred(made: Gate) -> Decision:
    """Somebody sends of whom something has gone in a circle."""
    made._barred[OTHER] = 30.0
    return made.offer(OTHER, 1316, 20.0, Form.TS)


def returns(made: Gate) -> Decision:
    """The former source is back: it has sent for a second and more."""
    for tenth in range(20):
        for _ in range(10):
            made._returning.add(BACK, 18.0 + tenth / 10)
    return datagram(BACK, form=Form.TS)(made)


def streams(made: Gate) -> None:
    """The active source has sent at the former one's rate for three seconds."""
    if made.hold is not Hold.SILENT:
        for tenth in range(31):
            made.heard(20.0 + tenth / 10, 10)
    made.look(23.0)


EVENT: dict[Event, Step] = {
    Event.OWN: datagram(ONE),
    Event.OWN_PROOF: datagram(ONE, form=Form.TS),
    Event.OWN_EMPTY: datagram(ONE, 0),
    Event.APPOINTED: appointed,
    Event.RETURNS: returns,
    Event.RECOGNISED: datagram(OTHER, form=Form.RTP),
    Event.OPAQUE: datagram(OTHER),
    Event.EMPTY: datagram(OTHER, 0, Form.TS),
    Event.BARRED: barred,
    Event.FOREIGN: datagram(FOREIGN, form=Form.TS),
    Event.FORM_FOUND: lambda made: made.recognise(Form.TS),
    Event.STREAMS: streams,
    Event.TRICKLES: lambda made: made.look(20.0),
    Event.READ_ALL: lambda made: made.fall_silent(),
    Event.CIRCLE: lambda made: made.bar(20.0),
}
"""How each event of the table is made to happen while ONE is the active source, if anybody is."""


def in_hold(hold: Hold) -> Gate:
    """Make a gate that is held like this, by ONE, last heard at 10 s; another one held it before.

    ONE has sent one datagram, and the former source 100 a second.
    """
    made = Gate(ALLOWED, TIMEOUT)
    made.state.former = Former(("192.0.2.3", 1), 100.0, 60.0)
    if hold is Hold.HELD:
        made.appoint(Successor(ONE, Reason.ERRORS, Form.TS))
    if hold is not Hold.ABSENT:
        made.offer(ONE, 1316, 10.0, Form.TS if hold is Hold.PROVISIONAL else Form.OPAQUE)
        made.state.former = Former(("192.0.2.3", 1), 100.0, 60.0)
    if hold is Hold.SILENT:
        made.fall_silent()
    assert made.hold is hold
    return made


@pytest.mark.parametrize(("hold", "event"), [pair for pair, cell in TABLE.items() if cell])
def test_every_pair(hold: Hold, event: Event) -> None:
    """What a datagram is, and who holds the ingest then, is as the table says.

    Who takes over is the active source; who is rejected is counted, and changes nothing.
    """
    cell = TABLE[hold, event]
    assert cell is not None
    made = in_hold(hold)
    verdict = EVENT[event](made)
    answer, after = cell
    assert made.hold is after
    if isinstance(answer, Reason):
        assert (verdict, made.reason) == (Decision.TAKEOVER, answer)
    else:
        assert verdict is answer
    taken = verdict in (Decision.STARTED, Decision.TAKEOVER)
    before = None if Hold.ABSENT in (hold, after) else ONE
    sender = BACK if event is Event.RETURNS else OTHER
    assert made.state.active == (sender if taken else before)
    assert made.state.rejected == (verdict is not None and not verdict.accepted)
    assert made.state.silent is (after is Hold.SILENT)


@pytest.mark.parametrize(("hold", "event"), [pair for pair, cell in TABLE.items() if not cell])
def test_no_other_pair_can_be(hold: Hold, event: Event) -> None:
    """Where nobody is active, or everybody is silent already, nothing comes of it.

    An established source proves itself with each datagram.
    """
    made = in_hold(hold)
    if hold is Hold.ABSENT or event is Event.READ_ALL:
        assert not made.overdue(1e9)
        made.look(20.0)
    elif event is Event.OWN:
        assert made.offer(ONE, 5, 20.0) is Decision.STREAM
    else:
        assert EVENT[event](made) is None
    assert made.hold is hold


# --- a former source


def play(made: Gate, begin: float, end: float, *senders: tuple[Address, float]) -> set[Address]:
    """Let these send at these rates, as an ingest would; return who was active meanwhile."""
    due = sorted(
        (begin + index / rate, source)
        for source, rate in senders
        for index in range(math.ceil((end - begin) * rate))
    )
    active, looked = set[Address](), begin
    for now, source in due:
        while now - looked >= 0.1:
            looked += 0.1
            made.look(looked)
            if made.overdue(looked):
                made.fall_silent()
        if made.offer(source, 1316, now, Form.TS).accepted:
            made.heard(now)
        assert made.state.active is not None
        active.add(made.state.active)
    return active


def squatted(rate: float = 100.0, *, squatter: float = 2 / 3) -> Gate:
    """Make a gate whose source sent for ten seconds; a squatter has had it for three since."""
    made = Gate(ALLOWED, TIMEOUT)
    play(made, 0.0, 10.0, (BACK, rate))
    made.look(12.0)
    assert made.overdue(12.0)
    made.fall_silent()
    assert play(made, 12.0, 15.0, (OTHER, squatter)) == {OTHER}
    return made


@pytest.mark.parametrize("port", [BACK[1], 9])
@pytest.mark.parametrize("rate", [20.0, 100.0, 9000.0])
def test_a_squatter_gives_way_to_the_source_that_is_back(port: int, rate: float) -> None:
    """After a second at its rate, from whatever port it sends now; and then it is held again."""
    made, back = squatted(rate), (BACK[0], port)
    squatter = (OTHER, 2 / 3)
    assert play(made, 15.0, 16.0, (back, min(rate, 300.0)), squatter) == {OTHER}
    play(made, 16.0, 16.5, (back, min(rate, 300.0)), squatter)
    assert (made.state.active, made.reason) == (back, Reason.RETURNED)
    if rate < 3000.0:
        assert play(made, 16.5, 21.0, (back, rate), squatter) == {back}
        assert made.hold is Hold.HELD


@pytest.mark.parametrize(
    ("squatter", "source", "rate"),
    [
        (11.0, (BACK[0], 9), 100.0),
        (11.0, (BACK[0], 9), 5000.0),
        (2 / 3, (BACK[0], 9), 20.0),
        (2 / 3, NEIGHBOUR, 100.0),
    ],
)
def test_nobody_else_is_displaced(squatter: float, source: Address, rate: float) -> None:
    """Not by any rate who sends like a stream; a trickling one not by a slow or another source."""
    made = squatted(squatter=squatter)
    assert play(made, 15.0, 25.0, (OTHER, squatter), (source, rate)) == {OTHER}


def test_a_source_that_comes_back_after_a_minute_is_another_one() -> None:
    """The newcomer holds the ingest then, at whatever rate."""
    made = squatted()
    assert made.hold is Hold.PROVISIONAL
    play(made, 15.0, 72.0, (OTHER, 2 / 3))
    assert (made.hold, made.state.former) == (Hold.HELD, None)
    assert play(made, 72.0, 80.0, (BACK, 100.0), (OTHER, 2 / 3)) == {OTHER}


def test_who_begins_to_trickle_within_the_minute_is_on_trial_again() -> None:
    """A newcomer that has sent like a stream for some seconds and then next to nothing."""
    made, holds = squatted(squatter=50.0), list[Hold]()
    for begin, end, rate in ((15.0, 16.0, 50.0), (16.0, 24.0, 2 / 3)):
        play(made, begin, end, (OTHER, rate))
        holds.append(made.hold)
    assert holds == [Hold.HELD, Hold.PROVISIONAL]
    play(made, 24.0, 26.0, (OTHER, 2 / 3), (BACK, 100.0))
    assert made.state.active == BACK


def test_squatters_in_a_row_do_not_make_the_source_forgotten() -> None:
    """Who never sent like a stream is no former source when it falls silent."""
    made = squatted()
    play(made, 18.0, 18.1, (NEIGHBOUR, 100.0))
    made.fall_silent()
    play(made, 18.2, 19.0, (NEIGHBOUR, 2.0))
    assert made.state.active == NEIGHBOUR
    play(made, 19.0, 21.0, (NEIGHBOUR, 0.6), (BACK, 100.0))
    assert made.state.active == BACK


def test_a_source_that_resumes_is_not_on_trial() -> None:
    """A pause changes nothing, however little it sends then."""
    made = Gate(ALLOWED, TIMEOUT)
    play(made, 0.0, 10.0, (ONE, 100.0))
    made.fall_silent()
    play(made, 20.0, 30.0, (ONE, 1.0))
    assert (made.hold, made.undisputed) == (Hold.HELD, ONE)


def test_a_reload_leaves_the_former_source_its_claim() -> None:
    """Rates are measured anew, and what had been measured of a silent source is known."""
    made = squatted()
    after = Gate(ALLOWED, TIMEOUT)
    after.restore(codec.read(GateState, json.loads(codec.encode(made.state))))
    assert after.hold is Hold.PROVISIONAL
    assert after.steady == OTHER
    play(after, 15.0, 20.0, (OTHER, 2 / 3), (BACK, 100.0))
    assert after.state.active == BACK
    older = Gate(ALLOWED, TIMEOUT)
    older.restore(GateState(ONE, last=10.0))
    assert older.hold is Hold.HELD


def test_the_rates_of_one_that_is_rejected_and_of_the_active_source() -> None:
    """In datagrams a second; of hundreds that are rejected the latest ones are remembered."""
    made = Gate(ALLOWED, TIMEOUT)
    play(made, 0.0, 5.0, (ONE, 100.0), (OTHER, 20.0))
    rate, active = made.rates(OTHER, 5.0)
    assert rate == pytest.approx(20.0, rel=0.1)
    assert active == pytest.approx(100.0, rel=0.1)
    for port in range(500):
        made.offer((OTHER[0], 2000 + port), 1316, 5.0)
    assert made.rates(OTHER, 5.0)[0] == 0.0
    assert made.rates((OTHER[0], 2499), 5.0)[0] == 1.0


@pytest.mark.parametrize(
    ("hold", "source", "size", "verdict"),
    [
        (Hold.ABSENT, MAPPED, 1316, Decision.STARTED),
        (Hold.ABSENT, FOREIGN, 0, Decision.NOT_ALLOWED),
        (Hold.HELD, NEIGHBOUR, 1316, Decision.LOCKED),
        (Hold.HELD, FOREIGN, 0, Decision.NOT_ALLOWED),
        (Hold.SILENT, NEIGHBOUR, 1316, Decision.TAKEOVER),
    ],
)
def test_senders_are_told_apart_by_address_and_port(
    hold: Hold, source: Address, size: int, verdict: Decision
) -> None:
    """A port of the active source's host is somebody else's; who may send is checked first."""
    assert datagram(source, size)(in_hold(hold)) is verdict


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("active_form", Form)
@pytest.mark.parametrize("sent", [1, 49, 50])
@pytest.mark.parametrize("source", [OTHER, FOREIGN])
def test_only_a_recognised_stream_displaces_and_only_a_stray(
    source: Address, sent: int, active_form: Form, form: Form
) -> None:
    """An opaque source of fewer than 50 datagrams gives way to a known form, and nobody else."""
    made = gate()
    for _ in range(sent):
        made.offer(ONE, 1316, 15.0, active_form)
    certain = sent >= 50 or active_form is not Form.OPAQUE
    assert (made.holder, made.undisputed) == ((ONE, ONE) if certain else (None, None))
    displaced = not certain and form is not Form.OPAQUE and source is OTHER
    assert made.accepts(source, 1316, 20.0, form) is displaced
    assert (made.offer(source, 1316, 20.0, form) is Decision.TAKEOVER) is displaced
    assert made.state.active == (source if displaced else ONE)
    if displaced:
        assert (made.reason, made.state.form) == (Reason.FORM, form)
        assert made.holder == source


def test_an_appointed_successor_takes_over_with_its_next_datagram() -> None:
    """It and nobody else, established at once; until then the active source's goes on."""
    made = gate(ONE)
    made.appoint(Successor(OTHER, Reason.ERRORS, Form.TS))
    assert made.undisputed is None
    for source, verdict in ((ONE, Decision.STREAM), (NEIGHBOUR, Decision.LOCKED)):
        assert made.offer(source, 1316, 11.0, Form.TS) is verdict
    assert made.offer(OTHER, 0, 11.0) is Decision.LOCKED
    assert made.offer(OTHER, 188, 11.0) is Decision.TAKEOVER
    assert (made.reason, made.holder) == (Reason.ERRORS, OTHER)
    assert made.offer(ONE, 1316, 11.0, Form.TS) is Decision.LOCKED
    made.appoint(Successor(ONE, Reason.PREFERRED, Form.TS))
    made.appoint(None)
    assert made.offer(ONE, 1316, 11.0) is Decision.LOCKED
    made.appoint(Successor(FOREIGN, Reason.PREFERRED, Form.TS))
    assert made.offer(FOREIGN, 1316, 11.0) is Decision.NOT_ALLOWED


def test_presence_is_told_in_three_words() -> None:
    """Silent is who was a source; a stray datagram was none."""
    made = gate()
    seen = [made.presence]
    for form in (Form.OPAQUE, Form.TS):
        made.offer(ONE, 5, 11.0, form)
        seen.append(made.presence)
        made.fall_silent()
        seen.append(made.presence)
    assert seen == [
        Presence.ABSENT, Presence.ACTIVE, Presence.ABSENT, Presence.ACTIVE, Presence.SILENT,
    ]  # fmt: skip
    assert [each.value for each in Presence] == ["absent", "active", "silent"]


def test_a_source_is_settled_once_when_it_is_established() -> None:
    """Not as long as it may be displaced by form; and anew when another one takes over."""
    made = gate()
    settled = list[Address | None]()
    for source, form in ((ONE, Form.OPAQUE), (ONE, Form.TS), (ONE, Form.TS)):
        made.offer(source, 1316, 11.0, form)
        settled.append(made.settle())
    made.fall_silent()
    made.offer(OTHER, 1316, 13.0, Form.TS)
    assert [*settled, made.settle(), made.settle()] == [None, ONE, None, OTHER, None]


def test_what_is_recognised_stays_so() -> None:
    """A source whose datagrams are opaque for a while has not become a stray for that."""
    made = gate()
    for form in (Form.RTP, Form.OPAQUE, Form.TS, Form.OPAQUE):
        made.offer(ONE, 1316, 11.0, form)
    assert (made.state.form, made.holder) == (Form.TS, ONE)


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
    assert gate(active, silent=silent).overdue(now) is overdue


def test_time_alone_frees_nothing() -> None:
    """However late a stranger comes, the lock holds until the silence has been established."""
    made = gate(ONE)
    assert made.offer(OTHER, 1316, 1e9) is Decision.LOCKED
    made.fall_silent()
    assert made.offer(OTHER, 1316, 1e9) is Decision.TAKEOVER


def test_a_reload_keeps_the_lock_unless_its_source_may_not_send_any_more() -> None:
    """A state that is taken over is gone on from; a new configuration may exclude the source."""
    for allowed, kept in ((ANY, ONE), (PRIVATE, None)):
        made = Gate(allowed, TIMEOUT)
        made.restore(GateState(ONE, silent=True, last=10.0, rejected=7))
        assert (made.state.active, made.state.rejected) == (kept, 7)
        assert made.offer(("127.0.0.1", 5), 1, 11.0) is (
            Decision.TAKEOVER if kept else Decision.STARTED
        )


SOURCES = st.sampled_from([ONE, OTHER, NEIGHBOUR, FOREIGN])
EVENTS = st.one_of(
    st.sampled_from([("heard",), ("checked",)]),
    st.tuples(st.just("offer"), SOURCES, st.integers(0, 2), st.sampled_from(Form)),
    st.tuples(st.just("offer"), SOURCES, st.just(1316), st.just(Form.OPAQUE), st.integers(40, 60)),
    st.tuples(st.just("appoint"), st.none() | SOURCES),
)


class Model:
    """A gate, and beside it what is known of the active source; offers are checked against that."""

    def __init__(self) -> None:
        self.gate = Gate(ALLOWED, TIMEOUT)
        self.now = self.last = 0.0
        self.active: Address | None = None
        self.appointed: Address | None = None
        self.sent = self.rejected = 0
        self.recognised = False
        self.hosts = set[str]()

    def checked(self) -> None:
        """Look at the clock."""
        if self.gate.overdue(self.now):
            self.gate.fall_silent()

    def heard(self) -> None:
        """Read on without a look, where that is right."""
        if self.gate.undisputed is not None:
            assert self.gate.heard(self.now) is Decision.STREAM
            self.last = self.now

    def appoint(self, source: Address | None) -> None:
        """Appoint a successor, or none."""
        self.appointed = source
        self.gate.appoint(source and Successor(source, Reason.ERRORS, Form.TS))

    def offer(self, source: Address, size: int, form: Form, count: int = 1) -> None:
        """Offer some datagrams."""
        for _ in range(count):
            sure = source == self.gate.undisputed
            verdict = self.gate.offer(source, size, self.now, form)
            assert verdict is Decision.STREAM or not sure
            self.rejected += not verdict.accepted
            if verdict.accepted and size:
                self.accepted(source, form, verdict)

    def accepted(self, source: Address, form: Form, verdict: Decision) -> None:
        """Find the reason for which it was accepted."""
        assert source != FOREIGN
        if source != self.active:
            assert (verdict is Decision.STARTED) is (self.active is None)
            assert (
                self.active is None
                or {
                    Reason.SILENCE: self.now - self.last >= TIMEOUT,
                    Reason.FORM: not self.recognised and self.sent < 50 and form is not Form.OPAQUE,
                    Reason.RETURNED: source[0] in self.hosts,
                    Reason.ERRORS: source == self.appointed,
                }[self.gate.reason]
            )
            returned = verdict is Decision.TAKEOVER and self.gate.reason is Reason.RETURNED
            self.sent, self.recognised = 0, returned or source == self.appointed
            self.hosts.add(source[0])
            self.active, self.appointed = source, None
        self.recognised |= form is not Form.OPAQUE
        self.last, self.sent = self.now, self.sent + 1


@given(st.lists(st.tuples(EVENTS, st.floats(0, 3)), max_size=50))
def test_streams_are_never_spliced(events: list[tuple[tuple[Any, ...], float]]) -> None:
    """In any order of datagrams, looks and appointments sources only change for a reason.

    After a silence of `timeout`; from an opaque source of less than 50 datagrams to a recognised
    one; back to a host that had it before; or to who was appointed. Nobody who is not allowed is
    ever accepted.
    """
    model = Model()
    for (name, *words), pause in events:
        model.now += pause
        getattr(model, name)(*words)
        assert model.gate.state.active == model.active
    assert model.gate.state.rejected == model.rejected


# --- a source that changes its port


def hear(made: Gate, source: Address, *times: float) -> None:
    """Offer a datagram of an established stream at each of these times."""
    for now in times:
        made.offer(source, 1316, now, Form.TS)


def test_a_source_that_changes_its_port_is_counted() -> None:
    """What comes from its host, from another port, when it has been quiet for half a second."""
    made = gate(ONE)
    hear(made, NEIGHBOUR, 10.1, 10.4, 10.6, 11.0, 11.9)
    assert (made.state.rejected, made.state.turned_away) == (5, 3)


def test_a_standby_on_the_same_host_is_none() -> None:
    """It has been sending beside the active source, so it is another one."""
    made = gate(ONE)
    for now in (10.1, 10.2, 10.3):
        hear(made, NEIGHBOUR, now)
        hear(made, ONE, now + 0.05)
    hear(made, NEIGHBOUR, 11.0, 11.5)
    assert made.state.turned_away == 0


@pytest.mark.parametrize("source", [OTHER, FOREIGN])
def test_other_hosts_are_not_counted(source: Address) -> None:
    """Whoever else sends has nothing to do with the source."""
    made = gate(ONE)
    hear(made, source, 11.0, 11.5)
    assert (made.state.rejected, made.state.turned_away) == (2, 0)
