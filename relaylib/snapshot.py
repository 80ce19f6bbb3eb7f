"""The state of the relay as one frozen value.

ESTADO, `/status.json`, `/events`, `/metrics`, the report and the service manager's status are made
of it, and read no other state.

`Snapshot` is the stream: its source, its contents, its verdict. `Audience` is its viewers and fixed
outputs. The two are separate because a snapshot is cheap, and an audience takes a look at each
viewer: a thousand of them take milliseconds, so the ingest is read in between. `Observer` makes
both, each at most a few times a second, however many readers there are.

Names and values are English enums and numbers. Renderers have the words for their readers:
`protocol.words` on the wire, `media.catalogue` in the log.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from relaylib.history.history import History
from relaylib.media.form import Form
from relaylib.media.health import Monitor
from relaylib.media.mpegts import PACKET_SIZE
from relaylib.media.tables import Program
from relaylib.media.verdict import Verdict
from relaylib.mp4.selection import select
from relaylib.net.address import Address
from relaylib.net.loop import Loop
from relaylib.outputs.behind import Deferred
from relaylib.outputs.fanout import Fanout
from relaylib.outputs.output import Output
from relaylib.outputs.viewer_row import ViewerRow
from relaylib.source.gate import Presence
from relaylib.source.ingest import Ingest
from relaylib.track.health import Health, Rates
from relaylib.track.track import Track
from relaylib.track.walk import Counts

FRESH = 0.2
"""Seconds for which a snapshot is used again. Another source, form or verdict shows at once."""

PROGRAMS, STREAMS = 32, 32
"""Most programs, and most streams of each: a damaged or hostile source might name thousands."""

_AT_ONCE = 128
"""Viewers that are looked at between two reads of the ingest: about 0.1 ms."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """The active source, or the last one. `form` is None before there was one.

    `payload_type` is that of RTP which carries no MPEG-TS. `since` is when it became the active
    source, by the loop's clock. `rejected` counts datagrams of other senders.
    """

    presence: Presence
    address: Address | None
    form: Form | None
    payload_type: int | None
    since: float | None
    rejected: int
    turned_away: int


@dataclass(frozen=True, slots=True)
class ElementaryFacts:
    """An elementary stream; rates in bits a second. None: not known."""

    pid: int
    kind: str
    codec: str
    width: int | None
    height: int | None
    fps: float | None
    bitrate: float


@dataclass(frozen=True, slots=True)
class ProgramFacts:
    """A program, as its table names it."""

    number: int
    pmt_pid: int
    pcr_pid: int | None
    streams: tuple[ElementaryFacts, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of the stream that comes in now; empty while none does.

    `unplayable` is the codec because of which no browser plays it. `bitrate` is by the stream's own
    clock, in bits a second; jitters and `random_access` are seconds.
    """

    programs: tuple[ProgramFacts, ...] = ()
    unplayable: str | None = None
    bitrate: int | None = None
    random_access: float | None = None
    rtp_jitter: float | None = None
    pcr_jitter: float | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts since the relay began, of datagrams and bytes.

    `sent`, `dropped` and `unreachable` are of all outputs since this program began. `overtaken`
    counts how often datagrams of an output that was behind were overwritten before it got them.
    `found` are the walk's counts, None where the relay does not look into the stream.
    """

    received: int
    byte_count: int
    overflowed: int
    sent: int
    dropped: int
    unreachable: int
    overtaken: int
    found: Counts | None


@dataclass(frozen=True, slots=True)
class Kept:
    """How much the history keeps, and how much it may (`limit_s` None: only the size counts)."""

    seconds: float = 0.0
    byte_count: int = 0
    limit_s: float | None = None
    limit_bytes: int = 0
    points: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The stream at `time`, by the loop's clock; `date` is that in seconds since 1970.

    `verdict` and `errors` are None where the relay does not look into the stream. Errors are those
    of the present source: none while it is silent. The word of the verdict is the same `since`
    then.
    """

    time: float
    date: float
    begun: float
    source: SourceFacts
    verdict: Verdict | None
    since: float | None
    contents: Contents
    errors: Counts | None
    totals: Totals
    bits_in: float
    """Bits a second, over the last second."""
    rates: Rates
    """Rates over the last ten seconds."""
    history: Kept

    @property
    def word(self) -> str:
        """The verdict in a word; without a verdict, whether there is a source."""
        return (self.verdict.word if self.verdict else self.source.presence).value


@dataclass(frozen=True, slots=True)
class Audience:
    """The viewers and fixed outputs, and their numbers by kind and state.

    `dropped` and `unreachable` count the datagrams that their outputs did not get.
    """

    rows: tuple[ViewerRow, ...]
    counts: Mapping[tuple[str, str], int]
    dropped: int
    unreachable: int

    def states(self, kind: str) -> dict[str, int]:
        """Return how many of a kind there are in each state, without states that have none."""
        return {state: count for (each, state), count in self.counts.items() if each == kind}


