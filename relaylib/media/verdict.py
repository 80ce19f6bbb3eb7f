"""Whose fault it is: a word, and the evidence for it, from counts that only grow. Pure.

Evidence and remedy are keys with values. `catalogue` makes English sentences of them, the page's
script sentences in its reader's language.

What counts as unhealthy is what a viewer sees or hears: something is missing (RTP, continuity,
sync, a PID), or damaged (transport error, CRC), or a new viewer cannot begin (no PAT or PMT for
long). The other errors of TR 101 290 are counted and reported, but do no harm that a player shows:
encoders of good repute send clocks (PCR) and time stamps (PTS) more seldom than it wants, and jump
where a file begins anew.

Datagrams that this machine dropped leave the same gaps as those that never came. So what is found
missing counts against the source only when it is certain that nothing was dropped here: one step
later, and not until `EXCUSED` seconds after a drop.

A word stays for `WINDOW` seconds after its latest cause, unless a graver one takes its place; so a
fault that comes and goes is told once. Only silence ends at once: the picture is back. Everything
remembered of a source ends with it (`Judge.new_source`), unless it goes on at another port.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

WINDOW = 10.0
"""Seconds that a cause is remembered, and that the evidence is about."""

EXCUSED = 3.0
"""Seconds after a drop of our own in which gaps are its doing: what waits in the receive buffer
comes before the gap, and is read in less."""

RESUMED = 1.0
"""The same after the source was silent: silence has already explained what is late then."""

PAUSE = 0.3
"""Seconds for which this process stood still that make times of arrival worthless."""

STALL = 1.0
"""Seconds that viewers notice: players buffer about as much."""

FEW_TABLES = 3
"""Tables that came too late, in the window, before that is a fault: twenty were due."""

FAULTS = (
    "TS_sync_loss",
    "Sync_byte_error",
    "Continuity_count_error",
    "PID_error",
    "Transport_error",
    "CRC_error",
)
TABLES = ("PAT_error_2", "PMT_error_2")

LOST = "rtp_lost"
"""The name of RTP packets that did not come, beside those of TR 101 290."""

Value = int | float | str


class Word(StrEnum):
    """Whose fault it is."""

    SILENCE = "silence"
    """There is no source, or it is silent."""
    RELAY = "relay"
    """This process, or the kernel under it, dropped or delayed something."""
    SOURCE = "source"
    """Something was missing, or damaged, when it came; or it is nothing that can be passed on."""
    NETWORK = "network"
    """The way to viewers did not take everything."""
    HEALTHY = "healthy"


class Evidence(StrEnum):
    """The finding. Each member names its values; `window`: in how many seconds."""

    NO_SOURCE = "no_source"
    STOPPED = "stopped"
    """`source`: its address."""
    BUFFER_FULL = "buffer_full"
    """`dropped` datagrams; `window`."""
    STOOD_STILL = "stood_still"
    """`seconds`."""
    LEFT_OUT = "left_out"
    """`datagrams` that this relay's reading for HTTP viewers skipped; `window`."""
    NO_ROOM_OUT = "no_room_out"
    """None of `outputs` could take everything; `window`."""
    NO_MPEG_TS = "no_mpeg_ts"
    """RTP with something else in it, of this `payload_type`."""
    TURNED_AWAY = "turned_away"
    """`datagrams` of the source's own host, from another port; `window`."""
    MISSING = "missing"
    """Counts by name (of TR 101 290, and `LOST`); `window`."""
    OUTPUTS_FULL = "outputs_full"
    """`full` of `outputs` could not take everything; `window`."""
    NOTHING_MISSING = "nothing_missing"
    """`window`."""
    CANNOT_TELL = "cannot_tell"
    """The form of the stream is not known."""
    INHERITED = "inherited"
    """The previous program found it, and did not say what."""


class Remedy(StrEnum):
    """The advice that goes with evidence."""

    LOOK_AT_SOURCE = "look_at_source"
    LARGER_BUFFER = "larger_buffer"
    """`bytes` that the system should allow."""
    LESS_WORK = "less_work"
    FIND_WHAT_STOPPED = "find_what_stopped"
    MORE_ROOM_OUT = "more_room_out"
    BETTER_PATH = "better_path"
    LOOK_BEFORE = "look_before"
    SEND_MPEG_TS = "send_mpeg_ts"
    KEEP_THE_PORT = "keep_the_port"
    LIGHTEN = "lighten"


