"""What is measured, how often and in which order.

Rounds are interleaved (A B C A B C, not A A B B C C): a machine that slows down for a while slows
everyone down, and a ratio of two figures from the same round keeps its meaning.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tools.benchmarks.contenders import AUTO, DEFERRED, MULTIUDPSINK, PROMPT, REFERENCE

FLOODED = 100_000
"""Datagrams a second: several times what the fastest contender forwards to 100 destinations, and
yet not so many that sending them disturbs the caches and locks of the core under test."""

SCALED = (AUTO, PROMPT, REFERENCE, MULTIUDPSINK)
HEAVY = (AUTO, REFERENCE)


@dataclass(frozen=True)
class Load:
    """A stream of `rate` datagrams/s to `destinations`, of which `probes` measure latency.

    A flood is more than anyone forwards, so that losing most of it is expected.
    """

    destinations: int
    rate: int
    probes: int = 0

    @property
    def flooded(self) -> bool:
        return self.rate >= FLOODED

    def __str__(self) -> str:
        rate = "flooded" if self.flooded else f"{self.rate:,}/s"
        return f"{rate} to {self.destinations:,}"


@dataclass(frozen=True)
class Plan:
    """The sizes of one run; rates in datagrams/s, `seconds` for each window.

    The lower rate goes to `fewer` and `more` destinations, too, and to `sessions` when memory is
    measured. `heavy` are pairs of destinations and rate.
    """

    name: str
    repetitions: int
    seconds: float
    destinations: int = 100
    rates: Sequence[int] = (500, 3_000)
    fewer: int = 10
    more: int = 1_000
    heavy: Sequence[Sequence[int]] = ((2_000, 475), (500, 1_900))
    sessions: int = 1_000
    starts: int = 5

    @property
    def flood(self) -> Load:
        return Load(self.destinations, FLOODED)

    @property
    def paced(self) -> list[Load]:
        return [Load(self.destinations, rate, probes=3) for rate in self.rates]

    @property
    def scaled(self) -> list[Load]:
        return [Load(self.fewer, self.rates[0]), self.paced[0], Load(self.more, self.rates[0])]

    @property
    def heavy_loads(self) -> list[Load]:
        return [Load(*pair) for pair in self.heavy]

    def measurements(self, names: Sequence[str]) -> Iterator[tuple[str, Load]]:
        """Every (contender, load) to measure, in order, for the contenders in `names`.

        Who measures the relay measures it with deferred viewers, too.
        """
        everyone = (*names, *([DEFERRED] if AUTO in names else []))
        each = [(self.flood, names), *((load, everyone) for load in self.paced)]
        each += [(load, SCALED) for load in (self.scaled[0], self.scaled[-1])]
        each += [(load, HEAVY) for load in self.heavy_loads]
        for _ in range(self.repetitions):
            for load, those in each:
                yield from ((name, load) for name in everyone if name in those)


PLANS = {
    "full": Plan("full", repetitions=3, seconds=2.5),
    "quick": Plan("quick", repetitions=1, seconds=1.0, starts=3),
    "smoke": Plan(
        "smoke", 1, 0.2, destinations=4, rates=(100, 200), fewer=2, more=8,
        heavy=((6, 150), (3, 300)), sessions=8, starts=1,
    ),
}  # fmt: skip
