"""Whose fault it is: one word and one sentence, from counts that only grow. Pure.

What counts as unhealthy is what a viewer sees or hears: something is missing (RTP, continuity,
sync, a PID), or damaged (transport error, CRC), or who comes new cannot begin (no PAT or PMT for
long). The other errors of TR 101 290 are counted and reported, but do no harm that a player shows:
encoders of good repute send clocks (PCR) and time stamps (PTS) more seldom than it wants, and jump
where a file begins anew.

Datagrams that this machine dropped leave the same gaps as those that never came. So what is found
missing counts against the source only when it is certain that nothing was dropped here: one step
later, and not until `EXCUSED` seconds after a drop.

A word stays for `WINDOW` seconds after its latest cause, unless a graver one takes its place; so a
fault that comes and goes is told once. Only silence ends at once: the picture is back.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

WINDOW = 10.0
"""Seconds that a cause is remembered, and that the evidence is about."""

EXCUSED = 3.0
"""Seconds after a drop of our own in which gaps are its doing: what waits in the receive buffer
comes before the gap, and is read in less."""

RESUMED = 1.0
"""The same after the source was silent: what is late then, silence has told."""

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

LOST = "RTP packets lost"

_LATELY = f"in the last {WINDOW:g} s"
_NOTHING = f"nothing was missing {_LATELY}"
_OPAQUE = "datagrams come; whether some are missing cannot be told in a stream of unknown form"
_STALLED = "find out what stopped the process: a signal, swapping, a machine that is overloaded"
_FULL_LINK = "fewer viewers, a lower bitrate, or a faster link out of this machine; --max-egress"
_FULL_PATH = "a lower bitrate, or a better link to those viewers"
_BEFORE = "look at the encoder, and at the network from there to the relay"


class Word(StrEnum):
    """Who it is, in the words of the control protocol."""

    SILENCE = "silencio"
    """There is no source, or it is silent."""
    RELAY = "rele"
    """This process, or the kernel under it, dropped or delayed something."""
    SOURCE = "fuente"
    """Something was missing, or damaged, when it came."""
    NETWORK = "red"
    """The way to viewers did not take everything."""
    HEALTHY = "sano"


class Verdict(NamedTuple):
    """A word, the evidence, and what helps if anything is known to."""

    word: Word
    evidence: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known at a moment. All but the first fields are totals since the start."""

    now: float
    silence: str = ""
    """Why there is no stream; "": there is one."""
    judged: bool = True
    """Whether what is missing in this stream can be told."""
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


class _Step(NamedTuple):
    """What a step adds. `everywhere`: no output could take everything, nor was it one host."""

    now: float
    missing: Counter[str]
    overflowed: int
    stalled: float
    full: int
    outputs: int
    everywhere: bool


_SEND = "look at the source: does it run, and send to the address and UDP port of the ingest?"


class Judge:
    """Comes to a verdict step by step; there should be some in a second."""

    def __init__(self, remedy: str = "", last: Verdict | None = None) -> None:
        """Begin with the `last` verdict of the previous program.

        `remedy`: what helps against a full receive buffer.
        """
        self.verdict = last or Verdict(Word.SILENCE, "no source sends", _SEND)
        self._remedy = remedy
        self._before: Seen | None = None
        self._held = Counter[str]()  # what is missing, and may have been dropped here
        self._stalled = 0.0  # held, too: what was dropped meanwhile is the better evidence
        self._steps = deque[_Step]()
        self._excused_until = self._kept_until = float("-inf")

    def step(self, seen: Seen) -> Verdict:
        """Take what is known now; return the verdict."""
        before, self._before = self._before, seen
        if before is None:
            self._kept_until = seen.now + WINDOW
        else:
            self._steps.append(self._compare(before, seen))
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
        held, self._held = self._held, _missing(before, seen)
        if seen.now < self._excused_until:
            held, self._held = Counter(), Counter()
        stalled, self._stalled = self._stalled, stalled
        everywhere = seen.full == seen.outputs and seen.full_hosts > 1
        return _Step(seen.now, held, overflowed, stalled, seen.full, seen.outputs, everywhere)

    def _decide(self, seen: Seen) -> Verdict:
        if seen.silence:
            return Verdict(Word.SILENCE, seen.silence, _SEND)
        return (
            self._relay()
            or self._source()
            or self._network()
            or Verdict(Word.HEALTHY, _NOTHING if seen.judged else _OPAQUE)
        )

    def _relay(self) -> Verdict | None:
        overflowed = sum(step.overflowed for step in self._steps)
        if overflowed > 0:
            evidence = f"the receive buffer was full: {overflowed} datagrams dropped {_LATELY}"
            return Verdict(Word.RELAY, evidence, self._remedy)
        stalled = max((step.stalled for step in self._steps), default=0.0)
        if stalled >= STALL:
            return Verdict(Word.RELAY, f"the relay stood still for {stalled:.1f} s", _STALLED)
        everywhere = [step for step in self._steps if step.everywhere]
        if everywhere:
            evidence = f"none of {everywhere[-1].outputs} outputs could take everything {_LATELY}"
            return Verdict(Word.RELAY, evidence, _FULL_LINK)
        return None

    def _source(self) -> Verdict | None:
        missing = Counter[str]()
        for step in self._steps:
            missing.update(step.missing)
        if sum(missing[name] for name in TABLES) < FEW_TABLES:
            missing.subtract({name: missing[name] for name in TABLES})
        told = ", ".join(f"{count} {name}" for name, count in missing.items() if count > 0)
        return (
            Verdict(Word.SOURCE, f"before the relay {_LATELY}: {told}", _BEFORE) if told else None
        )

    def _network(self) -> Verdict | None:
        found = [step for step in self._steps if step.full and step.full * 2 >= step.outputs]
        if not found:
            return None
        full, outputs = found[-1].full, found[-1].outputs
        evidence = f"{full} of {outputs} outputs could not take everything {_LATELY}"
        return Verdict(Word.NETWORK, evidence, _FULL_PATH)


def _missing(before: Seen, seen: Seen) -> Counter[str]:
    """Count what is missing, by name, as far as it is a fault."""
    names = (*FAULTS, *TABLES)
    found = Counter({name: seen.errors.get(name, 0) - before.errors.get(name, 0) for name in names})
    found[LOST] = seen.lost - before.lost
    return found