@dataclass(frozen=True, slots=True)
class Told:
    """A sentence without a language: its key (`Evidence`, `Remedy`), and its values."""

    key: str
    values: dict[str, Value] = field(default_factory=dict)


class Verdict(NamedTuple):
    """A word, its evidence, and a remedy if one is known."""

    word: Word
    evidence: Told
    remedy: Told | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known at a moment. All but the first fields are totals since the start."""

    now: float
    silence: Told | None = None
    """Why there is no stream; None: there is one."""
    judged: bool = True
    """Whether what is missing in this stream can be told."""
    payload_type: int | None = None
    """Of RTP packets that carry no MPEG-TS; None: it is no such stream."""
    outputs: int = 0
    """Outputs that are sent to."""
    full: int = 0
    """Of these, how many could not take everything since the last time; and on how many hosts."""
    full_hosts: int = 0
    lost: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    overflowed: int = 0
    stalled: float = 0.0
    """Seconds that this process stood still."""
    turned_away: int = 0
    """Datagrams of the source's own host, from another port, rejected while it was quiet."""
    left_out: int = 0
    """Datagrams that the relay's reading of the stream skipped while viewers by HTTP were served.
    """


class _Step(NamedTuple):
    """What a step adds. `everywhere`: no output could take everything, nor was it one host."""

    now: float
    missing: Counter[str]
    overflowed: int
    stalled: float
    full: int
    outputs: int
    everywhere: bool
    turned_away: int
    left_out: int


_WINDOW: dict[str, Value] = {"window": WINDOW}
_SEND = Told(Remedy.LOOK_AT_SOURCE)
_WHOLE = Told(Evidence.NOTHING_MISSING, _WINDOW)
_CANNOT_TELL = Told(Evidence.CANNOT_TELL)


