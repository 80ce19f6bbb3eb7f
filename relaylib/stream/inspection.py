"""Looking into the stream, after it has been sent: what it is, and what is wrong with it.

The inspection reads the history with a place of its own, now and then and in small pieces between
which the ingest is read. So nothing that a datagram meets on its way knows of it. Where it cannot
follow, because the relay has all hands full, it lets a part of the stream go unseen, counts that,
and judges each part that it has seen by itself: what it skipped is not missing.

It also tells the history where decoding can start. What `media` calls a position is a run's number
and a byte in it, in one number.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import structlog

from relaylib.log import Throttle
from relaylib.media.form import Form
from relaylib.media.health import Access, Monitor
from relaylib.net.loop import Loop
from relaylib.stream.fanout import Fanout
from relaylib.stream.history import AccessPoint, Entry, History, Place
from relaylib.stream.ingest import Ingest

PERIOD = 0.05
"""Seconds between two looks, as between two writes by HTTP. What lies in the history, four
mebibytes at least, waits for it."""

PIECE = 16
"""Datagrams that are looked at without a look at the ingest: about 0.1 ms."""

SLOW = 0.002
"""Seconds that a piece may take; the next one is a single datagram then. A stream that is made to
be expensive takes some milliseconds for each."""

SHARE = 0.1
"""Of a core, at most: what a stream of 100 Mb/s takes."""

SHARE_FLOODED = 0.01
"""The same while more comes than is read: then every datagram that is sent counts."""

FLOODED = 5
"""Looks in a row, each with full batches since the one before, that make a flood. A burst makes one
or two."""

LAG = 1.0
"""Seconds behind the stream after which the rest of it goes unseen: a verdict has to be in time."""

WARM_UP = 2.0
"""Seconds of the stream that a new program looks at again, to know what the last one knew."""

_OPAQUE_FIRST, _OPAQUE_SAMPLE, _OPAQUE_PERIOD = 256, 16, 1.0
"""Of a stream whose form nobody knows: datagrams that are looked at, and then so many a period."""

_UNSEEN_PERIOD = 60.0
"""Seconds between two log lines about what went unseen."""

_SOURCES = 16
"""Changes of the source that are remembered."""

_SHIFT = 16
"""Bits of a position that are a byte in a run: none is longer than MAX_BYTES."""


log = structlog.get_logger()


@dataclass(slots=True)
class Counts:
    """What was found since the start. A restart hands it over."""

    datagrams: int = 0
    octets: int = 0
    unseen: int = 0
    """Datagrams that went by while there was no time to look."""
    lost: int = 0
    reordered: int = 0
    duplicated: int = 0
    access_points: int = 0
    scrambled: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    """By their names in TR 101 290."""

    def combine(self, other: "Counts", sign: int = 1) -> "Counts":
        """Add another one's counts to these, or subtract them."""
        total = Counts(**{
            name: getattr(self, name) + sign * getattr(other, name)
            for name in _NUMBERS
        })  # fmt: skip
        names = {**self.errors, **other.errors}
        total.errors = {
            name: self.errors.get(name, 0) + sign * other.errors.get(name, 0) for name in names
        }
        return total


_NUMBERS = [each.name for each in fields(Counts) if each.name != "errors"]


@dataclass(slots=True)
class InspectionState:
    """What a restart hands over: the place to go on at, what was counted, and at which runs another
    source began.
    """

    number: int
    datagrams: int
    counts: Counts
    sources: list[int] = field(default_factory=list)


