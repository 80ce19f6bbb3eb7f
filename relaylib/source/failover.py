"""When a source that sends, but badly, gives way to a standby, and when a preferred one comes back.

Judged once a second, from continuity errors: `Failover` decides from numbers alone. Those of the
active source are counted where its stream is read, for everybody; `Rivals` gets those of one
standby by looking at its datagrams. Whoever else sends is not looked at. Only a transport stream
can be followed, because of no other it is known whether something is missing. Pure.

Many continuity errors are no reason as long as there is nobody better; and what this relay had to
drop itself tells nothing about who sent it. So a flood of strangers, which drowns the standby, can
prevent a failover and never cause one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from relaylib.media.form import Form, Recogniser
from relaylib.media.health import Monitor
from relaylib.net.address import Address
from relaylib.net.networks import Network, contains
from relaylib.source.gate import Reason, Successor

FAULTY = 3
"""Seconds of too many errors after which the active source gives way: not for one bad moment."""

CLEAN = 3
"""Seconds without an error that make a standby better."""

HEALTHY = 10
"""Seconds without an error after which a preferred source gets the ingest back."""


@dataclass(slots=True)
class FailoverState:
    """What a reload hands over: seconds in a row, the active source's and the standby's."""

    active: Address | None = None
    faulty: int = 0
    standby: Address | None = None
    clean: int = 0


class Failover:
    """Decides, second by second; `limit` is in errors a second, None: no matter how many."""

    def __init__(self, limit: int | None, prefer: tuple[Network, ...]) -> None:
        self.state = FailoverState()
        self._limit = limit
        self._prefer = prefer

    def judge(
        self, active: Address, errors: int | None, standby: Address | None, others: int | None
    ) -> Reason | None:
        """Note the errors of the active source and of the standby in the last second, and decide.

        None: they are not known, which counts neither for nor against. Returns why the standby is
        to take over, None if it is not.
        """
        state = self.state
        if (state.active, state.standby) != (active, standby):
            state.faulty = state.faulty if state.active == active else 0
            state.clean = state.clean if state.standby == standby else 0
            state.active, state.standby = active, standby
        if errors is not None and self._limit is not None:
            state.faulty = state.faulty + 1 if errors > self._limit else 0
        if others is not None:
            state.clean = 0 if others else state.clean + 1
        if standby is None:
            return None
        if state.faulty >= FAULTY and state.clean >= CLEAN:
            return Reason.ERRORS
        prefers = self.prefers(standby) and not self.prefers(active)
        return Reason.PREFERRED if prefers and state.clean >= HEALTHY else None

    def prefers(self, source: Address) -> bool:
        """Tell whether the configuration prefers this source."""
        return contains(self._prefer, source[0])


class SenderErrors:
    """Counts the continuity errors of one sender."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.datagrams = 0
        """In this second."""
        self._monitor = Monitor()
        self._errors: int | None = None  # until the end of the second in which it came: not known

    @property
    def form(self) -> Form:
        return self._monitor.form or Form.OPAQUE

    def feed(self, datagram: bytes | memoryview, now: float) -> None:
        """Take a datagram."""
        self.datagrams += 1
        self._monitor.feed(datagram, now)

    def take_errors(self) -> int | None:
        """Return the errors since the last call, a second ago; None if they are not known.

        Nor are they as long as there is no program in the stream: stuffing alone is no standby.
        """
        before, self.datagrams = self._errors, 0
        transport = self._monitor.transport
        self._errors = transport.errors.counts["Continuity_count_error"]
        return None if before is None or not transport.tables.programs else self._errors - before


class Rivals:
    """The active source and the standby that is followed, if there is one.

    `count` tells how many continuity errors there were in the active source's stream, None if that
    is not known.
    """

    def __init__(
        self, limit: int | None, prefer: tuple[Network, ...], count: Callable[[], int | None]
    ) -> None:
        self.failover = Failover(limit, prefer)
        self._count = count
        self._active: Address | None = None
        self._before: int | None = None
        self._standby: SenderErrors | None = None

    def follow(self, source: Address, datagram: bytes | memoryview, now: float) -> None:
        """Look at a datagram of somebody else who may send, if this is the standby to follow.

        That is the first one who sends a transport stream, for as long as it does; a preferred one
        displaces one that is not.
        """
        standby = self._standby
        if standby is None or (source != standby.address and self._is_better(source, standby)):
            if Recogniser().feed(bytes(datagram)) is Form.OPAQUE:
                return
            standby = self._standby = SenderErrors(source)
        if source == standby.address:
            standby.feed(datagram, now)

    def _is_better(self, source: Address, standby: SenderErrors) -> bool:
        return self.failover.prefers(source) and not self.failover.prefers(standby.address)

    def judge(self, active: Address, *, dropped: bool, others_dropped: bool) -> Successor | None:
        """Judge the last second, in which datagrams may have been dropped here; who takes over?"""
        if self._standby and (not self._standby.datagrams or self._standby.address == active):
            self._standby = None
        standby, errors = self._standby, self._take_errors(active)
        others = standby.take_errors() if standby else None
        reason = self.failover.judge(
            active,
            None if dropped else errors,
            standby.address if standby else None,
            None if others_dropped else others,
        )
        return Successor(standby.address, reason, standby.form) if standby and reason else None

    def _take_errors(self, active: Address) -> int | None:
        """Return the active source's errors since the last call; None if they are not known."""
        count, before = self._count(), self._before if active == self._active else None
        self._active, self._before = active, count
        return None if count is None or before is None else count - before
