"""Which source may send the stream: all rules, as one table. Pure.

Two sources at once would splice their streams into one that nothing can play. So one source holds
the ingest, the active source, and datagrams of all others are rejected. These are the states:

     ABSENT         no sender holds the ingest
        |
        | a datagram of any sender
        v
      STRAY         the first sender holds it, but has sent no recognised form
        |               displaced by any sender of a recognised stream (FORM)
        | its form is recognised, or it is its 50th datagram;
        | or the first datagram was recognised already
        v
    PROVISIONAL     the active source holds it while the former one may return, that is a minute;
      |    ^            displaced by the former one, if that is back at its rate while the active
      |    |            one trickles (RETURNED)
      |    | it trickles
      |    | in that minute
      v    |
       HELD         the active source holds it alone
        |               displaced by an appointed source (ERRORS, PREFERRED), as in every state
        | silent for the time-out, and everything has been read
        v
      SILENT        the active source has stopped sending. If it sends again, it is PROVISIONAL or
                        STRAY (RESUMED). Any other sender takes over with its first datagram, to
                        STRAY or PROVISIONAL (SILENCE)

A source also falls silent from STRAY and PROVISIONAL. PROVISIONAL becomes HELD when the active
source has sent like a stream, and at once if there is no former source. In any state: if the active
source's stream is found to go in a circle, the ingest is ABSENT, and that sender is barred for a
second. A sender that is barred or not allowed, and an empty datagram, cannot take the ingest.

A takeover in a silence is a guess: a sender of one datagram at that moment may be a squatter that
keeps out an encoder which was restarted. The former source is the one that was HELD when it fell
silent. It is known by its host, because an encoder that is restarted sends from another port. The
active source sends like a stream if it sends, over three seconds, at least a tenth of the former
source's rate; less is a trickle. A source that sends like a stream is never displaced by a higher
rate: otherwise an attacker would only have to send faster.

Rejected: the newest source wins (one stray packet ends the stream), and the smallest address wins
(users do not know which one that is).

A stray datagram is no source, but it cannot be told from the first datagram of a stream of unknown
form. So the first sender is forwarded at once. A recognised stream takes over from a stray one, and
never the other way round: bytes without a form are easy to send, and displace nothing.

Silence is not computed from the clock when a datagram comes. This process may have slept while the
active source went on sending: its datagrams wait in the kernel, perhaps behind one of another
sender. So the ingest asks `overdue`, reads the sockets, asks again, and only then calls
`fall_silent`.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from relaylib.media.form import Form
from relaylib.net.address import Address
from relaylib.net.networks import Network, contains
from relaylib.source.send_rate import PERIOD, SendRate, SendRates

ESTABLISHED = 50
"""Datagrams after which a source of unknown form is established: a tenth of a second of a 5 Mb/s
stream, and more than stray datagrams or typed lines."""

QUIET = 0.5
"""Seconds without a datagram of the active source after which others of its host are counted."""

LOOP_PAUSE = 1.0
"""Seconds for which a sender is barred whose stream went in a circle of relays: until no datagram
is under way in the circle. An encoder may begin at once."""

REMEMBERED = 60.0
"""Seconds after its last datagram for which a former source may come back: time to restart it."""

RETURNING = 1.0
"""Seconds for which a former source has to send before it is back, and seconds after a takeover in
which the active source cannot be displaced by it."""

TRICKLE = 0.1
"""Share of the former source's rate below which the active source trickles."""

AT_ITS_RATE = 0.5
"""Share of its former rate at which a former source is back."""

ENOUGH = 250.0
"""Datagrams a second at which a former source is back, whatever its former rate: 2.6 Mb/s. The
standby socket has a small buffer, and may drop the rest of a fast stream."""


class Hold(Enum):
    """How the ingest is held; see the drawing."""

    ABSENT = "absent"
    STRAY = "stray"
    PROVISIONAL = "provisional"
    HELD = "held"
    SILENT = "silent"