class Inspection:
    """Follows the stream in the history and feeds `monitor`, which knows what it is."""

    def __init__(
        self,
        loop: Loop,
        history: History,
        passed: Callable[[], int] = lambda: 0,
        full_reads: Callable[[], int] = lambda: 0,
        saved: InspectionState | None = None,
    ) -> None:
        """Begin at the end of the history, or where the previous program stopped.

        `passed` tells how many datagrams have come, and `full_reads` how often more were waiting
        than were read at once.
        """
        self.monitor = Monitor(self._mark)
        self._loop = loop
        self._history = history
        self._passed, self._full_reads = passed, full_reads
        self._full_before = self._floods = 0
        self._piece = PIECE
        self._place = Place(history.end)
        self._certain = self._place  # where what is found begins to count
        self._before = Counts()  # what was found before this program
        self._warm: Counts | None = Counts()  # what this monitor found before that place
        self._unseen = self._access_points = 0
        self._caught_up, self._since = 0, 0  # `passed` when all was seen, and what was since
        self._sources = deque[int](maxlen=_SOURCES)
        self._of_source, self._sample_at = 0, -math.inf
        self._unseen_log = Throttle(loop.call_later, 1, _UNSEEN_PERIOD)
        if saved is not None:
            self._restore(saved)
        loop.call_in_step(PERIOD, self._look)

    def new_source(self) -> None:
        """Another source's datagrams come next: they need not fit those before."""
        self._sources.append(self._history.end)

    @property
    def sources(self) -> Sequence[int]:
        """At which runs of the history another source began, in order; the latest ones."""
        return self._sources

    # --- restarting

    def _restore(self, saved: InspectionState) -> None:
        self._before = saved.counts
        self._sources.extend(saved.sources)
        place = Place(saved.number, saved.datagrams)
        if place in self._history:
            self._place = self._certain = place
        if self._history.oldest < place.number <= self._history.end:
            self._place = self._history.find(self._history[place.number - 1].time - WARM_UP)
            self._warm = None

    def export(self) -> InspectionState:
        """Return what the next program needs to go on."""
        place = max(self._place, self._certain)
        return InspectionState(*place, self.counts, list(self._sources))

    @property
    def counts(self) -> Counts:
        """What was found so far."""
        if self._warm is None:
            return self._before
        return self._before.combine(self._found()).combine(self._warm, -1)

    @property
    def is_warm(self) -> bool:
        """Whether what is found counts: the previous program has not seen it."""
        return self._warm is not None

    def _found(self) -> Counts:
        monitor, reception = self.monitor, self.monitor.reception
        return Counts(
            monitor.datagrams, monitor.bytes, self._unseen,
            reception.lost, reception.reordered, reception.duplicated,
            self._access_points, monitor.transport.scrambled,
            dict(monitor.transport.errors.counts),
        )  # fmt: skip

    # --- looking

    def _look(self) -> None:
        share = SHARE_FLOODED if self._flooded() else SHARE
        now = self._loop.time()
        until = now + PERIOD * share
        while self._find_next():
            self._take()
            before, now = now, self._loop.time()
            self._piece = PIECE if now - before < SLOW else 1
            if now >= until:
                return
            self._loop.read_priority()
        self._count_from_here()
        self._caught_up, self._since = self._passed(), 0

    def _flooded(self) -> bool:
        before, self._full_before = self._full_before, self._full_reads()
        self._floods = self._floods + 1 if self._full_before > before else 0
        return self._floods >= FLOODED

    def _find_next(self) -> bool:
        """Go to what is to be looked at next; False: nothing is."""
        history, place = self._history, self._place
        if place.number >= history.end:
            return False
        if place not in history or self._is_late(place):
            self._skip()
        elif self._of_source >= _OPAQUE_FIRST and self.monitor.form is Form.OPAQUE:
            self._sample()
        return self._place.number < history.end

    def _is_late(self, place: Place) -> bool:
        late = self._loop.time() - self._history[place.number].time > LAG
        return late and self._warm is not None

    def _skip(self) -> None:
        """Let everything that has come until now go unseen."""
        self._unseen += max(0, self._passed() - self._caught_up - self._since)
        self._caught_up, self._since = self._passed(), 0
        self._unseen_log.log(log.info, "inspection_behind", unseen=self.counts.unseen)
        changed = any(number >= self._place.number for number in self._sources)
        self._place = Place(self._history.end)
        if changed:
            self._restart()
        else:
            self.monitor.skip()

    def _sample(self) -> None:
        """Pass over what nobody understands, but for a little now and then."""
        following = [number for number in self._sources if number >= self._place.number]
        now = self._loop.time()
        if following:
            self._place = Place(following[0])
        elif now >= self._sample_at:
            self._sample_at = now + _OPAQUE_PERIOD
            self._of_source = _OPAQUE_FIRST - _OPAQUE_SAMPLE
        else:
            self._place = Place(self._history.end)

    def _restart(self) -> None:
        self.monitor.restart()
        self._of_source = 0

    def _take(self) -> None:
        """Look at the next piece: the rest of a run, or some runs, as far as it goes."""
        self._count_from_here()
        history, (number, first) = self._history, self._place
        limit, left = Place(history.end), self._piece
        if self._warm is None:
            limit = min(limit, self._certain)
        while left > 0 and (number, first) < limit:
            if not first and number in self._sources:
                self._restart()
            entry = history[number]
            behind = min(first + left, entry.datagrams)
            if number == limit.number:
                behind = min(behind, limit.datagrams)
            self._feed(entry, number, first, behind)
            left -= behind - first
            number, first = (number, behind) if behind < entry.datagrams else (number + 1, 0)
        self._place = Place(number, first)

    def _count_from_here(self) -> None:
        """Let what is found count, if the previous program got no further."""
        if self._warm is None and self._place >= self._certain:
            self._warm = self._found()

    def _feed(self, entry: Entry, number: int, first: int, behind: int) -> None:
        view, time, size = self._history.data(entry), entry.time, entry.size
        feed, base = self.monitor.feed, number << _SHIFT
        for at in range(first * size, behind * size, size):
            feed(view[at : at + size], time, base + at)
        self._of_source += behind - first
        self._since += behind - first

    def _mark(self, access: Access) -> None:
        """Tell the history where decoding can start, unless the last program has."""
        number, at = access.position >> _SHIFT, access.position & (1 << _SHIFT) - 1
        self._access_points += 1
        if not self._history.oldest <= number < self._history.end:
            return
        datagram, offset = divmod(at, self._history[number].size)
        if Place(number, datagram) >= self._certain:
            point = AccessPoint(number, datagram, offset, access.tables, access.time)
            self._history.mark(point)


def open_inspection(
    loop: Loop,
    ingest: Ingest,
    fanout: Fanout,
    history: History | None,
    saved: InspectionState | None,
) -> Inspection | None:
    """Begin to look, or go on, if there is something to look at."""
    if history is None:
        return None
    return Inspection(
        loop, history, lambda: fanout.forwarded, lambda: ingest.full_reads, saved=saved
    )