class Observer:
    """Makes snapshots of the parts of a stream.

    `viewer_rows` makes the rows of all viewers and fixed outputs, `outputs` returns the outputs of
    those that get datagrams. With viewers `by_http`, `Kept` describes the track, which is their
    history.
    """

    def __init__(
        self,
        loop: Loop,
        ingest: Ingest,
        fanout: Fanout,
        health: Health,
        *,
        history: History | None,
        track: Track | None,
        by_http: bool,
        deferred: Deferred,
        viewer_rows: Callable[[], Iterable[ViewerRow]],
        outputs: Callable[[], Iterable[Output]],
    ) -> None:
        self._loop = loop
        self._ingest = ingest
        self._fanout = fanout
        self._health = health
        self._history = history
        self._track, self._by_http = track, by_http
        self._deferred = deferred
        self._viewer_rows = viewer_rows
        self._outputs = outputs
        self._snapshot: Snapshot | None = None
        self._made_of: tuple[object, ...] = ()
        self._audience: Audience | None = None
        self._counted_at = -math.inf

    def snapshot(self) -> Snapshot:
        """Return the state of the stream, at most `FRESH` seconds old."""
        now, made_of = self._loop.time(), self._what_shows_at_once()
        made = self._snapshot
        if made is None or now - made.time >= FRESH or made_of != self._made_of:
            made, self._made_of = self._make(now), made_of
            self._snapshot = made
        return made

    def fresh(self) -> Snapshot:
        """Return the state of the stream now, for readers that compare one second with the next."""
        self._snapshot = None
        return self.snapshot()

    def audience(self) -> Audience:
        """Return the audience, at most `FRESH` seconds old."""
        now = self._loop.time()
        if self._audience is None or now - self._counted_at >= FRESH:
            self._audience, self._counted_at = self._look_at_rows(), now
        return self._audience

    def _what_shows_at_once(self) -> tuple[object, ...]:
        lock, verdict = self._ingest.gate, self._health.verdict
        form = self._ingest.form, self._ingest.payload_type
        return lock.presence, lock.state.active, *form, verdict and verdict.word

    def _look_at_rows(self) -> Audience:
        """Look at each viewer row, and read the ingest in between."""
        found = list[ViewerRow]()
        for count, row in enumerate(self._viewer_rows(), 1):
            found.append(row)
            if not count % _AT_ONCE:
                self._loop.read_priority()
        counters = [output.counters for output in self._outputs()]
        return Audience(
            tuple(found),
            Counter((each.kind, each.state) for each in found),
            sum(each.dropped for each in counters),
            sum(each.unreachable for each in counters),
        )

    # --- the stream

    def _make(self, now: float) -> Snapshot:
        health = self._health
        return Snapshot(
            time=now,
            date=self._loop.wall_time(),
            begun=health.begun,
            source=self._source(),
            verdict=health.verdict,
            since=health.since,
            contents=self._contents(),
            errors=self._errors(),
            totals=self._totals(),
            bits_in=health.bits_in,
            rates=health.rates(),
            history=_kept(self._history, self._track, by_http=self._by_http),
        )

    def _source(self) -> SourceFacts:
        lock = self._ingest.gate
        state, there = lock.state, lock.state.active is not None
        return SourceFacts(
            lock.presence,
            state.active,
            self._ingest.form if there else None,
            self._ingest.payload_type if there else None,
            state.since if there else None,
            state.rejected,
            state.turned_away,
        )

    def _contents(self) -> Contents:
        walk = self._health.walk
        monitor = walk.present if walk and self._comes else None
        if monitor is None or not (monitor.form and monitor.form.has_packets):
            return Contents()
        clock, report = monitor.clock, monitor.report()
        return Contents(
            tuple(_programs(monitor)),
            _unplayable(monitor),
            report.ts.bitrate if report.ts else None,
            report.ts.random_access.interval_s if report.ts else None,
            monitor.reception.jitter if monitor.form is Form.RTP else None,
            clock.jitter if clock else None,
        )

    def _errors(self) -> Counts | None:
        walk = self._health.walk
        if walk is None:
            return None
        return walk.of_source() if self._comes else Counts()

    @property
    def _comes(self) -> bool:
        return self._ingest.gate.presence is Presence.ACTIVE

    def _totals(self) -> Totals:
        health, walk = self._health, self._health.walk
        return Totals(
            self._ingest.received,
            self._fanout.byte_count,
            self._ingest.buffer.drops.total,
            health.sent,
            health.dropped,
            health.unreachable,
            self._deferred.overtaken,
            walk.counts if walk else None,
        )


def _kept(history: History | None, track: Track | None, *, by_http: bool) -> Kept:
    """Return how much a viewer can go back over: the track's with HTTP, else the history's."""
    points = len(track.entries) if track else 0
    if by_http and track is not None:
        seconds, byte_count, capacity = track.span, track.end - track.oldest, track.ring.byte_count
        return Kept(seconds, byte_count, _finite(track.seconds), capacity, points)
    if history is None:
        return Kept()
    limit = _finite(history.seconds)
    if history.oldest == history.end:
        return Kept(0.0, 0, limit, history.capacity, points)
    first, last = history[history.oldest], history[history.end - 1]
    byte_count = last.start + last.byte_count - first.start
    return Kept(last.time - first.time, byte_count, limit, history.capacity, points)


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


def _programs(monitor: Monitor) -> Iterable[ProgramFacts]:
    for program in list(monitor.transport.tables.programs.values())[:PROGRAMS]:
        streams = tuple(_streams(monitor, program))
        yield ProgramFacts(program.number, program.pmt_pid, program.pcr_pid, streams)


def _streams(monitor: Monitor, program: Program) -> Iterable[ElementaryFacts]:
    for each in program.streams[:STREAMS]:
        pid = monitor.transport.pids.get(each.pid)
        if pid is None or pid.elementary is None:
            continue
        codec, size = pid.elementary.codec, pid.elementary.format
        fps = (size.rate if size else 0.0) or pid.elementary.rate
        is_video = pid.elementary.named.kind.value == "video"
        yield ElementaryFacts(
            each.pid,
            codec.kind.value,
            codec.name,
            size.width if size else None,
            size.height if size else None,
            fps if fps and is_video else None,
            pid.meter.rate() * PACKET_SIZE * 8,
        )


def _unplayable(monitor: Monitor) -> str | None:
    """Return the codec because of which no browser plays this stream, as far as tables tell."""
    selection = select(monitor.transport.tables.programs, None, patient=False)
    return selection.obstacle.name if selection and selection.obstacle else None
