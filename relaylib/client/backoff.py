"""How long to wait before the next attempt to reach the relay. Pure, but for the dice."""

from collections.abc import Callable

SHORTEST, LONGEST = 0.5, 15.0
"""Seconds. A relay that restarts is back within the first; one that is down is left in peace."""


class Backoff:
    """Waits that double. `dice` gives numbers from 0 to 1, so that the viewers of a relay that went
    down do not all come back in the same moment.
    """

    def __init__(self, dice: Callable[[], float]) -> None:
        self._dice = dice
        self._next = SHORTEST

    def wait(self) -> float:
        """Return the seconds until the next attempt: half of them are left to the dice."""
        longest, self._next = self._next, min(2 * self._next, LONGEST)
        return longest * (1 + self._dice()) / 2

    def reset(self) -> None:
        """Begin again with the shortest."""
        self._next = SHORTEST
