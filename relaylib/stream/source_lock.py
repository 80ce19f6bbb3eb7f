"""Who may send the stream: the first source that may, until it has fallen silent. Pure.

Two sources at once would splice their streams into one that nothing can play. So one is active and
all others are rejected, until it has been silent for the time-out; the next one to send then takes
over, which makes a second encoder a hot standby. Rejected: the newest source wins (one stray packet
ends the stream), and the smallest address wins (nobody knows which one that is).

Silence is not computed from the clock when a datagram comes. This process may have slept while the
active source went on sending: what it sent is waiting in the kernel, perhaps behind a datagram of
somebody else. So whoever reads the sockets asks `overdue`, reads what there is, asks again, and
only then says `fall_silent`.
"""

from dataclasses import dataclass
from enum import Enum

from relaylib.net.address import Address
from relaylib.net.networks import Network, contains


class Verdict(Enum):
    """What a datagram is: part of the stream, or rejected."""

    STREAM = "stream"
    """The active source's."""
    STARTED = "started"
    """Part of the stream: its sender is the active source now, and nobody was before."""
    TAKEOVER = "takeover"
    """Part of the stream: its sender is the active source now, in place of a silent one."""
    RESUMED = "resumed"
    """Part of the stream: the active source, which was silent, is back."""
    LOCKED = "locked"
    """Rejected: another source is active."""
    NOT_ALLOWED = "not_allowed"
    """Rejected: its sender may never send the stream."""
    EMPTY = "empty"
    """Rejected: with nothing in it, it begins no stream. Not logged."""

    @property
    def accepted(self) -> bool:
        """Whether the datagram is part of the stream."""
        return self not in _REJECTED


_REJECTED = (Verdict.LOCKED, Verdict.NOT_ALLOWED, Verdict.EMPTY)


@dataclass(slots=True)
class LockState:
    """What a restart hands over.

    `active` is None until the first source comes. `last` is when it was last heard, in seconds of
    the monotonic clock, which all processes share. `rejected` counts datagrams.
    """

    active: Address | None = None
    silent: bool = False
    last: float = 0.0
    rejected: int = 0


class SourceLock:
    """Decides datagram by datagram. Times are seconds; `timeout` without a datagram is silence."""

    def __init__(self, allowed: tuple[Network, ...], timeout: float) -> None:
        self.state = LockState()
        self._allowed = allowed
        self._timeout = timeout

    def restore(self, saved: LockState) -> None:
        """Go on from this state, without an active source that is no longer allowed."""
        self.state = saved
        if saved.active is not None and not self._allows(saved.active):
            saved.active = None
            saved.silent = False

    @property
    def undisputed(self) -> Address | None:
        """The source whose datagrams need not be offered: the active one, unless it is silent."""
        return None if self.state.silent else self.state.active

    def offer(self, source: Address, size: int, now: float) -> Verdict:
        """Decide about a datagram of `size` bytes, and lock to its source if it may have the lock.

        An empty datagram begins nothing and ends no silence; the active source's is let through.
        """
        state = self.state
        if source == state.active:
            return self.heard(now) if size else Verdict.STREAM
        if not self.accepts(source, size):
            state.rejected += 1
            if not self._allows(source):
                return Verdict.NOT_ALLOWED
            return Verdict.EMPTY if self._free else Verdict.LOCKED
        first = state.active is None
        state.active, state.silent, state.last = source, False, now
        return Verdict.STARTED if first else Verdict.TAKEOVER

    def accepts(self, source: Address, size: int) -> bool:
        """Tell whether `offer` would make a datagram with something in it part of the stream."""
        return size > 0 and (source == self.state.active or (self._free and self._allows(source)))

    def heard(self, now: float) -> Verdict:
        """Note that the active source has sent something, without looking at each datagram."""
        self.state.last = now
        if not self.state.silent:
            return Verdict.STREAM
        self.state.silent = False
        return Verdict.RESUMED

    def overdue(self, now: float) -> bool:
        """Tell whether the active source has not been heard for long enough to be silent."""
        state = self.state
        return state.active is not None and not state.silent and now - state.last >= self._timeout

    def fall_silent(self) -> None:
        """Let another source take over: everything has been read, and nothing was there."""
        self.state.silent = True

    @property
    def _free(self) -> bool:
        return self.state.active is None or self.state.silent

    def _allows(self, source: Address) -> bool:
        return contains(self._allowed, source[0])
