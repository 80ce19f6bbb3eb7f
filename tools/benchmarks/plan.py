"""What is measured, how often and in which order.

Rounds are interleaved (A B C A B C, not A A B B C C): a machine that slows down for a while slows
everyone down, and a ratio of two figures from the same round keeps its meaning.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tools.benchmarks.contenders import AUTO, DEFERRED, MULTIUDPSINK, PROMPT, REFERENCE
from tools.benchmarks.servers import HLS, LISTEN, LIVE, MP4, NGINX, TCPSERVERSINK

SIZE = 1316
"""Bytes a datagram: seven MPEG-TS packets, what VLC, ffmpeg and OBS send."""

FLOODED = 100_000
"""Datagrams a second: several times what the fastest contender forwards to 100 destinations, and
yet not so many that sending them disturbs the caches and locks of the core under test."""

FRAME = 12, 3
"""Datagrams a frame, and packets in the last of them: 3 Mb/s at 25 frames a second."""

SCALED = (AUTO, PROMPT, REFERENCE, MULTIUDPSINK)
HEAVY = (AUTO, REFERENCE)

NOBODY, STREAMS, SEGMENTS = "nobody", "/live.ts", "HLS"
ATTACKS = {"requests": "a flood of requests"}
"""Of tools/attackers, in words; tools/attacks.py tries all of them."""

BESIDE = (NOBODY, STREAMS, SEGMENTS, *ATTACKS)


@dataclass(frozen=True)
class Load:
    """A stream of `rate` datagrams/s to `destinations`, of which `probes` measure latency.

    A flood is more than anyone forwards, so that losing most of it is expected. `beside`: what goes
    on meanwhile by HTTP, if that is on: one of `BESIDE`, by `guests` viewers. `frames`: it comes as
    from ffmpeg, a burst a frame, of which the last datagram is shorter.
    """

    destinations: int
    rate: int
    probes: int = 0
    beside: str = ""
    guests: int = 0
    frames: bool = False

    @property
    def flooded(self) -> bool:
        return self.rate >= FLOODED

    def __str__(self) -> str:
        rate = "flooded" if self.flooded else f"{self.rate:,}/s"
        text = f"{rate}{' in frames' * self.frames} to {self.destinations:,}"
        return f"{text}, {self.meanwhile}" if self.beside else text

    @property
    def meanwhile(self) -> str:
        """What goes on by HTTP, in words."""
        if self.beside in ATTACKS:
            return f"under {ATTACKS[self.beside]}"
        idle = self.beside == NOBODY
        return "HTTP idle" if idle else f"beside {self.guests:,} of {self.beside}"


@dataclass(frozen=True)
class HttpLoad:
    """So many viewers over TCP, of a stream of so many Mb/s."""

    viewers: int
    megabits: float

    @property
    def rate(self) -> int:
        """Datagrams a second, as near as can be."""
        return round(self.megabits * 1e6 / 8 / SIZE)

    def __str__(self) -> str:
        return f"{self.viewers:,} x {self.megabits:g} Mb/s"


@dataclass(frozen=True)
class Plan:
    """The sizes of one run; rates in datagrams/s, `seconds` for each window.

    The lower rate goes to `fewer` and `more` destinations, too, and to `sessions` when memory is
    measured. `heavy` are pairs of destinations and rate. `web` are pairs of viewers and Mb/s: some,
    many, as many as one core may serve; `remuxed` are numbers of viewers of MP4, at the rate of the
    many.
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
    web: Sequence[Sequence[int]] = ((50, 8), (200, 5), (1_000, 5))
    remuxed: Sequence[int] = (1, 50)

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
    def framed(self) -> list[Load]:
        """Loads of several sizes: the flood, and the higher rate."""
        return [replace(load, frames=True) for load in (self.flood, self.paced[-1])]

    @property
    def heavy_loads(self) -> list[Load]:
        return [Load(destinations, rate) for destinations, rate in self.heavy]

    @property
    def audiences(self) -> list[HttpLoad]:
        return [HttpLoad(*pair) for pair in self.web]

    @property
    def remuxes(self) -> list[HttpLoad]:
        return [HttpLoad(viewers, self.web[1][1]) for viewers in self.remuxed]

    @property
    def beside(self) -> list[Load]:
        """What UDP viewers get, without and with something by HTTP."""
        many = self.audiences[1]
        load = Load(self.destinations, many.rate, probes=3)
        return [replace(load, beside=each, guests=many.viewers) for each in BESIDE]

    def web_measurements(self) -> Iterator[tuple[str, HttpLoad]]:
        """Every (server, audience) to measure, in order."""
        some, many, most = self.audiences
        each = [(some, (LIVE, TCPSERVERSINK)), (many, (LIVE, TCPSERVERSINK, HLS, NGINX))]
        each += [(most, (LIVE,)), *((audience, (LIVE, MP4)) for audience in self.remuxes)]
        each += [(self.remuxes[0], (LISTEN,))]
        for _ in range(self.repetitions):
            for audience, names in each:
                yield from ((name, audience) for name in names)

    def measurements(self, names: Sequence[str]) -> Iterator[tuple[str, Load]]:
        """Every (contender, load) to measure, in order, for the contenders in `names`.

        Who measures the relay measures it with deferred viewers, too.
        """
        everyone = (*names, *([DEFERRED] if AUTO in names else []))
        each = [(self.flood, names), *((load, everyone) for load in self.paced)]
        each += [(load, SCALED) for load in (self.scaled[0], self.scaled[-1])]
        each += [(load, HEAVY) for load in (*self.framed, *self.heavy_loads)]
        each += [(load, (PROMPT,)) for load in self.beside]
        for _ in range(self.repetitions):
            for load, those in each:
                yield from ((name, load) for name in everyone if name in those)


PLANS = {
    "full": Plan("full", repetitions=3, seconds=2.5),
    "quick": Plan("quick", repetitions=1, seconds=1.0, starts=3),
    "smoke": Plan(
        "smoke", 1, 0.2, destinations=4, rates=(100, 200), fewer=2, more=8,
        heavy=((6, 150), (3, 300)), sessions=8, starts=1,
        web=((2, 2), (3, 1), (4, 1)), remuxed=(1, 2),
    ),
}  # fmt: skip
