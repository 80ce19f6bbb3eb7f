"""The flows of a capture: which there are, which one is meant, and its datagrams.

A capture is read twice: once to know its flows and what is wrong with it, so that all there is to
say is said before the first datagram leaves, and then once per replay. It is never rewritten, not
even where a loop begins again: it is there to be sent byte for byte.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from tools.replay.captures import CaptureError, records
from tools.replay.pacing import Timed
from tools.replay.packets import (
    CutShortError,
    Datagram,
    Flow,
    FragmentError,
    UnknownLinkError,
    decode,
)
from tools.replay.program import ReplayError, amount
from tools.replay.transport import rewind

_SEAM_NS = 20_000_000
"""Pause between the passes of a capture that is too short to tell its own pace."""

_LISTED = 10
"""Flows that are worth a line on the screen."""

_SNAPLEN_HINT = "capture with tcpdump -s 0"
_FRAGMENTS_HINT = "record with tools/capture.py, which gets datagrams whole"
_LINK_HINT = "capture on one interface, not on 'any'"


@dataclass(slots=True)
class FlowTally:
    """The size of a flow and its times, in nanoseconds since 1970."""

    first: int
    last: int
    duration: int = 0
    """Nanoseconds. Clocks are set back, and cores overtake each other: such gaps count as 0."""
    datagrams: int = 0
    byte_count: int = 0

    def add(self, time: int, payload: bytes) -> None:
        self.duration += max(0, time - self.last)
        self.last = time
        self.datagrams += 1
        self.byte_count += len(payload)

    @property
    def gap(self) -> int:
        """Nanoseconds between datagrams, on average."""
        return self.duration // max(1, self.datagrams - 1) or _SEAM_NS


@dataclass(slots=True)
class Survey:
    """What a capture holds, and what of it cannot be replayed."""

    flows: dict[Flow, FlowTally] = field(default_factory=dict)
    other: int = 0
    """Frames that are not UDP."""
    cut_short: int = 0
    fragments: int = 0
    links: set[str] = field(default_factory=set)
    """Link types that could not be read."""
    error: str = ""
    """Why reading stopped before the end of the file."""

    def ranked(self) -> list[tuple[Flow, FlowTally]]:
        """The flows, the largest first."""
        return sorted(self.flows.items(), key=lambda item: -item[1].byte_count)

    def warnings(self) -> Iterator[str]:
        """Yield a line for each thing that is missing."""
        if self.error:
            yield f"{self.error}; what comes before is replayed"
        if self.cut_short:
            yield f"{self.cut_short} packets are cut short and left out ({_SNAPLEN_HINT})"
        if self.fragments:
            yield f"{self.fragments} packets are fragments and left out ({_FRAGMENTS_HINT})"


def _datagrams(file: BinaryIO, survey: Survey) -> Iterator[tuple[int, Datagram]]:
    """Yield every UDP datagram of a capture with its time, noting in `survey` what is none."""
    rewind(file)
    try:
        for time, link, frame in records(file):
            try:
                message = decode(link, frame)
            except CutShortError:
                survey.cut_short += 1
            except FragmentError:
                survey.fragments += 1
            except UnknownLinkError as error:
                survey.links.add(str(error))
            else:
                survey.other += message is None
                if message:
                    yield time, message
    except CaptureError as error:
        survey.error = str(error)


def survey_capture(file: BinaryIO) -> Survey:
    """Read a capture once, from the start.

    Raises:
        ReplayError: there is no UDP datagram to replay in it.
    """
    survey = Survey()
    for time, message in _datagrams(file, survey):
        tally = survey.flows.setdefault(message.flow, FlowTally(time, time))
        tally.add(time, message.payload)
    if not survey.flows:
        raise ReplayError(_why_nothing(survey))
    return survey


def _why_nothing(survey: Survey) -> str:
    if survey.error:
        return survey.error
    if survey.cut_short:
        return f"every UDP packet of the capture is cut short ({_SNAPLEN_HINT})"
    if survey.fragments:
        return f"every UDP packet of the capture is a fragment ({_FRAGMENTS_HINT})"
    if survey.links:
        links = ", ".join(sorted(survey.links))
        return f"no UDP in the capture: link type {links} is not supported ({_LINK_HINT})"
    if survey.other:
        return f"no UDP in the capture ({survey.other} packets of other kinds)"
    return "the capture is empty"


def choose(survey: Survey, wanted: str | None) -> Flow:
    """Pick the flow to replay: the largest, or the one that `wanted` names.

    `wanted` is a rank in the listing (1 is the largest), or the address and port of one end.

    Raises:
        ReplayError: there is no such flow, or more than one; the message lists what there is.
    """
    ranked = [flow for flow, _ in survey.ranked()]
    if wanted is None:
        return ranked[0]
    if wanted.isascii() and wanted.isdecimal() and 1 <= int(wanted) <= len(ranked):
        return ranked[int(wanted) - 1]
    matching = [flow for flow in ranked if wanted in (*flow.ends, str(flow))]
    if len(matching) == 1:
        return matching[0]
    matches = f"{len(matching)} flows match" if matching else "no flow matches"
    known = ", ".join(f"{rank}: {flow}" for rank, flow in enumerate(ranked[:_LISTED], 1))
    raise ReplayError(f"{matches} --flow {wanted!r}; there are {known}")


def listing(survey: Survey) -> Iterator[str]:
    """Yield a line per flow, with its rank."""
    for rank, (flow, tally) in enumerate(survey.ranked()[:_LISTED], 1):
        size = f"{tally.datagrams} datagrams, {amount(tally.byte_count)}"
        yield f"  {rank}: {flow}  {size}, {tally.duration / 1e9:.1f} s"
    if len(survey.flows) > _LISTED:
        yield f"  and {len(survey.flows) - _LISTED} smaller ones"


def replay_capture(file: BinaryIO, flow: Flow, tally: FlowTally, loop: bool) -> Iterator[Timed]:
    """Yield the payloads of a flow, each at its time from 0; the passes of a loop join up."""
    due, previous = 0, tally.first
    while True:
        empty = True
        for time, message in _datagrams(file, Survey()):
            if message.flow == flow:
                due, previous, empty = due + max(0, time - previous), time, False
                yield due, message.payload
        if not loop or empty:
            return
        due, previous = due + tally.gap, tally.first
