"""How long datagrams may gather before the next read. Pure.

A smooth stream (VLC sends a datagram every few milliseconds) would cost a turn of the loop and a
send to every output for each datagram. Read later, several come at once and leave at once, as with
the interrupt coalescing of a network card.

Rejected: always waiting as long as the cap allows. It delays the stream where a turn costs nothing
worth saving: with few outputs. Rejected, too: waiting for a number of datagrams. The delay would
depend on the bitrate, and the end of a burst would wait for the next one.
"""

import math

from relaylib.source.batch import MAX_DATAGRAMS


class Coalescer:
    """How long to let datagrams gather before the next read.

    Automatic: ten times what a turn costs, so that the relay spends about a tenth of a core on
    turns until the cap is reached. A few outputs cost microseconds, which rounds to no wait at
    all; a hundred cost a millisecond, which reaches the cap. If no second datagram is to be
    expected from one read to the next, a wait would only add a wake-up, so then there is none.

    Where viewers do not notice a delay, the wait is longer, so that the program wakes up less
    often: for as long as half of a batch takes to come, because the kernel's buffer, even the
    smallest, holds a whole one, and a larger batch would save nothing more.

    The cost of a turn and the interval of datagrams are averages that one slow turn hardly raises:
    a machine that was busy with other work is no reason to delay the stream.
    """

    CAP = 0.010
    """Longest added delay, in seconds: a datagram that comes just after a read waits for the rest
    of that turn, then while others gather, then, on its way to the middle one of the outputs, for
    half of the turn that sends it. Allowing for the whole of that turn was measured, too: a little
    less delay, more CPU."""

    PATIENT = 0.020
    """Longest wait where viewers do not notice a delay, in seconds. 20 ms instead of 10 ms saves
    0.7 % of a core at 8 Mb/s; 50 ms instead of 20 ms saves nothing that could be measured, and a
    wait shows as jitter of the source."""

    _FACTOR = 10
    _WEIGHT = 1 / 16  # of the newest turn in the averages
    _TICK = 0.001
    """epoll_wait(2) counts whole milliseconds and rounds up: waits are rounded down here."""
    _LATE = 0.0005
    """Part of the cap that is reserved for waking up late, in seconds."""

    def __init__(self, fixed: float | None) -> None:
        self._cap = self.CAP if fixed is None else fixed
        self._automatic = fixed is None
        self._cost = self._interval = 0.0
        self._since = -math.inf

    def wait(self, now: float, cost: float, count: int, *, patient: bool = False) -> float:
        """Return the seconds to wait after a turn that took `cost` s for `count` datagrams.

        `patient`: viewers do not notice a delay. It has no effect on a fixed wait.
        """
        elapsed, self._since = now - self._since, now
        self._interval += (min(elapsed / count, self._cap) - self._interval) * self._WEIGHT
        self._cost += min(cost - self._cost, self._TICK) * self._WEIGHT
        wait = self._cap - 1.5 * cost - self._LATE
        if self._automatic and patient:
            wait = max(wait, min(self.PATIENT, self._interval * MAX_DATAGRAMS / 2) - self._LATE)
        elif self._automatic:
            wait = min(wait, self._FACTOR * self._cost)
        wait = max(0, math.floor(wait / self._TICK)) * self._TICK
        return wait if wait + cost >= 2 * self._interval else 0.0
