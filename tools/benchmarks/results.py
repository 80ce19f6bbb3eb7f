"""What a run gave, and the figures that are read from it."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tools.benchmarks.plan import Plan


@dataclass(frozen=True)
class Measurement:
    """What one measurement gave. Egress in datagrams/s, CPU in seconds per datagram and second.

    `lost` is what never arrived, `lag` the seconds of stream still to come when the source ended;
    both are None under a flood, where they say nothing. One-way latencies are in seconds.
    """

    contender: str
    load: str
    egress: float
    cpu_per_datagram: float
    cpu: float
    lost: int | None = None
    lag: float | None = None
    p50: float | None = None
    p99: float | None = None
    max: float | None = None

    def held(self) -> bool:
        """Whether nothing was lost and the stream did not pile up in front of the contender.

        A receive buffer hides a relay that is too slow for a second or more: so what was still to
        come when the source ended may be the relay's own delay and a turn's work, 50 ms, no more.
        """
        return self.lost == 0 and self.lag is not None and self.lag <= 0.05


@dataclass(frozen=True)
class WebSample:
    """What viewers over TCP got: `megabits` a second together, for `cpu` seconds a second.

    `slowest` is the share of the stream that one got who got least, where the bytes are those of
    the source; `skipped` is how often the relay left something out. `delay` is how far behind a
    viewer of HLS was, in target durations.
    """

    server: str
    audience: str
    megabits: float
    cpu: float
    slowest: float | None = None
    skipped: int | None = None
    delay: float | None = None

    @property
    def cost(self) -> float:
        """CPU seconds a megabit; infinite where nothing came."""
        return self.cpu / self.megabits if self.megabits else math.inf

    def held(self) -> bool:
        """Whether everybody got the stream, but for what one write more or less is in a window."""
        return self.slowest is not None and self.slowest >= 0.95 and not self.skipped


@dataclass(frozen=True)
class Figure:
    """The values of one measure over the rounds; false where there are none."""

    values: list[float]

    def __bool__(self) -> bool:
        return bool(self.values)

    def __mul__(self, factor: float) -> "Figure":
        return Figure([value * factor for value in self.values])

    @property
    def median(self) -> float:
        """Raises StatisticsError where there are no values."""
        return statistics.median(self.values)

    def text(self, style: str) -> str:
        """The median, and the range where it differs from it when written in that style."""
        if not self.values:
            return "-"
        low, high = style.format(min(self.values)), style.format(max(self.values))
        return style.format(self.median) + (f" ({low} to {high})" if low != high else "")


@dataclass
class Results:
    """Every sample of a run in the order measured, and why others are missing.

    `starts` are in seconds. `memory` are the relay's resident bytes with nobody and with `sessions`
    streaming.
    """

    plan: Plan
    machine: dict[str, str]
    samples: list[Measurement] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    starts: list[float] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    web: list[WebSample] = field(default_factory=list)


def figure(samples: Sequence[Measurement | WebSample], name: str) -> Figure:
    """One field of samples, where it has a value."""
    values = [getattr(sample, name) for sample in samples]
    return Figure([value for value in values if value is not None])


def rounds_held(samples: Sequence[Measurement | WebSample]) -> str:
    """In how many rounds a load was held."""
    return f"{sum(sample.held() for sample in samples)} of {len(samples)}"
