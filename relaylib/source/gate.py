"""Who may send the stream: all rules, as one table. Pure: datagrams and times in, decisions out.

Two sources at once would splice their streams into one that nothing can play. So one holds the
ingest, the active source, and all others are rejected. This is who holds it when:

                 anybody: opaque
      ABSENT ----------------------> STRAY  the first who came; sends nothing that is recognised
     nobody has                        |      may be displaced by anybody's recognised stream
     sent yet                          |
         |                             | its form is recognised, or its 50th datagram,
         |  anybody: recognised        | or another's recognised stream (FORM)
         +-------------+   +-----------+
                       v   v
                       HELD  the active source alone, until it is silent
                       |  ^    another one that was appointed takes over (ERRORS, PREFERRED)
       silent, and     |  |
       all is read     |  | it sends again (RESUMED), or anybody's recognised stream (SILENCE)
                       v  |
                      SILENT  still its own, for whoever comes first; a STRAY falls silent, too,
                                and anybody's opaque datagram makes a STRAY of its sender

    In any state: what goes in a circle is found in the active source's stream: ABSENT, and that
    sender is barred for a second. Who is not allowed, or barred, or sends nothing, gets nothing.

Rejected: the newest source wins (one stray packet ends the stream), and the smallest address wins
(nobody knows which one that is).

A stray datagram is no source, but nobody can tell it from the first one of a stream of unknown
form. So whoever comes first is forwarded at once. A recognised stream takes over from a stray one,
and never the other way round: bytes without a form are easy to send, and displace nothing.

Silence is not computed from the clock when a datagram comes. This process may have slept while the
active source went on sending: what it sent is waiting in the kernel, perhaps behind a datagram of
somebody else. So whoever reads the sockets asks `overdue`, reads what there is, asks again, and
only then says `fall_silent`.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from relaylib.media.form import Form
from relaylib.net.address import Address
from relaylib.net.networks import Network, contains

ESTABLISHED = 50
"""Datagrams after which a source of unknown form is as protected as any: a tenth of a second of a
5 Mb/s stream, and more than what is typed or strays."""

QUIET = 0.5
"""Seconds without a datagram of the active source, after which others of its host are noted."""

LOOP_PAUSE = 1.0
"""Seconds for which nothing is let in from where a circle of relays comes back: until nothing goes
round any more, whatever it was held up by on the way. An encoder may begin at once."""


class Hold(Enum):
    """How the ingest is held; see the drawing."""

    ABSENT = "absent"
    STRAY = "stray"
    HELD = "held"
    SILENT = "silent"


class Event(Enum):
    """What may happen: a datagram comes, or something is found out."""

    OWN = "own"
    """The active source's datagram; it is not established by that."""
    OWN_PROOF = "own_proof"
    """The active source's, and its form is known, or it was the `ESTABLISHED`th."""
    OWN_EMPTY = "own_empty"
    """The active source's, with nothing in it: ends no silence."""
    APPOINTED = "appointed"
    """The successor's."""
    RECOGNISED = "recognised"
    """Somebody else's, whose form is known."""
    OPAQUE = "opaque"
    """Somebody else's, whose form is not known."""
    EMPTY = "empty"
    """Somebody else's, with nothing in it."""
    BARRED = "barred"
    """Of one in whose stream something went in a circle."""
    FOREIGN = "foreign"
    """Of one that is not allowed."""
    FORM_FOUND = "form_found"
    """Whoever looks at the whole stream has recognised it."""
    READ_ALL = "read_all"
    """Everything has been read, and the active source has been silent for the time-out."""
    CIRCLE = "circle"
    """What the active source sends was sent by this relay."""


class Decision(Enum):
    """What a datagram is: part of the stream, or rejected."""

    STREAM = "stream"
    """The active source's."""
    STARTED = "started"
    """Part of the stream: its sender is the active source now, and nobody was before."""
    TAKEOVER = "takeover"
    """Part of the stream: its sender is the active source now, in place of another (`Reason`)."""
    RESUMED = "resumed"
    """Part of the stream: the active source, which was silent, is back."""
    LOCKED = "locked"
    """Rejected: another source is active."""
    NOT_ALLOWED = "not_allowed"
    """Rejected: its sender may never send the stream."""
    LOOP = "loop"
    """Rejected: its sender just sent what this relay had sent; see `loop_detection`."""
    EMPTY = "empty"
    """Rejected: with nothing in it, it begins no stream. Not logged."""

    @property
    def accepted(self) -> bool:
        """Whether the datagram is part of the stream."""
        return self not in _REJECTED


_REJECTED = (Decision.LOCKED, Decision.NOT_ALLOWED, Decision.LOOP, Decision.EMPTY)


