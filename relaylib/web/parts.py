"""What the resources are told that show how everything is: parts of the relay, and plain values."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from relaylib.channel import Channel
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
    """The control port's `address`, and its connections since the start: how many were let in, and,
    by reason, were not.
    """

    address: Address
    accepted: int
    declined: dict[str, int]


@dataclass(frozen=True, slots=True)
class Parts:
    """The relay, as far as the web looks at it.

    `watchers` tells of all that the stream goes to, `door` of the control port; `web` is the server
    that serves this.
    """

    loop: Loop
    channel: Channel
    door: Callable[[], Door]
    watchers: Callable[[], Iterable[Watcher]]
    web: Callable[[], Server]

    @property
    def ingest(self) -> Ingest:
        return self.channel.ingest

    @property
    def ingest_address(self) -> Address:
        return self.channel.address

    @property
    def fanout(self) -> Fanout:
        return self.channel.fanout

    @property
    def forwarding(self) -> Histogram:
        return self.channel.forwarding

    @property
    def history(self) -> History | None:
        return self.channel.history

    @property
    def walk(self) -> Walk | None:
        return self.channel.walk

    @property
    def deferred(self) -> Deferred:
        return self.channel.deferred

    @property
    def health(self) -> Health:
        return self.channel.health

    @property
    def control(self) -> Address:
        return self.door().address

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
