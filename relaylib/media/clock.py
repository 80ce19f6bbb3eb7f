"""A program's clock as it comes in: the PCR against itself, and against the time of arrival.

A network that bunches packets must not make the source's clock look wrong, so a PCR is judged by
its own steps, and the rate of the stream is measured by it. What arrival shows is the network: the
spread of the delays over ten seconds.
"""

import math
from collections import deque

from relaylib.media.meter import LONG
from relaylib.media.mpegts import PCR_HZ, PCR_WRAP
from relaylib.media.tr101290 import Errors

LIMIT = PCR_HZ // 10
"""Ticks from one PCR to the next."""

DOUBT = 0.5
"""Seconds that a PCR may be ahead of the time that passed, and still be late and not wrong."""


class Clock:
    """The PCR of one PID."""

    __slots__ = (
        "_at", "_delay", "_delays", "_errors", "_high", "_low", "_place", "_value",
        "packets", "ticks",
    )  # fmt: skip

    def __init__(self, errors: Errors) -> None:
        self._errors = errors
        self.ticks = self.packets = 0
        """Time that the clock showed, jumps left out, and packets of the whole stream in it."""
        self._value: int | None = None
        self._place = 0
        self._at = self._delay = 0.0
        self._delays = deque[tuple[float, float]](maxlen=LONG)
        self._low, self._high = math.inf, -math.inf

    def tick(self, value: int, announced: bool, place: int, now: float) -> None:
        """Take a PCR that arrived `now` in packet number `place`; `announced` if it may jump."""
        ticks = 0 if self._value is None else (value - self._value) % PCR_WRAP
        passed = now - self._at
        if self._value is None or announced:
            self._delays.clear()
        elif ticks <= LIMIT:
            self._advance(ticks, passed, place)
        elif ticks / PCR_HZ <= passed + DOUBT:
            self._errors.add("PCR_repetition_error", now)
            self._advance(ticks, passed, place)
        else:
            self._errors.add("PCR_discontinuity_indicator_error", now)
            self._delays.clear()
        self._value, self._at, self._place = value, now, place

    def begin_anew(self) -> None:
        """Accept any next PCR as right."""
        self._value = None

    def second(self) -> None:
        """Another second has passed."""
        if self._low <= self._high:
            self._delays.append((self._low, self._high))
        self._low, self._high = math.inf, -math.inf

    def _advance(self, ticks: int, passed: float, place: int) -> None:
        self.ticks += ticks
        self.packets += place - self._place
        self._delay += passed - ticks / PCR_HZ
        self._low, self._high = min(self._low, self._delay), max(self._high, self._delay)

    @property
    def jitter(self) -> float:
        """Seconds between the least and the most delayed PCR of the last ten seconds."""
        lows = [low for low, _ in self._delays] + [self._low]
        highs = [high for _, high in self._delays] + [self._high]
        return max(0.0, max(highs) - min(lows)) if min(lows) < math.inf else 0.0