class Reason(Enum):
    """Why another source takes over."""

    SILENCE = "silence"
    """The active one was silent."""
    FORM = "form"
    """This one sends a stream; the active one was not established, and what it sends is opaque."""
    ERRORS = "errors"
    """Appointed: the active one's stream has gaps, this one's has none."""
    PREFERRED = "preferred"
    """Appointed: the configuration prefers this one."""


_ABSENT, _STRAY, _HELD, _SILENT = Hold
_STARTED, _STREAM, _RESUMED = Decision.STARTED, Decision.STREAM, Decision.RESUMED
_LOCKED, _EMPTY, _NEXT = Decision.LOCKED, Decision.EMPTY, Decision.TAKEOVER
_FORM, _SILENCE = Reason.FORM, Reason.SILENCE

Cell = tuple[Decision | Reason | None, Hold] | None
"""The decision about the datagram, and how the ingest is held then. A reason is a takeover for it.

`TAKEOVER`: for the reason of the appointment. No decision: it was no datagram. None: cannot be.
"""

# fmt: off
_ROWS: dict[Event, tuple[Cell, ...]] = {
    # held:             ABSENT             STRAY              HELD              SILENT
    Event.OWN:        ( None,              (_STREAM, _STRAY), None,             (_RESUMED, _STRAY)),
    Event.OWN_PROOF:  ( None,              (_STREAM, _HELD),  (_STREAM, _HELD), (_RESUMED, _HELD)),
    Event.OWN_EMPTY:  ( None,              (_STREAM, _STRAY), (_STREAM, _HELD), (_STREAM, _SILENT)),
    Event.APPOINTED:  ((_STARTED, _HELD),  (_NEXT, _HELD),    (_NEXT, _HELD),   (_SILENCE, _HELD)),
    Event.RECOGNISED: ((_STARTED, _HELD),  (_FORM, _HELD),    (_LOCKED, _HELD), (_SILENCE, _HELD)),
    Event.OPAQUE:     ((_STARTED, _STRAY), (_LOCKED, _STRAY), (_LOCKED, _HELD), (_SILENCE, _STRAY)),
    Event.EMPTY:      ((_EMPTY, _ABSENT),  (_LOCKED, _STRAY), (_LOCKED, _HELD), (_EMPTY, _SILENT)),
    Event.BARRED:     tuple((Decision.LOOP, same) for same in Hold),
    Event.FOREIGN:    tuple((Decision.NOT_ALLOWED, same) for same in Hold),
    Event.FORM_FOUND: ((None, _ABSENT),    (None, _HELD),     (None, _HELD),    (None, _SILENT)),
    Event.READ_ALL:   ( None,              (None, _SILENT),   (None, _SILENT),  None),
    Event.CIRCLE:     ( None,              (None, _ABSENT),   (None, _ABSENT),  (None, _ABSENT)),
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
    """There has been none yet, or nothing but a stray datagram or two since."""
    ACTIVE = "active"
    SILENT = "silent"


class Successor(NamedTuple):
    """Who takes over with its next datagram; its form has been recognised."""

    source: Address
    reason: Reason
    form: Form


@dataclass(slots=True)
class GateState:
    """What a reload hands over.

    `active` is None until the first source comes. `last` is when it was last heard, in seconds of
    the monotonic clock, which all processes share. `rejected` counts datagrams. `form` is the
    active source's; its `datagrams` are counted until it is established. `since` is when it became
    the active source, None if an older program did not know.
    """

    active: Address | None = None
    silent: bool = False
    last: float = 0.0
    rejected: int = 0
    form: Form = Form.OPAQUE
    datagrams: int = ESTABLISHED  # older programs counted none: any source was established
    since: float | None = None
    turned_away: int = 0
    """Datagrams of the active source's host, from another port, rejected while it was quiet: of a
    sender that changes its port, and not of a standby, which sends beside the active source.
    """


class Gate:
    """Decides datagram by datagram. Times are seconds; `timeout` without a datagram is silence."""

    def __init__(self, allowed: tuple[Network, ...], timeout: float) -> None:
        self.state = GateState()
        self.hold = Hold.ABSENT
        self.reason = Reason.SILENCE
        """Why the latest takeover happened."""
        self.unsettled = False
        """There is another source than before, which `settle` has not returned yet."""
        self._allowed = allowed
        self._timeout = timeout
        self._successor: Successor | None = None
        self._other: Address | None = None  # of the active source's host; who sent last
        self._other_since = 0.0
        self._asked, self._answer = "", False
        self._barred = dict[Address, float]()

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
        return Hold.HELD if self._is_established else Hold.STRAY

    # --- who holds the ingest

    @property
    def holder(self) -> Address | None:
        """The active source, silent or not, if it is established."""
        return self.state.active if self._is_established else None

    @property
    def undisputed(self) -> Address | None:
        """The source whose datagrams need not be offered: nobody can take over from it now."""
        return self.state.active if self.hold is Hold.HELD and not self._successor else None

    @property
    def presence(self) -> Presence:
        """Whether there is a source."""
        if self.hold is Hold.ABSENT or (self.hold is Hold.SILENT and not self._is_established):
            return Presence.ABSENT
        return Presence.SILENT if self.hold is Hold.SILENT else Presence.ACTIVE

    def settle(self) -> Address | None:
        """Return the active source once, when it is established: others may be kept away now."""
        if not self.unsettled or self.holder is None:
            return None
        self.unsettled = False
        return self.holder

    # --- a datagram

    def offer(self, source: Address, size: int, now: float, form: Form = Form.OPAQUE) -> Decision:
        """Decide about a datagram of `size` bytes, and let its sender have the ingest if it may.

        `form` is what its sender's datagrams have been recognised as by now. An empty datagram
        begins nothing and ends no silence; the active source's is let through.
        """
        if size and source == self.state.active:
            self.state.datagrams = min(self.state.datagrams + 1, ESTABLISHED)
            self._learn(form)
        event = self._event(source, size, now, form)
        before = self.hold
        answer = self._happens(event)
        if answer in _REJECTED:
            self.state.rejected += 1
            if event not in (Event.BARRED, Event.FOREIGN):
                self._note_other(source, now, before)
        elif source != self.state.active:
            return self._hand_over(source, now, form, answer)
        elif size:
            self.state.last = now
        assert isinstance(answer, Decision)
        return answer

    def accepts(self, source: Address, size: int, now: float, form: Form = Form.OPAQUE) -> bool:
        """Tell whether `offer` would make a datagram with something in it part of the stream."""
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
        if self._successor and source == self._successor.source:
            return Event.APPOINTED
        return Event.OPAQUE if form is Form.OPAQUE else Event.RECOGNISED

    @property
    def _own(self) -> Event:
        return Event.OWN_PROOF if self._is_established else Event.OWN

    def _hand_over(
        self, source: Address, now: float, form: Form, answer: Decision | Reason | None
    ) -> Decision:
        """Make this one the active source."""
        state, successor = self.state, self._successor
        if successor and source == successor.source:
            form = successor.form
            answer = successor.reason if answer is Decision.TAKEOVER else answer
        state.active, state.last, state.since = source, now, now
        state.form, state.datagrams = form, 1
        self._successor, self.unsettled = None, True
        if not isinstance(answer, Reason):
            return Decision.STARTED
        self.reason = answer
        return Decision.TAKEOVER

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

    def heard(self, now: float) -> Decision:
        """Note that the active source has sent something, without looking at each datagram."""
        self.state.last = now
        decision = self._happens(self._own)
        assert isinstance(decision, Decision)
        return decision

    def recognise(self, form: Form) -> None:
        """Note what the active source sends, as whoever looks at all of it knows."""
        self._learn(form)
        if form is not Form.OPAQUE:
            self._happens(Event.FORM_FOUND)

    def appoint(self, successor: Successor | None) -> None:
        """Let this source take over with its next datagram; None: nobody, unless it may anyway."""
        self._successor = successor

    def overdue(self, now: float) -> bool:
        """Tell whether the active source has not been heard for long enough to be silent."""
        is_sending = self.hold not in (Hold.ABSENT, Hold.SILENT)
        return is_sending and now - self.state.last >= self._timeout

    def fall_silent(self) -> None:
        """Let another source take over: everything has been read, and nothing was there."""
        self._happens(Event.READ_ALL)

    def bar(self, now: float) -> None:
        """Let nothing in from the active source for a while: its stream goes in a circle."""
        assert self.state.active is not None
        self._barred = {each: until for each, until in self._barred.items() if until > now}
        self._barred[self.state.active] = now + LOOP_PAUSE
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
        self.hold = hold
        self.state.silent = hold is Hold.SILENT
        if hold is Hold.ABSENT:
            self.state.active = None

    def _learn(self, form: Form) -> None:
        """What is opaque now has not lost its form for that."""
        if form is not Form.OPAQUE:
            self.state.form = form

    @property
    def _is_established(self) -> bool:
        return self.state.form is not Form.OPAQUE or self.state.datagrams >= ESTABLISHED

    def _allows(self, source: Address) -> bool:
        """Look it up, or remember: in a flood it is always the same one."""
        if source[0] != self._asked:
            self._asked, self._answer = source[0], contains(self._allowed, source[0])
        return self._answer
