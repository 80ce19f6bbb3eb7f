"""How long datagrams may gather before the next read: interrupt moderation, in a program. Pure.

A smooth stream (VLC sends a datagram every few milliseconds) would cost a turn of the loop and a
send to every subscriber for each datagram. Read later, several come at once and leave at once.
"""

import math


class Moderation:
    """How long to let datagrams gather before the next read.

    Automatic: twenty times what the last turn cost, so that the relay spends about a twentieth of
    a core on turns until the cap is reached. A few subscribers cost microseconds, which rounds to
    no wait at all; hundreds cost milliseconds, which reach the cap. A wait in which no second
    datagram is to be expected would only add a wake-up, so then there is none either.
    """

    CAP = 0.010
    """Longest added delay, in seconds: a datagram that comes just after a read waits for the rest
    of that turn, for the gathering, and, in the middle of the audience, for half of the turn that
    sends it. Keeping the whole turn free was measured, too: a little less delay, more CPU."""

    _FACTOR = 20
    _WEIGHT = 1 / 16  # of the newest turn in the average interval between datagrams
    _TICK = 0.001
    """epoll_wait(2) counts whole milliseconds and rounds up: a shorter wait is none, and one tick
    of the cap is kept for the rounding."""

    def __init__(self, fixed: float | None) -> None:
        self._cap = self.CAP if fixed is None else fixed
        self._factor = self._FACTOR if fixed is None else math.inf
        self._interval = 0.0
        self._since = -math.inf

    def wait(self, now: float, cost: float, count: int) -> float:
        """Return the seconds to wait after a turn that took `cost` s for `count` datagrams."""
        elapsed, self._since = now - self._since, now
        self._interval += (min(elapsed / count, self._cap) - self._interval) * self._WEIGHT
        wait = min(self._factor * cost, self._cap - 1.5 * cost - self._TICK)
        return wait if wait >= max(self._TICK, 2 * self._interval) else 0.0
