"""What a run gave, and the figures that are read from it: medians, ranges, ratios of one round."""

import operator
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tools.benchmarks.contenders import NAMES
from tools.benchmarks.measures import Load, Memory, Sample


@dataclass(frozen=True)
class Figure:
    """A median and the range around it, in whatever unit the values were."""

    median: float
    low: float
    high: float

    def text(self, style: Callable[[float], str]) -> str:
        """The median, and the range where it differs from it when written in that style."""
        median, low, high = map(style, (self.median, self.low, self.high))
        return median if low == high else f"{median} ({low} to {high})"


def figure(values: Sequence[float]) -> Figure | None:
    """Summarise values; None when there are none."""
    return Figure(statistics.median(values), min(values), max(values)) if values else None


@dataclass
class Results:
    """Every sample of a run in the order measured, and why others are missing.

    `held` is, for a load that the relay did not hold, the egress in datagrams/s of the heaviest
    share of it that it did hold (0 when none was).
    """

    samples: list[Sample] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    starts: list[float] = field(default_factory=list)
    memory: Memory | None = None
    held: dict[str, float] = field(default_factory=dict)

    @property
    def contenders(self) -> list[str]:
        """The names of those that were measured, this relay first."""
        measured = {sample.contender for sample in self.samples}
        return [name for name in NAMES if name in measured]

    def of(self, contender: str, load: Load) -> list[Sample]:
        """The samples of one contender under one load, a round each."""
        return [
            sample
            for sample in self.samples
            if sample.contender == contender and sample.load == load
        ]

    def figure(self, contender: str, load: Load, name: str) -> Figure | None:
        """Summarise one field of the samples, `latency.p99` for instance; None without samples."""
        samples = self.of(contender, load)
        if name.startswith("latency."):
            samples = [sample for sample in samples if sample.latency is not None]
        return figure([operator.attrgetter(name)(sample) for sample in samples])

    def ratio(self, contenders: tuple[str, str], load: Load, name: str) -> Figure | None:
        """Summarise the first contender's field divided by the second's, round by round."""
        read = operator.attrgetter(name)
        pairs = zip(self.of(contenders[0], load), self.of(contenders[1], load), strict=False)
        return figure([read(ours) / read(theirs) for ours, theirs in pairs if read(theirs)])


def holds(sample: Sample) -> bool:
    """Whether nothing was lost and the stream did not pile up in front of the contender.

    A receive buffer hides a relay that is too slow for a second or more: so what was still to come
    when the source ended may be the relay's own delay and a turn's work, 50 ms, but not more.
    """
    return sample.lost == 0 and sample.lag is not None and sample.lag <= 0.05
