"""The one reading of the stream, after it has been sent: its packets go into the track, and what
it is and what is wrong with it is found on the way.

The walk reads the history with a place of its own, now and then and in small pieces between which
the ingest is read. So nothing that a datagram meets on its way knows of it, and what a stand-in has
written is read by the program that follows. Where the walk cannot keep up, because the relay has
all hands full, it lets a part of the stream go unseen, counts that, and judges each part that it
has seen by itself: what it skipped is not missing. If somebody reads the track, it takes more of
the time before that happens, because then there is a hole in what they get.

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
"""Seconds between two looks, as between two writes by HTTP. What lies in the history, four
mebibytes at least, waits for it."""

PIECE = 16
"""Datagrams that are looked at without a look at the ingest: about 0.1 ms."""

SLOW = 0.002
"""Seconds that a piece may take; the next one is a single datagram then. A stream that is made to
be expensive takes some milliseconds for each."""

SHARE = 0.1
"""Of a core, at most: what a stream of 100 Mb/s takes."""

SHARE_READ = 0.5
"""The same while somebody reads the track."""

READ = 10.0
"""Seconds for which who has read is taken for one who reads: players of HLS come in steps."""

SHARE_FLOODED = 0.01
"""The same while more comes than is read: then every datagram that is sent counts."""

FLOODED = 5
"""Looks in a row, each with full batches since the one before, that make a flood. A burst makes one
or two."""

LAG = 1.0
"""Seconds behind the stream after which the rest of it goes unseen, where nobody reads the track: a
verdict has to be in time."""

WARM_UP = 2.0
"""Seconds of the stream that a new program looks at again, to know what the last one knew."""

SILENCE = 1.0
"""Seconds without a datagram after which the stream need not go on where it ended."""

_OPAQUE_FIRST, _OPAQUE_SAMPLE, _OPAQUE_PERIOD = 256, 16, 1.0
"""Of a stream whose form nobody knows: datagrams that are looked at, and then so many a period."""

_UNSEEN_PERIOD = 60.0
"""Seconds between two log lines about what went unseen."""

_SOURCES = 16
"""Changes of the source that are remembered, as long as they may be walked over again."""


OnForm = Callable[[Form, int | None], None]
"""Is told what the source sends, and the payload type if that is RTP."""

log = structlog.get_logger()


@dataclass(slots=True)
class Counts:
    """What was found since the start. A reload hands it over."""

    datagrams: int = 0
    octets: int = 0
    unseen: int = 0
    """Datagrams that went by while there was no time to look."""
    left_out: int = 0
    """Of these, how many somebody would have read in the track."""
    foreign: int = 0
    """Datagrams that are no part of the stream, though its source has sent them."""
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
class WalkState:
    """What a reload hands over: the place to go on at, what was counted, and at which runs another
    source began.
    """

    number: int
    datagrams: int
    counts: Counts
    sources: list[int] = field(default_factory=list)
    former: Counts = field(default_factory=Counts)
    """What was counted of the sources before the present one."""
    passed: int | None = None
    """How many datagrams had come up to this place; None: not known."""
    read_at: float | None = None
    """When somebody read the track last, by the monotonic clock; None: not known."""


class Walk:
    """Follows the stream in the history, fills the track, and feeds `monitor`, which knows what the
    stream is.
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

        `passed` tells how many datagrams have come, to the previous programs too; `full_reads` how
        often more were waiting than were read at once; `reads` whether this process reads the
        stream: while another one does, it overwrites the history. `on_form` is told what the source
        sends, when that is known and whenever it changes.
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
        self._certain = self._place  # where what is found begins to count
        self._before = Counts()  # what was found before this monitor, or by the last program
        self._former = Counts()  # of that, what is of former sources
        self._warm: Counts | None = Counts()  # what this monitor found before that place
        self._unseen = self._left_out = self._access_points = 0
        self._caught_up: int | None = 0  # `passed` when all was seen
        self._since = 0  # what was seen since then
        self._sources = deque[int](maxlen=_SOURCES)
        self._latest = -math.inf  # when the last datagram came that was looked at
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
        if place.number > history.end:  # that has begun anew, and numbers its runs anew
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
        """What was found so far."""
        if self._warm is None:
            return self._before
        return self._before.combine(self._found()).combine(self._warm, -1)

    @property
    def is_warm(self) -> bool:
        """Whether what is found counts: the previous program has not seen it."""
        return self._warm is not None

    @property
    def present(self) -> Monitor | None:
        """The monitor of the source that sends now; None: nothing of it was looked at yet."""
        number, datagrams = self._place
        return None if self._changes_behind(number + bool(datagrams)) else self.monitor

    def of_source(self) -> Counts:
        """Return what was found of the source that sends now."""
        if self.present is None:
            return Counts()
        counts = self.counts.combine(self._former, -1)
        counts.lost = max(0, counts.lost)  # who comes late is not lost any more
        return counts

    @property
    def left_out(self) -> int:
        """Datagrams that are missing in the track because there was no time to look."""
        return self.counts.left_out

    def continuity_errors(self) -> int | None:
        """Return how many the source's stream has had; None: not all of it can be seen."""
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
        """Look at what has come: somebody is about to read the track."""
        self._read_at = self._loop.time()
        self._follow(SHARE_READ)

    @property
    def _is_read(self) -> bool:
        return self._loop.time() - self._read_at < READ

    def _follow(self, share: float) -> None:
        """Look at what has come, for at most this share of a core."""
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
        """Go to what is to be looked at next; False: nothing is."""
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
        """Tell whether it makes no sense to go on here."""
        late = self._loop.time() - self._history[place.number].time > LAG
        return late and self._warm is not None and not self._is_read

    def _go_on_behind(self) -> None:
        """What was to be looked at next has been overwritten, or its history has ended."""
        if self._warm is None and self._certain in self._history:  # all that counts is there
            self._place, self.monitor = self._certain, self._new_monitor()
            self._count_from_here()
            self._break()
        else:
            self._count_now()
            self._skip()

    def _skip(self) -> None:
        """Let everything that has come until now go unseen."""
        self._leave_out()
        changed = self._changes_behind(self._place.number)
        self._place = Place(self._history.end)
        if changed:
            self._begin_source()
        else:
            self.monitor.skip()
            self.track.cut(self._latest)

    def _leave_out(self, but: int = 0) -> None:
        """Count what has come and was not seen, but for the latest datagrams, as unseen."""
        passed = self._passed() - but
        before = passed if self._caught_up is None else self._caught_up + self._since
        unseen = max(0, passed - before)
        self._unseen += unseen
        self._left_out += unseen if self._is_read else 0
        self._caught_up, self._since = passed, 0
        if unseen:
            self._unseen_log.log(log.info, "inspection_behind", unseen=self.counts.unseen)

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
        """Look at the next piece: the rest of a run, or some runs, as far as it goes."""
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
        """Let what is found count, if the previous program got no further."""
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
        """Add packets to the track, unless the last program has."""
        if self._warm is not None:
            self.track.append(packets, time)

    def _break(self) -> None:
        if self._warm is not None:
            self.track.cut(self._latest)

    def _mark(self, access: FoundEntry) -> None:
        """Tell the track where decoding can start."""
        self._access_points += 1
        if self._warm is not None:
            at = self.track.end + access.offset
            entry = Entry(at, access.time, access.stamp, access.tables, access.position)
            self.track.mark(entry)


def open_walk(
    loop: Loop,
    history: History | None,
    track: Track | None,
    *,
    passed: Callable[[], int],
    full_reads: Callable[[], int],
    reads: Callable[[], bool],
    on_form: OnForm,
    saved: WalkState | None,
) -> Walk | None:
    """Begin to look, or go on, if there is something to look at and somewhere to put it."""
    if history is None or track is None:
        return None
    return Walk(
        loop, history, track,
        passed=passed, full_reads=full_reads, reads=reads, on_form=on_form, saved=saved,
    )  # fmt: skip
