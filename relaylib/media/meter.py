"""Rates over the last second and the last ten, from a count that only grows."""

from collections import deque

SHORT, LONG = 1, 10
"""Seconds."""


class Meter:
    """Keeps the count of each of the last seconds."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds = deque[tuple[float, int]](maxlen=LONG + 1)

    def mark(self, now: float, count: int) -> None:
        """Take the count; to be called once a second."""
        self._seconds.append((now, count))

    def rate(self, seconds: int = SHORT) -> float:
        """How much was counted a second, in the last `seconds` or as long as it is known."""
        if len(self._seconds) < 2:
            return 0.0
        then, before = self._seconds[-min(seconds + 1, len(self._seconds))]
        now, count = self._seconds[-1]
        return (count - before) / (now - then) if now > then else 0.0
