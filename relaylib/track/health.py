"""How the stream fares, and whose fault it is: the facts of every part, judged some times a second.

`walk` finds packets that are missing when the stream comes. `ingest` counts datagrams that the
kernel drops on the way in, each output those dropped on the way out. A late timer shows that this
process stood still. `media.verdict` makes a word of all this; `Health` logs its changes and returns
it. A verdict ends with its source: see `new_source`.

Losses behind the first link of a viewer's path do not show here: UDP does not report them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from relaylib.log import Throttle
from relaylib.media.catalogue import sentence
from relaylib.media.form import Form
from relaylib.media.meter import LONG, SHORT, Meter
from relaylib.media.verdict import WINDOW, Evidence, Judge, Seen, Told, Verdict, Word
from relaylib.net.address import show
from relaylib.net.loop import Loop
from relaylib.outputs.fanout import Fanout
from relaylib.outputs.output import Output
from relaylib.source.gate import Presence
from relaylib.source.ingest import Ingest
from relaylib.track.walk import Walk

PERIOD = 0.4
"""Seconds between two judgements. A cause shows in the verdict after a few of them: within 2 s."""

_OUTPUTS = 128
"""Outputs that are looked at between two reads of the ingest: about 0.1 ms."""

_CLOSED, _ANSWERS_END = 3, 2.5
"""Looks with an ICMP error that make a closed port, and seconds without one that end the count."""

_SECOND = 1.0

UNKNOWN = "unknown"
"""The word for a viewer where the relay does not look into the stream."""

log = structlog.get_logger()


@dataclass(slots=True)
class HealthState:
    """What a reload hands over: when the relay began, by the monotonic clock, and the verdict,
    whose word has been the same `since` then.
    """

    begun: float
    word: Word
    evidence: Told
    since: float | None = None
    remedy: Told | None = None


class _Path(NamedTuple):
    """An output's counters at the last look, and when its path last failed to take a datagram.

    `answers` counts the looks with an ICMP error of its port, the last of them at `answered_at`.
    """

    offered: int
    dropped: int
    unreachable: int
    failed_at: float = float("-inf")
    answers: int = 0
    answered_at: float = float("-inf")


class Rates(NamedTuple):
    """Bits a second, and datagrams a second; over the last ten seconds."""

    bits_in: float
    datagrams_in: float
    bits_out: float
    datagrams_out: float


class Health:
    """Judges the stream, unless there is no walk; `begun` is when the relay began.

    The word of the verdict has been the same `since` then, None where that is not known. `sent`,
    `dropped` and `unreachable` count the datagrams of all outputs, removed ones included, from the
    start of this program to the latest look.
    `known` are totals at the end of the previous program; see `Judge`.
    `on_change`, if there is one, is called with a new word, and the sentence of evidence for it.
    """

    def __init__(
        self,
        loop: Loop,
        ingest: Ingest,
        fanout: Fanout,
        walk: Walk | None,
        *,
        outputs: Callable[[], Iterable[Output]],
        on_change: Callable[[str, str], None] | None = None,
        saved: HealthState | None = None,
        known: Mapping[str, int] | None = None,
    ) -> None:
        self.walk = walk
        self.begun = loop.time() if saved is None else saved.begun
        self.since = self.begun if saved is None else saved.since
        self.sent = self.dropped = self.unreachable = 0
        self._loop = loop
        self._ingest = ingest
        self._fanout = fanout
        self._outputs = outputs
        self._on_change = on_change
        last = None if saved is None else Verdict(saved.word, saved.evidence, saved.remedy)
        self._judge = Judge(ingest.buffer.remedy, last, known)
        self._paths = dict[Output, _Path]()
        self._due = loop.time() + PERIOD
        self._stalled = 0.0
        self._full, self._full_hosts, self._active = 0, 0, 0
        self._second_at = float("-inf")
        self._size = 0.0  # bytes of a datagram
        self._host = self._active_host()  # at the last look
        self._bytes, self._datagrams, self._datagrams_out = Meter(), Meter(), Meter()
        self._log = Throttle(loop.call_later)
        loop.call_later(PERIOD, self._step)

    def export(self) -> HealthState:
        """Return what the next program needs to go on."""
        word, evidence, remedy = self._judge.verdict
        return HealthState(self.begun, word, evidence, self.since, remedy)

    def new_source(self) -> None:
        """Forget the faults and rates of the stream so far: another source sends from now on."""
        before, self._host = self._host, self._active_host()
        if self._ingest.received:  # else it is the first one
            self._judge.new_source(elsewhere=before != self._host)
            self._bytes, self._datagrams = Meter(), Meter()
            self._mark_ingest(self._loop.time())

    def _active_host(self) -> str | None:
        active = self._ingest.gate.state.active
        return active[0] if active else None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict about the stream; None: the relay does not look into it."""
        return self._judge.verdict if self.walk else None

    def word_for(self, output: Output | None) -> str:
        """Return the word for a viewer with this output (None: without any), or `UNKNOWN`."""
        verdict, path = self.verdict, self._paths.get(output) if output else None
        if verdict is None:
            return UNKNOWN
        by_http_only = verdict.evidence.key == Evidence.LEFT_OUT
        if verdict.word is Word.SILENCE or (verdict.word is Word.RELAY and not by_http_only):
            return verdict.word
        if path and path.failed_at > self._loop.time() - WINDOW:
            return Word.NETWORK
        return Word.SOURCE if verdict.word is Word.SOURCE else Word.HEALTHY

    @property
    def bits_in(self) -> float:
        """Bits a second in, over the last second."""
        return self._bytes.rate(SHORT) * 8 if self._is_coming else 0.0

    def rates(self) -> Rates:
        """Return the rates in and out."""
        byte_count, datagrams = self._bytes.rate(LONG), self._datagrams.rate(LONG)
        out = self._datagrams_out.rate(LONG)
        self._size = byte_count / datagrams if datagrams else self._size
        if not self._is_coming:
            byte_count = datagrams = 0.0
        return Rates(byte_count * 8, datagrams, out * self._size * 8, out)

    @property
    def _is_coming(self) -> bool:
        return self._ingest.gate.presence is Presence.ACTIVE

    # --- judging

    def _step(self) -> None:
        now = self._loop.time()
        self._stalled += max(0.0, now - self._due)
        self._due = now + PERIOD
        self._loop.call_later(PERIOD, self._step)
        self._host = self._active_host()
        self._look_at_outputs(now)
        if now >= self._second_at:
            self._second(now)
        if self.walk is not None and self.walk.is_warm:
            previous = self._judge.verdict.word
            verdict = self._judge.step(self._seen(self.walk, now))
            if verdict.word is not previous:
                self.since = now
                self._tell(previous, verdict)
                if self._on_change is not None:
                    self._on_change(verdict.word.value, sentence(verdict.evidence))

    def _tell(self, previous: Word, verdict: Verdict) -> None:
        self._log.log(
            log.info if verdict.word is Word.HEALTHY else log.warning,
            "health_changed",
            verdict=verdict.word.value,
            previous=previous.value,
            evidence=sentence(verdict.evidence),
            **({"remedy": sentence(verdict.remedy)} if verdict.remedy else {}),
        )

    def _seen(self, walk: Walk, now: float) -> Seen:
        lock, monitor = self._ingest.gate.state, walk.present
        return Seen(
            now=now,
            silence=self._silence(),
            judged=monitor is not None and monitor.form is not Form.OPAQUE,
            payload_type=self._ingest.payload_type,
            outputs=self._active,
            full=self._full,
            full_hosts=self._full_hosts,
            lost=monitor.lost if monitor else 0,
            errors=dict(monitor.transport.errors.counts) if monitor else {},
            overflowed=self._ingest.buffer.drops.total,
            stalled=self._stalled,
            turned_away=lock.turned_away,
            left_out=walk.counts.left_out,
        )

    def _silence(self) -> Told | None:
        lock = self._ingest.gate.state
        if lock.active is None:
            return Told(Evidence.NO_SOURCE)
        return Told(Evidence.STOPPED, {"source": show(lock.active)}) if lock.silent else None

    def _second(self, now: float) -> None:
        self._second_at = now + _SECOND
        self._mark_ingest(now)
        self._datagrams_out.mark(now, self.sent)

    def _mark_ingest(self, now: float) -> None:
        self._bytes.mark(now, self._fanout.byte_count)
        self._datagrams.mark(now, self._fanout.forwarded)

    # --- outputs

    def _look_at_outputs(self, now: float) -> None:
        """Find out which outputs could not take every datagram since the last look."""
        paths, hosts = dict[Output, _Path](), set[str]()
        self._active = self._full = 0
        for count, output in enumerate(self._outputs(), 1):
            path = paths[output] = self._look_at(output, now)
            if not output.paused:
                self._active += 1
                if path.failed_at == now and path.dropped > self._paths[output].dropped:
                    self._full += 1
                    hosts.add(output.host)
            if not count % _OUTPUTS:
                self._loop.read_priority()
        self._paths, self._full_hosts = paths, len(hosts)

    def _look_at(self, output: Output, now: float) -> _Path:
        """See whether datagrams found the buffer full, or the port has answered as closed again.

        Most hosts with a closed port answer once a second. A single answer may be forged.
        """
        self._fanout.update_counters(output)
        counters, before = output.counters, self._paths.get(output)
        offered, dropped, unreachable = counters.offered, counters.dropped, counters.unreachable
        if before is None:
            return _Path(offered, dropped, unreachable)
        answers, answered_at = before.answers, before.answered_at
        if unreachable > before.unreachable:
            answers = answers + 1 if now - answered_at < _ANSWERS_END else 1
            answered_at = now
        failed = dropped > before.dropped or (answered_at == now and answers >= _CLOSED)
        self.sent += counters.sent - (before.offered - before.dropped - before.unreachable)
        self.dropped += dropped - before.dropped
        self.unreachable += unreachable - before.unreachable
        failed_at = now if failed else before.failed_at
        return _Path(offered, dropped, unreachable, failed_at, answers, answered_at)
