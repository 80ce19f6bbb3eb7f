"""A histogram of values, cheap enough to be updated in every turn of the loop."""

from bisect import bisect_left

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Bounds, in seconds, for the length of a turn of the loop or of a part of it."""


class Histogram:
    """Counts values by the smallest bound that they do not exceed; `sum` is the sum of the values.

    `counts` has one element more than `bounds`, for the values above all of them.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