class Event(Enum):
    """What may happen: a datagram comes, or a fact about the stream is found out."""

    OWN = "own"
    """A datagram of the active source, which is not established yet."""
    OWN_PROOF = "own_proof"
    """A datagram of the active source, which is established: by its form or by their number."""
    OWN_EMPTY = "own_empty"
    """An empty datagram of the active source: it ends no silence."""
    APPOINTED = "appointed"
    """A datagram of the successor."""
    RETURNS = "returns"
    """A datagram of the former source, back at its rate while the active source trickles."""
    RECOGNISED = "recognised"
    """A datagram of another sender, whose form is known."""
    OPAQUE = "opaque"
    """A datagram of another sender, whose form is not known."""
    EMPTY = "empty"
    """An empty datagram of another sender."""
    BARRED = "barred"
    """A datagram of a sender that is barred, because its stream went in a circle."""
    FOREIGN = "foreign"
    """A datagram of a sender that is not allowed."""
    FORM_FOUND = "form_found"
    """The walk, which reads the whole stream, has recognised its form."""
    STREAMS = "streams"
    """The active source has sent like a stream, or there is no former source any more."""
    TRICKLES = "trickles"
    """The active source trickles, and there is a former source."""
    READ_ALL = "read_all"
    """Everything has been read, and the active source has been silent for the time-out."""
    CIRCLE = "circle"
    """The active source's stream was sent by this relay before."""


class Decision(Enum):
    """Whether a datagram is part of the stream or rejected, and what it changes."""

    STREAM = "stream"
    """Part of the stream: its sender is the active source."""
    STARTED = "started"
    """Part of the stream: its sender is now the active source, and there was none before."""
    TAKEOVER = "takeover"
    """Part of the stream: its sender is now the active source, in place of another (`Reason`)."""
    RESUMED = "resumed"
    """Part of the stream: the active source, which was silent, is back."""
    LOCKED = "locked"
    """Rejected: another source is active."""
    NOT_ALLOWED = "not_allowed"
    """Rejected: its sender may never send the stream."""
    LOOP = "loop"
    """Rejected: its sender is barred for a loop; see `loop_detection`."""
    EMPTY = "empty"
    """Rejected: an empty datagram begins no stream. Not logged."""

    @property
    def accepted(self) -> bool:
        """Whether the datagram is part of the stream."""
        return self not in _REJECTED


_REJECTED = (Decision.LOCKED, Decision.EMPTY, Decision.LOOP, Decision.NOT_ALLOWED)


class Reason(Enum):
    """Why another source takes over."""

    SILENCE = "silence"
    """The previous source was silent."""
    FORM = "form"
    """The new source's form is recognised; the previous one was not established."""
    RETURNED = "returned"
    """The former source is back; the previous one took over in its silence, and trickles."""
    ERRORS = "errors"
    """Appointed: the previous source's stream has gaps, the new one's has none."""
    PREFERRED = "preferred"
    """Appointed: the configuration prefers the new source."""


_A, _S, _P, _H, _Q = Hold
_STARTED, _STREAM, _RESUMED = Decision.STARTED, Decision.STREAM, Decision.RESUMED
_LOCKED, _EMPTY, _LOOP, _BANNED = _REJECTED
_NEXT, _SILENCE, _FORM, _BACK = Decision.TAKEOVER, Reason.SILENCE, Reason.FORM, Reason.RETURNED

Cell = tuple[Decision | Reason | None, Hold] | None
"""The decision about a datagram, and how the ingest is held after it.

A `Reason` in place of a decision is a takeover for that reason; `TAKEOVER` is one for the reason of
the appointment. A decision of None: the event is no datagram. None instead of a cell: the event
cannot happen in this state.
"""

# fmt: off
_ROWS: dict[Event, tuple[Cell, ...]] = {
    # while it is      ABSENT          STRAY          PROVISIONAL    HELD           SILENT
    Event.OWN:        (None,           (_STREAM, _S), None,          None,          (_RESUMED, _S)),
    Event.OWN_PROOF:  (None,           (_STREAM, _P), (_STREAM, _P), (_STREAM, _H), (_RESUMED, _P)),
    Event.OWN_EMPTY:  (None,           (_STREAM, _S), (_STREAM, _P), (_STREAM, _H), (_STREAM, _Q)),
    Event.APPOINTED:  ((_STARTED, _H), (_NEXT, _H),   (_NEXT, _H),   (_NEXT, _H),   (_SILENCE, _H)),
    Event.RETURNS:    (None,           (_BACK, _P),   (_BACK, _P),   (_LOCKED, _H), (_SILENCE, _P)),
    Event.RECOGNISED: ((_STARTED, _P), (_FORM, _P),   (_LOCKED, _P), (_LOCKED, _H), (_SILENCE, _P)),
    Event.OPAQUE:     ((_STARTED, _S), (_LOCKED, _S), (_LOCKED, _P), (_LOCKED, _H), (_SILENCE, _S)),
    Event.EMPTY:      ((_EMPTY, _A),   (_LOCKED, _S), (_LOCKED, _P), (_LOCKED, _H), (_EMPTY, _Q)),
    Event.BARRED:     ((_LOOP, _A),    (_LOOP, _S),   (_LOOP, _P),   (_LOOP, _H),   (_LOOP, _Q)),
    Event.FOREIGN:    ((_BANNED, _A),  (_BANNED, _S), (_BANNED, _P), (_BANNED, _H), (_BANNED, _Q)),
    Event.FORM_FOUND: ((None, _A),     (None, _P),    (None, _P),    (None, _H),    (None, _Q)),
    Event.STREAMS:    (None,           None,          (None, _H),    None,          None),
    Event.TRICKLES:   (None,           None,          None,          (None, _P),    None),
    Event.READ_ALL:   (None,           (None, _Q),    (None, _Q),    (None, _Q),    None),
    Event.CIRCLE:     (None,           (None, _A),    (None, _A),    (None, _A),    (None, _A)),
}
# fmt: on

