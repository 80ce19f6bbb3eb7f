"""What a soak watches of the relay's life: memory and descriptors."""

import statistics
import time

from tools.attackers.relay import Relay

NOISE = 768.0
"""KiB that a healthy relay's memory wanders: CPython takes it from the kernel 256 KiB at a time, 1
MiB from 3.12 on, and keeps what a passing peak of sessions has needed."""


class Memory:
    """Samples of the resident set, and the slope of a line through them."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._times: list[float] = []
        self._sizes: list[int] = []

    def restart(self) -> None:
        """Forget everything: a new program has taken over, or the old one has warmed up."""
        self._times.clear()
        self._sizes.clear()

    def sample(self) -> None:
        """Look once."""
        self._times.append(time.monotonic())
        self._sizes.append(self._relay.memory())

    @property
    def window(self) -> float:
        """Seconds between the first sample and the last."""
        return self._times[-1] - self._times[0] if self._times else 0.0

    @property
    def slope(self) -> float:
        """KiB a minute, by least squares; 0 where there is too little to tell."""
        if len(self._times) < 3:
            return 0.0
        return statistics.linear_regression(self._times, self._sizes).slope * 60

    @property
    def leaking(self) -> bool:
        """Whether the line has risen by more than noise."""
        return self.slope * self.window / 60 > NOISE
