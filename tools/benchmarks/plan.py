"""What is measured, how often and in which order.

Repetitions are interleaved (A B C A B C, not A A B B C C): a machine that slows down for a while
slows everyone down, and a ratio of two figures from the same round keeps its meaning.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tools.benchmarks.contenders import AUTO, MULTIUDPSINK, PROMPT, REFERENCE
from tools.benchmarks.measures import Load
from tools.benchmarks.source import FLOODED

PROBES = 3

_SCALED = (AUTO, PROMPT, REFERENCE, MULTIUDPSINK)
_HEAVY = (AUTO, REFERENCE)


@dataclass(frozen=True)
class Plan:
    """The sizes of one run of the benchmark; rates in datagrams/s, `seconds` for each window."""

    name: str
    repetitions: int
    seconds: float
    destinations: int = 100
    rates: tuple[int, int] = (500, 3_000)
    fewer: int = 10
    more: int = 1_000
    heavy: tuple[Load, ...] = (Load(2_000, 475), Load(500, 1_900))
    sessions: int = 1_000
    starts: int = 5

    @property
    def flood(self) -> Load:
        """More than anyone forwards, to the plan's destinations."""
        return Load(self.destinations, FLOODED)

    @property
    def paced(self) -> tuple[Load, ...]:
        """The plan's rates to its destinations, with probes."""
        return tuple(Load(self.destinations, rate, PROBES) for rate in self.rates)

    @property
    def scaled(self) -> tuple[Load, ...]:
        """The lower rate to fewer, as many, and more destinations; the middle one is in `paced`."""
        lowest = self.rates[0]
        return (Load(self.fewer, lowest), self.paced[0], Load(self.more, lowest))

    @property
    def memory(self) -> Load:
        """The lower rate to as many sessions as memory is measured for."""
        return Load(self.sessions, self.rates[0])

    def measurements(self, names: tuple[str, ...]) -> Iterator[tuple[str, Load]]:
        """Every (contender, load) to measure, in order, for the contenders in `names`."""
        for _ in range(self.repetitions):
            for load in (self.flood, *self.paced):
                yield from ((name, load) for name in names)
            for load in (self.scaled[0], self.scaled[-1]):
                yield from ((name, load) for name in names if name in _SCALED)
            for load in self.heavy:
                yield from ((name, load) for name in names if name in _HEAVY)


FULL = Plan("full", repetitions=3, seconds=2.5)
QUICK = Plan("quick", repetitions=1, seconds=1.0, starts=3)
SMOKE = Plan(
    "smoke",
    repetitions=1,
    seconds=0.2,
    destinations=4,
    rates=(100, 200),
    fewer=2,
    more=8,
    heavy=(Load(6, 150), Load(3, 300)),
    sessions=8,
    starts=1,
)
PLANS = {plan.name: plan for plan in (FULL, QUICK, SMOKE)}
