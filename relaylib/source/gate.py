"""Who may send the stream: the first source that may, until it has fallen silent. Pure.

Two sources at once would splice their streams into one that nothing can play. So one is active and
all others are rejected, until it has been silent for the time-out; the next one to send then takes
over, which makes a second encoder a hot standby. Rejected: the newest source wins (one stray packet
ends the stream), and the smallest address wins (nobody knows which one that is).

A stray datagram is no source, but nobody can tell it from the first one of a stream of unknown
form. So whoever comes first is forwarded at once, and holds the ingest for certain only when it is
established: its form has been recognised, or it has sent `ESTABLISHED` datagrams. Until then the
first recognised stream takes over. Never the other way round: bytes without a form are easy to
send, and displace nothing.

Who looks at the health of the streams may appoint a successor, whose next datagram takes over.

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
class LockState:
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


class SourceLock:
    """Decides datagram by datagram. Times are seconds; `timeout` without a datagram is silence."""

    def __init__(self, allowed: tuple[Network, ...], timeout: float) -> None:
        self.state = LockState()
        self.reason = Reason.SILENCE
        """Why the latest takeover happened."""
        self._allowed = allowed
        self._timeout = timeout
        self._successor: Successor | None = None
        self._other: Address | None = None  # of the active source's host; who sent last
        self._other_since = 0.0
        self._asked, self._answer = "", False
        self._barred = set[Address]()

    def restore(self, saved: LockState) -> None:
        """Go on from this state, without an active source that is no longer allowed."""
        self.state = saved
        if saved.active is not None and not self._allows(saved.active):
            saved.active = None
            saved.silent = False

    @property
    def holder(self) -> Address | None:
        """The active source, silent or not, if it is established."""
        return self.state.active if self._is_established else None

    @property
    def undisputed(self) -> Address | None:
        """The source whose datagrams need not be offered: nobody can take over from it now."""
        return None if self.state.silent or self._successor else self.holder

    @property
    def presence(self) -> Presence:
        """Whether there is a source."""
        if self.state.active is None or (self.state.silent and not self._is_established):
            return Presence.ABSENT
        return Presence.SILENT if self.state.silent else Presence.ACTIVE

    def offer(self, source: Address, size: int, now: float, form: Form = Form.OPAQUE) -> Decision:
        """Decide about a datagram of `size` bytes, and lock to its source if it may have the lock.

        `form` is what its sender's datagrams have been recognised as by now. An empty datagram
        begins nothing and ends no silence; the active source's is let through.
        """
        state = self.state
        if source == state.active:
            if not size:
                return Decision.STREAM
            state.datagrams = min(state.datagrams + 1, ESTABLISHED)
            self.recognise(form)
            return self.heard(now)
        if not self.accepts(source, size, form):
            state.rejected += 1
            return self._why_not(source, now)
        first, reason = state.active is None, self._claim(source, form)
        if self._successor and source == self._successor.source:
            form = self._successor.form
        state.active, state.silent, state.last = source, False, now
        state.form, state.datagrams, state.since = form, 1, now
        self._successor = None
        if first or reason is None:
            return Decision.STARTED
        self.reason = reason
        return Decision.TAKEOVER

    def _note_other(self, source: Address, now: float) -> None:
        """Count a datagram if it seems to be the active source's, from another port."""
        state = self.state
        if state.active is None or state.silent or source[0] != state.active[0]:
            return
        if source != self._other:
            self._other, self._other_since = source, now
        if now - state.last > QUIET and self._other_since >= state.last:
            state.turned_away += 1

    def accepts(self, source: Address, size: int, form: Form = Form.OPAQUE) -> bool:
        """Tell whether `offer` would make a datagram with something in it part of the stream."""
        if not size or source == self.state.active:
            return size > 0
        claims = self.state.active is None or self._claim(source, form) is not None
        return claims and source not in self._barred and self._allows(source)

    def _why_not(self, source: Address, now: float) -> Decision:
        if source in self._barred:
            return Decision.LOOP
        if not self._allows(source):
            return Decision.NOT_ALLOWED
        self._note_other(source, now)
        return Decision.EMPTY if self._is_free else Decision.LOCKED

    def _claim(self, source: Address, form: Form) -> Reason | None:
        """Say why this source may take over from the active one; None: it may not."""
        if self.state.silent:
            return Reason.SILENCE
        if form is not Form.OPAQUE and not self._is_established:
            return Reason.FORM
        if self._successor and source == self._successor.source:
            return self._successor.reason
        return None

    def bar(self, source: Address) -> None:
        """Let nothing in from the active source until `unbar`: there is none from now on."""
        self._barred.add(source)
        self.state.active, self.state.silent = None, False
        self._successor = None

    def unbar(self, source: Address) -> None:
        """Let this source send again."""
        self._barred.discard(source)

    def appoint(self, successor: Successor | None) -> None:
        """Let this source take over with its next datagram; None: nobody, unless it may anyway."""
        self._successor = successor

    def recognise(self, form: Form) -> None:
        """Note what the active source sends. What is opaque now has not lost its form for that."""
        if form is not Form.OPAQUE:
            self.state.form = form

    def heard(self, now: float) -> Decision:
        """Note that the active source has sent something, without looking at each datagram."""
        self.state.last = now
        if not self.state.silent:
            return Decision.STREAM
        self.state.silent = False
        return Decision.RESUMED

    def overdue(self, now: float) -> bool:
        """Tell whether the active source has not been heard for long enough to be silent."""
        state = self.state
        return state.active is not None and not state.silent and now - state.last >= self._timeout

    def fall_silent(self) -> None:
        """Let another source take over: everything has been read, and nothing was there."""
        self.state.silent = True

    @property
    def _is_established(self) -> bool:
        return self.state.form is not Form.OPAQUE or self.state.datagrams >= ESTABLISHED

    @property
    def _is_free(self) -> bool:
        return self.state.active is None or self.state.silent

    def _allows(self, source: Address) -> bool:
        """Look it up, or remember: in a flood it is always the same one."""
        if source[0] != self._asked:
            self._asked, self._answer = source[0], contains(self._allowed, source[0])
        return self._answer