TABLE: dict[tuple[Hold, Event], Cell] = {
    (hold, event): cell
    for event, row in _ROWS.items()
    for hold, cell in zip(Hold, row, strict=True)
}


class Presence(Enum):
    """Whether there is a source."""

    ABSENT = "absent"
    """There has been no source yet, or only stray datagrams, which have ended."""
    ACTIVE = "active"
    SILENT = "silent"


class Successor(NamedTuple):
    """The source that takes over with its next datagram; its form has been recognised."""

    source: Address
    reason: Reason
    form: Form


@dataclass(frozen=True, slots=True)
class Former:
    """A source that may come back `until` then; `rate` is in datagrams a second."""

    source: Address
    rate: float
    until: float


@dataclass(slots=True)
class GateState:
    """What a reload hands over.

    `active` is None until the first source comes. `last` is the time of its last datagram, in
    seconds of the monotonic clock, which all processes share. `rejected` counts datagrams. `form`
    is the active source's; its `datagrams` are counted until it is established. `since` is when it
    became the active source, None if an older program did not know.
    """

    active: Address | None = None
    silent: bool = False
    last: float = 0.0
    rejected: int = 0
    form: Form = Form.OPAQUE
    datagrams: int = ESTABLISHED  # older programs counted none: any source was established
    since: float | None = None
    turned_away: int = 0
    """Rejected datagrams of the active source's host, from another port, while the active source
    was quiet: so a sender that changes its port counts, and a standby, which sends beside the
    active source, does not.
    """
    rate: float = 0.0
    """Datagrams a second of the active source, over the seconds before its last one."""
    former: Former | None = None


