"""How long datagrams may gather before the next read: interrupt moderation, in a program. Pure.

A smooth stream (VLC sends a datagram every few milliseconds) would cost a turn of the loop and a
send to every subscriber for each datagram. Read later, several come at once and leave at once.
"""

import math


class Moderation:
    """How long to let datagrams gather before the next read.

    Automatic: twenty times what the last turn cost, so that the relay spends about a twentieth of
    a core on turns until the cap is reached. A few subscribers cost microseconds, which rounds to
    no wait at all; hundreds cost milliseconds, which reach the cap.
    """

    CAP = 0.010
    """Longest added delay, wait and cost of the turn together, in seconds."""

    _FACTOR = 20
    _TICK = 0.001
    """epoll_wait(2) counts whole milliseconds and rounds up: a shorter wait is none, and one tick
    of the cap is kept for the rounding."""

    def __init__(self, fixed: float | None) -> None:
        self._cap = self.CAP if fixed is None else fixed
        self._factor = self._FACTOR if fixed is None else math.inf

    def wait(self, cost: float) -> float:
        """Return the seconds to wait after a turn that took `cost` seconds."""
        wait = min(self._factor * cost, self._cap - cost - self._TICK)
        return wait if wait >= self._TICK else 0.0
