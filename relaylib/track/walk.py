"""The one reading of the stream, after it has been sent: it puts the packets into the track, and
finds the stream's form, tables, codecs and faults in the same pass.

The walk reads the history with a place of its own, every `PERIOD` and in small pieces between which
the ingest is read. So the datagram's way does not know the walk, and the next program reads the
runs that a stand-in has written. Where the walk cannot keep up, because the relay has too much
other work, it skips a part of the stream, counts the datagrams as unseen, and judges each part that
it has seen by itself: skipped datagrams are not missing. While viewers read the track, the walk may
take more time before it skips, because a skip leaves a gap in what they get.

A position, as `media` calls it, is the number of a byte of the history.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, fields

import structlog

from relaylib.history.history import History, Place, RunRecord
from relaylib.log import Throttle
from relaylib.media.form import Form
from relaylib.media.health import FoundEntry, Monitor
from relaylib.net.loop import Loop
from relaylib.track.track import Entry, Track

PERIOD = 0.05
"""Seconds between two looks, as between two writes by HTTP. Until then datagrams wait in the
history, which has room for four mebibytes at least."""

PIECE = 16
"""Datagrams that are looked at between two reads of the ingest: about 0.1 ms."""

SLOW = 0.002
"""Seconds of a piece after which the next one is a single datagram. A stream that is made to be
expensive takes some milliseconds for each datagram."""

SHARE = 0.1
"""Most of a core that the walk takes, as a share: enough for a stream of 100 Mb/s."""

SHARE_READ = 0.5
"""The same while viewers read the track."""

READ = 10.0
"""Seconds after a read of the track for which it counts as being read: HLS players read in steps.
"""

SHARE_FLOODED = 0.01
"""The share of a core while more comes in than is read: then sending needs the time."""

FLOODED = 5
"""Looks in a row, each with full batches since the last look, that make a flood. A burst makes one
or two such looks."""

LAG = 1.0
"""Seconds behind the stream at which the walk skips to its end, unless the track is being read: a
verdict has to be in time."""

WARM_UP = 2.0
"""Seconds of the stream that a new program reads again, to have the tables of the last program."""

SILENCE = 1.0
"""Seconds without a datagram after which the stream need not go on where it ended."""

_OPAQUE_FIRST, _OPAQUE_SAMPLE, _OPAQUE_PERIOD = 256, 16, 1.0
"""In a stream of unknown form: datagrams that are looked at first, then so many in each period, and
the period in seconds."""

_UNSEEN_PERIOD = 60.0
"""Seconds between two log lines about unseen datagrams."""

_SOURCES = 16
"""Most changes of the source that are remembered: the walk may still have to pass them."""


OnForm = Callable[[Form, int | None], None]
"""Is called with the form of the stream, and the payload type if that is RTP."""

log = structlog.get_logger()


@dataclass(slots=True)
class Counts:
    """Counts since the start of the relay. A reload hands them over."""

    datagrams: int = 0
    octets: int = 0
    unseen: int = 0
    """Datagrams that the walk has skipped for lack of time."""
    left_out: int = 0
    """Unseen datagrams that were skipped while the track was being read."""
    foreign: int = 0
    """Datagrams that are no part of the stream, though its source has sent them."""
    lost: int = 0
    reordered: int = 0
    duplicated: int = 0
    access_points: int = 0
    scrambled: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    """Errors by their names in TR 101 290."""

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
class WalkState:
    """What a reload hands over: the place to go on at, what was counted, and at which runs another
    source began.
    """

    number: int
    datagrams: int
    counts: Counts
    sources: list[int] = field(default_factory=list)
    former: Counts = field(default_factory=Counts)
    """Counts of the sources before the present one."""
    passed: int | None = None
    """Datagrams that had come up to this place; None: not known."""
    read_at: float | None = None
    """When the track was read last, by the monotonic clock; None: not known."""


class Walk:
    """Follows the stream in the history, fills the track, and feeds `monitor`, which finds the
    stream's form, tables and faults.
    """

    def __init__(
        self,
        loop: Loop,
        history: History,
        track: Track,
        *,
        passed: Callable[[], int] = lambda: 0,
        full_reads: Callable[[], int] = lambda: 0,
        reads: Callable[[], bool] = lambda: True,
        on_form: OnForm = lambda _form, _payload_type: None,
        saved: WalkState | None = None,
    ) -> None:
        """Begin at the end of the history, or where the previous program stopped.

        `passed` returns how many datagrams have come, to previous programs too; `full_reads` how
        many batches were full; `reads` whether this process reads the stream: while another one
        does, it overwrites the history. `on_form` is called with the form of the stream when it is
        recognised and whenever it changes.
        """
        self.track = track
        self.monitor = self._new_monitor()
        self._loop = loop
        self._history = history
        self._passed, self._full_reads, self._reads = passed, full_reads, reads
        self._on_form = on_form
        self._read_at = -math.inf
        self._anew = False  # the history that the previous program looked at is gone
        self._full_before = self._floods = 0
        self._piece = PIECE
        self._place = Place(history.end)
        self._certain = self._place  # the place from which on findings count
        self._before = Counts()  # counts before this monitor, or of the last program
        self._former = Counts()  # those of `_before` that are of former sources
        self._warm: Counts | None = Counts()  # counts of this monitor before `_certain`
        self._unseen = self._left_out = self._access_points = 0
        self._caught_up: int | None = 0  # `passed` when the walk was last at the end
        self._since = 0  # datagrams seen since then
        self._sources = deque[int](maxlen=_SOURCES)
        self._latest = -math.inf  # arrival of the last datagram that was looked at
        self._of_source, self._sample_at = 0, -math.inf
        self._unseen_log = Throttle(loop.call_later, 1, _UNSEEN_PERIOD)
        if saved is not None:
            self._restore(saved)
        loop.call_in_step(PERIOD, self._look)

    def new_source(self) -> None:
        """Another source's datagrams come next: they need not fit those before."""
        self._sources.append(self._history.end)

    # --- reloading

    def _restore(self, saved: WalkState) -> None:
        self._before, self._former = saved.counts, saved.former
        self._caught_up = saved.passed
        self._read_at = self._loop.time() if saved.read_at is None else saved.read_at
        track, history = self.track, self._history
        if track.end > track.oldest:
            self._latest = track.time(track.end)
        place = Place(saved.number, saved.datagrams)
        if place.number > history.end:  # the history has begun anew, with new numbers
            self._anew = True
            if any(each >= place.number for each in saved.sources):
                self._former = self._before
            track.cut(self._latest)
            return
        self._sources.extend(saved.sources)
        self._place = self._certain = place
        if history.oldest < place.number:
            self._place = history.find(history[place.number - 1].time - WARM_UP)
            self._warm = None

    def export(self) -> WalkState:
        """Return what the next program needs to go on."""
        place, passed = max(self._place, self._certain), self._caught_up
        return WalkState(
            *place, self.counts, list(self._sources), self._former,
            None if passed is None else passed + self._since, self._read_at,
        )  # fmt: skip

    @property
    def counts(self) -> Counts:
        """Counts since the start of the relay."""
        if self._warm is None:
            return self._before
        return self._before.combine(self._found()).combine(self._warm, -1)

    @property
    def is_warm(self) -> bool:
        """Whether findings count: the walk is beyond what the previous program has seen."""
        return self._warm is not None

    @property
    def present(self) -> Monitor | None:
        """The monitor of the present source; None: none of its datagrams was looked at yet."""
        number, datagrams = self._place
        return None if self._changes_behind(number + bool(datagrams)) else self.monitor

    def of_source(self) -> Counts:
        """Return the counts of the present source."""
        if self.present is None:
            return Counts()
        counts = self.counts.combine(self._former, -1)
        counts.lost = max(0, counts.lost)  # a packet that comes late is not lost any more
        return counts

    def continuity_errors(self) -> int | None:
        """Return how many the source's stream has had; None: the walk is not at its end."""
        self._follow(SHARE)
        if not self.is_warm or self._place.number < self._history.end:
            return None
        return self.monitor.transport.errors.counts["Continuity_count_error"]

    def _found(self) -> Counts:
        monitor, reception = self.monitor, self.monitor.reception
        return Counts(
            monitor.datagrams, monitor.bytes, self._unseen, self._left_out, monitor.foreign,
            reception.lost, reception.reordered, reception.duplicated,
            self._access_points, monitor.transport.scrambled,
            dict(monitor.transport.errors.counts),
        )  # fmt: skip

    # --- looking

    def _look(self) -> None:
        share = SHARE_READ if self._is_read else SHARE
        self._follow(SHARE_FLOODED if self._flooded() else share)

    def catch_up(self) -> None:
        """Look at the datagrams that have come, because the track is about to be read."""
        self._read_at = self._loop.time()
        self._follow(SHARE_READ)

    @property
    def _is_read(self) -> bool:
        return self._loop.time() - self._read_at < READ

    def _follow(self, share: float) -> None:
        """Look at the datagrams that have come, for at most this share of a core."""
        if not self._reads():
            return
        if self._anew:
            self._anew = False
            self._leave_out(but=sum(self._history[n].datagrams for n in range(self._history.end)))
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
        """Go to the next datagram that is to be looked at; False: there is none."""
        history, place = self._history, self._place
        if place not in history:
            self._go_on_behind()
        elif place.number >= history.end:
            return False
        elif self._is_late(place):
            self._skip()
        elif self._of_source >= _OPAQUE_FIRST and self.monitor.form is Form.OPAQUE:
            self._sample()
        return self._place.number < history.end

    def _is_late(self, place: Place) -> bool:
        """Tell whether the walk is too far behind to go on at this place."""
        late = self._loop.time() - self._history[place.number].time > LAG
        return late and self._warm is not None and not self._is_read

    def _go_on_behind(self) -> None:
        """Go on behind a place that has been overwritten, or whose history has ended."""
        if self._warm is None and self._certain in self._history:  # every new run is there
            self._place, self.monitor = self._certain, self._new_monitor()
            self._count_from_here()
            self._break()
        else:
            self._count_now()
            self._skip()

    def _skip(self) -> None:
        """Skip all datagrams that have come until now."""
        self._leave_out()
        changed = self._changes_behind(self._place.number)
        self._place = Place(self._history.end)
        if changed:
            self._begin_source()
        else:
            self.monitor.skip()
            self.track.cut(self._latest)

    def _leave_out(self, but: int = 0) -> None:
        """Count datagrams that were not looked at as unseen, except the latest `but` of them."""
        passed = self._passed() - but
        before = passed if self._caught_up is None else self._caught_up + self._since
        unseen = max(0, passed - before)
        self._unseen += unseen
        self._left_out += unseen if self._is_read else 0
        self._caught_up, self._since = passed, 0
        if unseen:
            self._unseen_log.log(log.info, "inspection_behind", unseen=self.counts.unseen)

    def _sample(self) -> None:
        """Skip datagrams of unknown form, except for a few in each period."""
        following = [number for number in self._sources if number >= self._place.number]
        now = self._loop.time()
        if following:
            self._place = Place(following[0])
        elif now >= self._sample_at:
            self._sample_at = now + _OPAQUE_PERIOD
            self._of_source = _OPAQUE_FIRST - _OPAQUE_SAMPLE
        else:
            self._place = Place(self._history.end)

    def _changes_behind(self, number: int) -> bool:
        """Tell whether another source began with this run or a later one."""
        return any(each >= number for each in self._sources)

    def _begin_source(self) -> None:
        """Look at another source's stream from here on, with a monitor of its own."""
        self.monitor.finish()
        if self._warm is not None:
            self._before = self._former = self.counts
            self._warm = Counts()
            self._unseen = self._left_out = self._access_points = 0
        self.monitor = self._new_monitor()
        self._break()
        self._of_source = 0
        self.track.form = Form.OPAQUE

    def _new_monitor(self) -> Monitor:
        return Monitor(self._mark, self._append, self._break)

    def _take(self) -> None:
        """Look at the next piece: about `_piece` datagrams, of one run or of several."""
        self._count_from_here()
        history, (number, first) = self._history, self._place
        limit, left = Place(history.end), self._piece
        if self._warm is None:
            limit = min(limit, self._certain)
        while left > 0 and (number, first) < limit:
            record = history[number]
            if not first:
                self._enter(number, record)
            behind = min(first + left, record.datagrams)
            if number == limit.number:
                behind = min(behind, limit.datagrams)
            self._feed(record, first, behind)
            left -= behind - first
            number, first = (number, behind) if behind < record.datagrams else (number + 1, 0)
        self._place = Place(number, first)
        self._tell_form()

    def _enter(self, number: int, record: RunRecord) -> None:
        """See whether a run goes on where the one before it ended."""
        if number in self._sources:
            self._begin_source()
        elif record.time - self._latest > SILENCE:
            self.monitor.finish()
            self._break()
        self._latest = record.time

    def _count_from_here(self) -> None:
        """Let findings count, if the previous program got no further."""
        if self._place >= self._certain:
            self._count_now()

    def _count_now(self) -> None:
        if self._warm is None:
            self._warm = self._found()

    def _feed(self, record: RunRecord, first: int, behind: int) -> None:
        view, time, size = self._history.data(record), record.time, record.size
        feed, base = self.monitor.feed, record.start
        for at in range(first * size, behind * size, size):
            feed(view[at : at + size], time, base + at)
        self._of_source += behind - first
        self._since += 0 if self._warm is None else behind - first
        self.track.heard = time

    def _tell_form(self) -> None:
        track, form = self.track, self.monitor.form or Form.OPAQUE
        track.payload_type = self.monitor.payload_type
        if form is not track.form:
            track.form = form
            if form is not Form.OPAQUE and self.present:
                self._on_form(form, track.payload_type)

    # --- what is found

    def _append(self, packets: bytes, time: float) -> None:
        """Add packets to the track, unless the last program has done so."""
        if self._warm is not None:
            self.track.append(packets, time)

    def _break(self) -> None:
        if self._warm is not None:
            self.track.cut(self._latest)

    def _mark(self, access: FoundEntry) -> None:
        """Add an entry point to the track."""
        self._access_points += 1
        if self._warm is not None:
            at = self.track.end + access.offset
            entry = Entry(at, access.time, access.stamp, access.tables, access.position)
            self.track.mark(entry)
