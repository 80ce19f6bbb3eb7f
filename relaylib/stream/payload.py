"""The transport stream in what the history holds: without RTP, and without a copy. Pure.

Readers by HTTP want bytes, not datagrams. A cut is a list of views of the shared memory: one where
datagrams of packets lie end to end, one for each datagram where RTP headers lie between. Those who
read on from one place share one cut, so a thousand readers of the newest cost as much as one.

A run says itself what it is, by the sync bytes at their places, so a history in which one source
followed another of a different form is read right. Only where that does not tell (packets that
begin anywhere, RTP with extensions) the form of the source decides.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from relaylib.media import rtp
from relaylib.media.form import Form
from relaylib.media.mpegts import SYNC_BYTE
from relaylib.stream.batch import Run
from relaylib.stream.history import AccessPoint, History, Place

MOST_PIECES = 900
"""Pieces of one cut: sendmsg(2) takes 1,024, and a read adds up to 64."""

_SYNC = bytes((SYNC_BYTE,))
_PLAIN = b"\x80"
"""The first byte of an RTP header without padding, extension and CSRCs."""

_MP2T = bytes((rtp.MP2T, rtp.MP2T | 0x80))
"""The second byte of one in front of a transport stream, with and without the marker."""


def payload(run: Run, form: Form) -> list[memoryview]:
    """Return the packets of the transport stream in a run; nothing where there are none."""
    view, size = run.view, run.size
    if view[0] == SYNC_BYTE and view[::size].tobytes() == _SYNC * run.count:
        return [view]
    if _is_plain_rtp(run):
        head, length = rtp.HEADER_SIZE, len(view)
        return [view[at + head : at + size] for at in range(0, length, size)]
    if form is Form.RTP:
        return [piece for each in run.datagrams() if len(piece := _unwrapped(each))]
    return [view] if form is Form.TS else []


def _unwrapped(datagram: memoryview) -> memoryview:
    """Return what is in a datagram of a stream in RTP; nothing if it is no RTP."""
    if datagram[0] == SYNC_BYTE:  # no RTP begins so
        return datagram
    packet = rtp.parse(datagram)
    return packet.payload if packet else datagram[:0]


def _is_plain_rtp(run: Run) -> bool:
    """Tell whether all are RTP as most senders make it, with packets behind the header."""
    view, size = run.view, run.size
    return (
        view[::size].tobytes() == _PLAIN * run.count
        and view[1::size].tobytes().translate(None, _MP2T) == b""
        and view[rtp.HEADER_SIZE :: size].tobytes() == _SYNC * run.count
    )


def octets(history: History) -> int:
    """Return how many octets have ever come."""
    if history.end == history.oldest:
        return 0
    newest = history[history.end - 1]
    return newest.start + newest.octets


class Cursor(NamedTuple):
    """A place in the transport stream: behind `skip` octets of it, counted from run `number`."""

    number: int
    skip: int = 0


def pieces(
    history: History, form: Form, begin: Cursor, end: Cursor
) -> Iterator[tuple[int, memoryview]]:
    """Yield what lies between two places in pieces as large as may be, without a copy.

    Each comes with the number of the run in which it begins: it is good until that is overwritten.
    """
    (number, skip), left = begin, end.skip
    while number < end.number or (number == end.number and left > 0):
        found = history.read(Place(number), math.inf)
        if found is None:
            return
        run, behind = found
        if behind.number > end.number:
            run, behind = history.run(number), Place(number + 1)
        for whole in payload(run, form):
            piece = whole
            if number == end.number:
                piece = piece[:left]
                left -= len(piece)
            if skip < len(piece):
                yield number, piece[skip:]
            skip = max(0, skip - len(piece))
        number = behind.number


@dataclass(frozen=True, slots=True)
class Cut:
    """What follows a cursor: `octets` in `pieces`, which views are good until overwritten."""

    pieces: list[memoryview]
    octets: int
    behind: Cursor


class Cuts:
    """Cuts the transport stream out of a history, for all who read it; `form` is the source's."""

    def __init__(self, history: History, form: Callable[[], Form]) -> None:
        self.history = history
        self.form = form
        self._asked = (0.0, 0)
        self._cuts: dict[Cursor, Cut] = {}

    def cut(self, cursor: Cursor, until: float, most: int) -> Cut:
        """Return what came `until` then, up to `most` octets or a little more.

        The caller knows that it has not been overwritten. Who asks the same once more gets the
        same.
        """
        if self._asked != (until, most):
            self._asked = (until, most)
            self._cuts.clear()
        cut = self._cuts.get(cursor)
        if cut is None:
            cut = self._cuts[cursor] = self._cut(cursor, until, most)
        return cut

    def _cut(self, cursor: Cursor, until: float, most: int) -> Cut:
        form, place = self.form(), Place(cursor.number)
        pieces: list[memoryview] = []
        octets, skip = 0, cursor.skip
        while octets < most and len(pieces) < MOST_PIECES:
            found = self.history.read(place, until)
            if found is None:
                break
            run, place = found
            for piece in payload(run, form):
                if skip >= len(piece):
                    skip -= len(piece)
                    continue
                pieces.append(piece[skip:] if skip else piece)
                octets += len(piece) - skip
                skip = 0
        return Cut(pieces, octets, Cursor(place.number, skip))

    def behind(self, cursor: Cursor, octets: int) -> Cursor:
        """Return the place behind so many octets of the cut that was made there last."""
        cut = self._cuts.get(cursor)
        if cut is not None and cut.octets == octets:
            return cut.behind
        return self.advance(cursor, octets)

    def advance(self, cursor: Cursor, octets: int) -> Cursor:
        """Return the place so many octets further, as near to it as runs go."""
        number, skip = cursor.number, cursor.skip + octets
        form, end = self.form(), self.history.end
        while number < end:
            length = sum(map(len, payload(self.history.run(number), form)))
            if skip < length:
                break
            skip -= length
            number += 1
        return Cursor(number, skip)

    def at(self, point: AccessPoint) -> Cursor:
        """Return the place of a random access point, whose packet is at an octet of a datagram."""
        datagrams = self.history.run(point.number).datagrams()
        form = self.form()
        before = sum(self._length(each, form) for each in datagrams[: point.datagram])
        the_one = datagrams[point.datagram]
        header = len(the_one) - self._length(the_one, form)
        return Cursor(point.number, before + max(0, point.offset - header))

    @staticmethod
    def _length(datagram: memoryview, form: Form) -> int:
        return sum(map(len, payload(Run(datagram, len(datagram), 1), form)))
