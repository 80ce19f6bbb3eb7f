"""What the resources are told that show how everything is: parts of the relay, and plain values."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from relaylib.net.address import Address
from relaylib.net.histogram import Histogram
from relaylib.net.loop import Loop
from relaylib.stream.deferred import Deferred
from relaylib.stream.fanout import Fanout
from relaylib.stream.health import Health
from relaylib.stream.history import History
from relaylib.stream.ingest import Ingest
from relaylib.stream.watcher import Watcher
from relaylib.track.walk import Walk
from relaylib.web.server import Server

_AT_ONCE = 128
"""Viewers that are looked at without a look at the ingest: about 0.1 ms."""


@dataclass(frozen=True, slots=True)
class Door:
    """Control connections since the start: how many were let in, and, by reason, were not."""

    accepted: int
    declined: dict[str, int]


@dataclass(frozen=True, slots=True)
class Parts:
    """The relay, as far as the web looks at it.

    `control` and `ingest_address` are where it listens. `watchers` tells of all that the stream
    goes to, `door` of the control port; `web` is the server that serves this. `forwarding` has the
    seconds from the read of a batch until every output has been sent it.
    """

    loop: Loop
    ingest: Ingest
    fanout: Fanout
    health: Health
    history: History | None
    walk: Walk | None
    deferred: Deferred
    forwarding: Histogram
    control: Address
    ingest_address: Address
    watchers: Callable[[], Iterable[Watcher]]
    door: Callable[[], Door]
    web: Callable[[], Server]

    def word(self) -> str:
        """Say in a word how the stream is, or, if nobody looks into it, whether there is one."""
        verdict = self.health.verdict
        return verdict.word.value if verdict else self.ingest.lock.presence.value

    def kept(self) -> tuple[float, int]:
        """Return how many seconds of the stream one can go back by HTTP, and bytes."""
        track = self.walk.track if self.walk else None
        if track is None or track.oldest == track.end:
            return 0.0, 0
        return track.time(track.end) - track.time(track.oldest), track.end - track.oldest

    def each_watcher(self) -> Iterator[Watcher]:
        """Tell of each, and let the stream pass in between."""
        for count, watcher in enumerate(self.watchers(), 1):
            yield watcher
            if not count % _AT_ONCE:
                self.loop.read_priority()
