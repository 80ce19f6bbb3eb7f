"""When a source that sends, but badly, gives way to a standby, and when a preferred one comes back.

`Failover` judges once a second, from numbers of continuity errors alone. The walk counts the errors
of the active source; `Rivals` counts those of one standby by looking at its datagrams. Other
senders are not looked at. A standby must send a transport stream, because in other forms missing
datagrams do not show. Pure.

Many continuity errors are no reason for a failover without a better standby. A second in which this
relay had to drop datagrams itself does not count, because the errors may be its own. So a flood
from other senders, which fills the standby's buffer, can prevent a failover and never cause one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from relaylib.media.form import Form, Recogniser
from relaylib.media.health import Monitor
from relaylib.net.address import Address
from relaylib.net.networks import Network, contains
from relaylib.source.gate import Reason, Successor

FAULTY = 3
"""Seconds in a row with too many errors after which the active source gives way."""

CLEAN = 3
"""Seconds in a row without an error after which a standby may take over from a faulty source."""

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
    """Decides once a second. `limit` is in errors a second; None: errors cause no failover."""

    def __init__(self, limit: int | None, prefer: tuple[Network, ...]) -> None:
        self.state = FailoverState()
        self._limit = limit
        self._prefer = prefer

    def judge(
        self, active: Address, errors: int | None, standby: Address | None, others: int | None
    ) -> Reason | None:
        """Note the errors of the active source and of the standby in the last second, and decide.

        Errors of None are not known, and count neither for nor against a source. Returns the reason
        for which the standby is to take over, None if it is not.
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
        """Datagrams of this sender in the current second."""
        self._monitor = Monitor()
        self._errors: int | None = None  # not known until the end of its first second

    @property
    def form(self) -> Form:
        return self._monitor.form or Form.OPAQUE

    def feed(self, datagram: bytes | memoryview, now: float) -> None:
        """Take a datagram."""
        self.datagrams += 1
        self._monitor.feed(datagram, now)

    def take_errors(self) -> int | None:
        """Return the errors since the last call, a second ago; None if they are not known.

        They are not known either while the stream has no program: stuffing alone is no standby.
        """
        before, self.datagrams = self._errors, 0
        transport = self._monitor.transport
        self._errors = transport.errors.counts["Continuity_count_error"]
        return None if before is None or not transport.tables.programs else self._errors - before


class Rivals:
    """The active source and the standby that is followed, if there is one.

    `count` returns the number of continuity errors in the active source's stream, None if it is not
    known.
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
        """Look at a datagram of another allowed sender, if that is the standby to follow.

        The standby is the first sender of a transport stream, for as long as it sends. A preferred
        sender displaces a standby that is not preferred.
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
        """Judge the last second; return the source that is to take over, if one is.

        `dropped`, `others_dropped`: this relay has dropped datagrams of the active source, of other
        senders.
        """
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