class Judge:
    """Comes to a verdict step by step; there should be some in a second."""

    def __init__(
        self,
        remedy: Told | None = None,
        last: Verdict | None = None,
        known: Mapping[str, int] | None = None,
    ) -> None:
        """Begin with the `last` verdict of the previous program, and some totals of `Seen` that it
        has `known`: what is more at the first step, the reload has done.

        `remedy`: what helps against a full receive buffer.
        """
        self.verdict = last or Verdict(Word.SILENCE, Told(Evidence.NO_SOURCE), _SEND)
        self._remedy = remedy
        self._known = known or {}
        self._before: Seen | None = None
        self._held = Counter[str]()  # what is missing, and may have been dropped here
        self._stalled = 0.0  # held, too: what was dropped meanwhile is the better evidence
        self._steps = deque[_Step]()
        self._excused_until = self._kept_until = float("-inf")
        self._anew = self._elsewhere = False  # another source since the last step; of another host

    def new_source(self, *, elsewhere: bool = True) -> None:
        """Forget the findings of a source, as another one takes over.

        If it is the former source at another port, and not `elsewhere`, the datagrams turned away
        meanwhile still count against it. Findings about this machine and the ways out stay.
        """
        self._anew, self._elsewhere = True, elsewhere
        self._held, self._kept_until = Counter(), float("-inf")
        self._steps = deque(
            step._replace(missing=Counter(), turned_away=0 if elsewhere else step.turned_away)
            for step in self._steps
        )

    def step(self, seen: Seen) -> Verdict:
        """Take what is known now; return the verdict."""
        before, self._before = self._before, seen
        if before is None:
            self._kept_until = seen.now + WINDOW
            before = replace(seen, **self._known)  # type: ignore[arg-type]
        self._steps.append(self._compare(before, seen))
        self._anew = False
        while self._steps and self._steps[0].now < seen.now - WINDOW:
            self._steps.popleft()
        found = self._decide(seen)
        inherited = seen.now < self._kept_until and self.verdict.word is not Word.SILENCE
        if found.word is not Word.HEALTHY or not inherited:
            self.verdict, self._kept_until = found, float("-inf")
        return self.verdict

    def _compare(self, before: Seen, seen: Seen) -> _Step:
        stalled, overflowed = seen.stalled - before.stalled, seen.overflowed - before.overflowed
        if overflowed > 0 or stalled >= PAUSE:
            self._excused_until = seen.now + EXCUSED
        elif seen.silence or before.silence:
            self._excused_until = max(self._excused_until, seen.now + RESUMED)
        held, self._held = self._held, Counter() if self._anew else _missing(before, seen)
        if seen.now < self._excused_until:
            held, self._held = Counter(), Counter()
        stalled, self._stalled = self._stalled, stalled
        everywhere = seen.full == seen.outputs and seen.full_hosts > 1
        return _Step(
            seen.now, held, overflowed, stalled, seen.full, seen.outputs, everywhere,
            0 if self._anew and self._elsewhere else seen.turned_away - before.turned_away,
            seen.left_out - before.left_out,
        )  # fmt: skip

    def _decide(self, seen: Seen) -> Verdict:
        if seen.silence:
            return Verdict(Word.SILENCE, seen.silence, _SEND)
        return (
            self._relay()
            or self._nothing_to_pass_on(seen)
            or self._source()
            or self._network()
            or Verdict(Word.HEALTHY, _WHOLE if seen.judged else _CANNOT_TELL)
        )

    def _relay(self) -> Verdict | None:
        steps = self._steps
        if (dropped := sum(step.overflowed for step in steps)) > 0:
            evidence = Told(Evidence.BUFFER_FULL, {"dropped": dropped, **_WINDOW})
            return Verdict(Word.RELAY, evidence, self._remedy)
        stalled = max((step.stalled for step in steps), default=0.0)
        if stalled >= STALL:
            evidence = Told(Evidence.STOOD_STILL, {"seconds": round(stalled, 1)})
            return Verdict(Word.RELAY, evidence, Told(Remedy.FIND_WHAT_STOPPED))
        if (left_out := sum(step.left_out for step in steps)) > 0:
            evidence = Told(Evidence.LEFT_OUT, {"datagrams": left_out, **_WINDOW})
            return Verdict(Word.RELAY, evidence, Told(Remedy.LIGHTEN))
        everywhere = [step.outputs for step in steps if step.everywhere]
        if everywhere:
            evidence = Told(Evidence.NO_ROOM_OUT, {"outputs": everywhere[-1], **_WINDOW})
            return Verdict(Word.RELAY, evidence, Told(Remedy.MORE_ROOM_OUT))
        return None

    def _nothing_to_pass_on(self, seen: Seen) -> Verdict | None:
        if seen.payload_type is None:
            return None
        evidence = Told(Evidence.NO_MPEG_TS, {"payload_type": seen.payload_type})
        return Verdict(Word.SOURCE, evidence, Told(Remedy.SEND_MPEG_TS))

    def _source(self) -> Verdict | None:
        if (turned_away := sum(step.turned_away for step in self._steps)) > 0:
            evidence = Told(Evidence.TURNED_AWAY, {"datagrams": turned_away, **_WINDOW})
            return Verdict(Word.SOURCE, evidence, Told(Remedy.KEEP_THE_PORT))
        missing = Counter[str]()
        for step in self._steps:
            missing.update(step.missing)
        if sum(missing[name] for name in TABLES) < FEW_TABLES:
            missing.subtract({name: missing[name] for name in TABLES})
        found = {name: count for name, count in missing.items() if count > 0}
        if not found:
            return None
        return Verdict(
            Word.SOURCE, Told(Evidence.MISSING, {**found, **_WINDOW}), Told(Remedy.LOOK_BEFORE)
        )

    def _network(self) -> Verdict | None:
        found = [step for step in self._steps if step.full and step.full * 2 >= step.outputs]
        if not found:
            return None
        values = {"full": found[-1].full, "outputs": found[-1].outputs, **_WINDOW}
        return Verdict(Word.NETWORK, Told(Evidence.OUTPUTS_FULL, values), Told(Remedy.BETTER_PATH))


def _missing(before: Seen, seen: Seen) -> Counter[str]:
    """Count what is missing, by name, as far as it is a fault."""
    names = (*FAULTS, *TABLES)
    found = Counter({name: seen.errors.get(name, 0) - before.errors.get(name, 0) for name in names})
    found[LOST] = seen.lost - before.lost
    return found