class Gate:
    """Decides datagram by datagram. Times are seconds; `timeout` without a datagram is silence."""

    def __init__(self, allowed: tuple[Network, ...], timeout: float) -> None:
        self.state = GateState()
        self.hold = Hold.ABSENT
        self.reason = Reason.SILENCE
        """Why the latest takeover happened."""
        self.unsettled = False
        """There is a new source, which `settle` has not returned yet."""
        self._allowed = allowed
        self._timeout = timeout
        self._successor: Successor | None = None
        self._other: Address | None = None  # the last other sender of the active source's host
        self._other_since = 0.0
        self._asked, self._answer = "", False
        self._barred = dict[Address, float]()
        self._own_rate: SendRate | None = None
        self._rejected, self._returning = SendRates(), SendRates()

    def restore(self, saved: GateState) -> None:
        """Go on from this state, without an active source that is no longer allowed."""
        self.state = saved
        if saved.active is not None and not self._allows(saved.active):
            saved.active = None
        self._enter(self._as_saved())
        self.unsettled = self.hold is not Hold.ABSENT and not self._is_established

    def _as_saved(self) -> Hold:
        if self.state.active is None:
            return Hold.ABSENT
        if self.state.silent:
            return Hold.SILENT
        return Hold.PROVISIONAL if self._is_established else Hold.STRAY

    # --- the active source

    @property
    def holder(self) -> Address | None:
        """The active source, silent or not, if it is established."""
        return self.state.active if self._is_established else None

    @property
    def undisputed(self) -> Address | None:
        """The source whose datagrams need not be offered: no other can take over from it now."""
        return self.state.active if self.hold is Hold.HELD and not self._successor else None

    @property
    def steady(self) -> Address | None:
        """The source whose stream may be read without looking at other senders' datagrams."""
        is_held = self.hold in (Hold.PROVISIONAL, Hold.HELD)
        return self.state.active if is_held and not self._successor else None

    @property
    def presence(self) -> Presence:
        """Whether there is a source."""
        if self.hold is Hold.ABSENT or (self.hold is Hold.SILENT and not self._is_established):
            return Presence.ABSENT
        return Presence.SILENT if self.hold is Hold.SILENT else Presence.ACTIVE

    def settle(self) -> Address | None:
        """Return a new active source once, when it is established: others may be kept away now."""
        if not self.unsettled or self.holder is None:
            return None
        self.unsettled = False
        return self.holder

    # --- a datagram

    def offer(self, source: Address, size: int, now: float, form: Form = Form.OPAQUE) -> Decision:
        """Decide about a datagram of `size` bytes, and give its sender the ingest if the rules do.

        `form` is the sender's form as far as it is recognised. An empty datagram begins no stream
        and ends no silence; one of the active source is let through.
        """
        if size and source == self.state.active:
            self.state.datagrams = min(self.state.datagrams + 1, ESTABLISHED)
            self._learn(form)
        event = self._event(source, size, now, form)
        before = self.hold
        answer = self._happens(event)
        if answer in _REJECTED:
            self.state.rejected += 1
            self._note_rejected(source, now)
            if event not in (Event.BARRED, Event.FOREIGN):
                self._note_other(source, now, before)
        elif source != self.state.active:
            self._hand_over(source, now, form, event)
            return self._say_why(answer)
        elif size:
            self._sent(now, answer)
        assert isinstance(answer, Decision)
        return answer

    def accepts(self, source: Address, size: int, now: float, form: Form = Form.OPAQUE) -> bool:
        """Tell whether `offer` would make a datagram that is not empty part of the stream."""
        cell = TABLE[self.hold, self._event(source, size, now, form)]
        return size > 0 and cell is not None and cell[0] not in _REJECTED

    def _event(self, source: Address, size: int, now: float, form: Form) -> Event:
        if source == self.state.active:
            return self._own if size else Event.OWN_EMPTY
        if self._barred and self._barred.get(source, now) > now:
            return Event.BARRED
        if not self._allows(source):
            return Event.FOREIGN
        if not size:
            return Event.EMPTY
        return self._claim(source, now, form)

    def _claim(self, source: Address, now: float, form: Form) -> Event:
        """Return the event that another sender's datagram is."""
        if self._successor and source == self._successor.source:
            return Event.APPOINTED
        if self._returns(source, now):
            return Event.RETURNS
        return Event.OPAQUE if form is Form.OPAQUE else Event.RECOGNISED

    @property
    def _own(self) -> Event:
        return Event.OWN_PROOF if self._is_established else Event.OWN

    def _hand_over(self, source: Address, now: float, form: Form, event: Event) -> None:
        """Make this sender the active source."""
        state = self.state
        if self._successor and event is Event.APPOINTED:
            self.reason, form = self._successor.reason, self._successor.form
            state.former = None
        state.active, state.last, state.since, state.form = source, now, now, form
        state.datagrams = ESTABLISHED if event is Event.RETURNS else 1
        state.rate, self._own_rate = 0.0, SendRate(now)
        self._successor, self.unsettled = None, True

    def _say_why(self, answer: Decision | Reason | None) -> Decision:
        """Return the decision for a new source, and remember the reason of a takeover."""
        if isinstance(answer, Reason):
            self.reason = answer
            return Decision.TAKEOVER
        assert answer is not None
        return answer

    def _returns(self, source: Address, now: float) -> bool:
        """Tell whether the former source, known by its host, is back while the active one trickles.

        It is back if it sends at its rate.
        """
        former = self.state.former
        if former is None or source[0] != former.source[0] or now >= former.until:
            return False
        rate = self._returning.at(source, now, RETURNING)
        is_back = rate >= min(AT_ITS_RATE * former.rate, ENOUGH)
        return is_back and self._trickles(now, RETURNING)

    def _trickles(self, now: float, least: float) -> bool:
        """Tell whether the active source has held the ingest for `least` s and sends a trickle.

        Without a former source there is no rate to compare with: False.
        """
        own, former = self._own_rate, self.state.former
        if own is None or former is None or now - own.begun < least:
            return False
        return own.at(now) < TRICKLE * former.rate

    def _streams(self, now: float) -> bool:
        own = self._own_rate
        return own is not None and now - own.begun >= PERIOD and not self._trickles(now, PERIOD)

    def _note_rejected(self, source: Address, now: float) -> None:
        self._rejected.add(source, now)
        if self.state.former and source[0] == self.state.former.source[0]:
            self._returning.add(source, now)

    def _note_other(self, source: Address, now: float, hold: Hold) -> None:
        """Count a datagram if it seems to be the active source's, from another port."""
        state = self.state
        if state.active is None or hold is Hold.SILENT or source[0] != state.active[0]:
            return
        if source != self._other:
            self._other, self._other_since = source, now
        if now - state.last > QUIET and self._other_since >= state.last:
            state.turned_away += 1

    # --- everything else that happens

    def heard(self, now: float, count: int = 1) -> Decision:
        """Count datagrams of the active source, offered or not, for its rate."""
        if self._own_rate is None:
            self._own_rate = SendRate(now)
        self._own_rate.add(now, count)
        decision = self._happens(self._own)
        assert isinstance(decision, Decision)
        self._sent(now, decision)
        return decision

    def _sent(self, now: float, answer: Decision | Reason | None) -> None:
        self.state.last = now
        if answer is Decision.RESUMED:
            self._forget(self.state.active)

    def _forget(self, source: Address | None) -> None:
        """Forget the former source if it is this one: it is active again, or barred."""
        if self.state.former and self.state.former.source == source:
            self.pin()

    def pin(self) -> None:
        """Forget the former source, so that the active one holds the ingest alone."""
        self.state.former = None
        if self.hold is Hold.PROVISIONAL:
            self._happens(Event.STREAMS)

    def look(self, now: float) -> None:
        """Compare the active source's rate with the former one's; call it some times a second."""
        self._note_rate()
        if self.state.former and now >= self.state.former.until:
            self.pin()
        if self.hold is Hold.PROVISIONAL and self._streams(now):
            self._happens(Event.STREAMS)
        elif self.hold is Hold.HELD and self._trickles(now, PERIOD):
            self._happens(Event.TRICKLES)

    def _note_rate(self) -> None:
        own, state = self._own_rate, self.state
        if own and (state.last - own.begun >= 1.0 or not state.rate):
            state.rate = own.at(state.last)

    def rates(self, source: Address, now: float) -> tuple[float, float]:
        """Return the datagrams a second of a rejected sender, and of the active source."""
        active = self._own_rate.at(now) if self._own_rate and self.state.active else 0.0
        return self._rejected.at(source, now), active

    def recognise(self, form: Form) -> None:
        """Note the form of the active source's stream, as the walk has recognised it."""
        self._learn(form)
        if form is not Form.OPAQUE:
            self._happens(Event.FORM_FOUND)

    def appoint(self, successor: Successor | None) -> None:
        """Let this source take over with its next datagram; None withdraws an appointment."""
        self._successor = successor

    def overdue(self, now: float) -> bool:
        """Tell whether the active source's last datagram is older than the time-out."""
        is_sending = self.hold not in (Hold.ABSENT, Hold.SILENT)
        return is_sending and now - self.state.last >= self._timeout

    def fall_silent(self) -> None:
        """Let any source take over: every socket has been read, and the active one is silent."""
        self._note_rate()
        state = self.state
        if self.hold is Hold.HELD and state.active:
            state.former = Former(state.active, state.rate, state.last + REMEMBERED)
        self._happens(Event.READ_ALL)

    def bar(self, now: float) -> None:
        """Bar the active source for `LOOP_PAUSE`: its stream goes in a circle."""
        assert self.state.active is not None
        self._barred = {each: until for each, until in self._barred.items() if until > now}
        self._barred[self.state.active] = now + LOOP_PAUSE
        self._forget(self.state.active)
        self._happens(Event.CIRCLE)
        self._successor, self.unsettled = None, False

    def _happens(self, event: Event) -> Decision | Reason | None:
        cell = TABLE[self.hold, event]
        assert cell is not None, (self.hold, event)
        answer, hold = cell
        if hold is not self.hold:
            self._enter(hold)
        return answer

    def _enter(self, hold: Hold) -> None:
        if hold is Hold.PROVISIONAL and self.state.former is None:
            hold = Hold.HELD
        self.hold = hold
        self.state.silent = hold is Hold.SILENT
        if hold is Hold.ABSENT:
            self.state.active = self._own_rate = None

    def _learn(self, form: Form) -> None:
        """Note a recognised form; an opaque datagram does not change the form."""
        if form is not Form.OPAQUE:
            self.state.form = form

    @property
    def _is_established(self) -> bool:
        return self.state.form is not Form.OPAQUE or self.state.datagrams >= ESTABLISHED

    def _allows(self, source: Address) -> bool:
        """Tell whether a source is allowed. The last answer is kept: a flood has one sender."""
        if source[0] != self._asked:
            self._asked, self._answer = source[0], contains(self._allowed, source[0])
        return self._answer
