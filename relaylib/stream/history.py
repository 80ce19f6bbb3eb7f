"""The last seconds of the stream, as it came: one bounded ring, which everybody reads.

It is fed after the fan-out, run by run. Readers (the inspection, viewers who are behind or watch by
HTTP, the flight recorder) each keep a place of their own, so that memory does not grow with them,
and a run is one piece of memory here, too: it can be sent as it was the first time.

       index    | time, where, length, size | time, where, length, size | ...    `slots` entries
       data     | datagrams laid end to end ... | datagrams ...      | unused |  `octets` bytes

Runs are numbered without end, and so are the bytes of the data: number n is in slot n modulo
`slots`, byte b at b modulo `octets`. What has been overwritten is known by arithmetic alone. A run
that would not fit before the end of the data begins at its start.

All of it is in shared memory, which has no name and outlives an exec (memfd_create(2)). So a
restart hands over one descriptor, whatever the size, and what the stand-in writes is there for the
program that follows. Where the system has no such memory, a restart begins with an empty history.

Rejected: a queue of datagrams as Python has them. It would take twice the memory, and a restart
would have to copy it while the stream waits.
"""

import bisect
import contextlib
import errno
import math
import mmap
import os
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from relaylib.config import Config
from relaylib.errors import SetupError
from relaylib.net.descriptors import Descriptor
from relaylib.stream.batch import MAX_BYTES, MAX_DATAGRAMS, Run

_HEAD = struct.Struct("<QQQ")
"""First number, the number that comes next, and the byte that comes next."""

_ENTRY = struct.Struct("<dQIHH")
"""Arrival in seconds, first byte, bytes, bytes of a datagram, datagrams."""

UNDER_INSPECTION = 4 << 20
"""Bytes that are kept where nobody wants a history: what came and was not looked at yet, 0.6 s at
50 Mb/s."""

UNDER_RECORDING = 64 << 20
"""Bytes that the flight recorder needs: what came before a fault, 10 s at 50 Mb/s."""

RECORDABLE = 15.0
"""Seconds that it needs: those before a fault, and as long as it takes to write them."""

FOR_A_START = 32 << 20
"""Bytes where viewers start at a random access point: `START` seconds at 9 Mb/s."""

START = 30.0
"""Seconds that it may lie back: at three times the pace it takes half as long to be live."""

MARGIN = 1.0
"""Seconds that are kept beyond those that were asked for: what has been gone back to must still be
there when its turn comes."""

_SHED = 1 << 20
"""Bytes of a former memory that are let go at once: 0.2 ms."""

_PAGE = mmap.ALLOCATIONGRANULARITY

_OCTETS_A_SLOT = 512
"""A stream of smaller datagrams, one a run, is kept for less long than the data has room for."""

_UNKNOWN = (-math.inf, 0)
"""Arrival and first byte of the oldest run, where that has to be looked up."""

MAX_POINTS = 1024
"""Random access points that are remembered: with more, some are left out."""


log = structlog.get_logger()


class Place(NamedTuple):
    """A place in the stream: behind `datagrams` datagrams of run `number`."""

    number: int
    datagrams: int = 0


class Entry(NamedTuple):
    """What the index has of a run; `time` is when it was read, in seconds of the loop's clock."""

    time: float
    start: int
    octets: int
    size: int
    datagrams: int


@dataclass(frozen=True, slots=True)
class AccessPoint:
    """Where decoding can start: in run `number`, datagram `datagram`, at the packet `offset`.

    `tables` are the packets that a decoder needs first: the latest PAT and PMT before that.
    """

    number: int
    datagram: int
    offset: int
    tables: bytes
    time: float


@dataclass(slots=True)
class HistoryState:
    """What a restart hands over: the memory, its measures, and what is only known beside it."""

    memory: Descriptor
    octets: int
    points: list[AccessPoint] = field(default_factory=list)


class History:
    """The last `seconds` of the stream, as far as `octets` bytes hold them.

    `oldest` is the number of the first run that is there, `end` the number of the next one.
    """

    def __init__(self, seconds: float, octets: int) -> None:
        """Begin an empty history.

        Raises:
            OSError: there is no memory.
        """
        slots = octets // _OCTETS_A_SLOT
        _check_memory(_size(octets))
        self._map(_shared_memory(_size(octets)), octets, slots)
        self.seconds = seconds
        self._former: History | None = None
        self._shedding: Iterator[None] | None = None
        self.oldest = self.end = self._next = 0

    def _map(self, memory: Descriptor | None, octets: int, slots: int) -> None:
        self._file, self._octets, self._slots = memory, octets, slots
        try:
            self._memory = mmap.mmap(-1 if memory is None else memory, _size(octets))
        except OSError:
            if memory is not None:
                os.close(memory)
            raise
        self._view = memoryview(self._memory)
        self._data_at = _PAGE + slots * _ENTRY.size
        self._edge = _UNKNOWN
        self.points: deque[AccessPoint] = deque(maxlen=MAX_POINTS)

    # --- restarting

    def export(self) -> HistoryState | None:
        """Return what the next program needs to go on with it; None if it cannot."""
        if self._file is None:
            return None
        self._forget_points()
        return HistoryState(self._file, self._octets, list(self.points))

    @classmethod
    def restore(cls, saved: HistoryState, seconds: float, octets: int) -> "History":
        """Go on with the history of the previous program, to which somebody may still write.

        If there is no memory for one of another size, it stays as large as it was.

        Raises:
            OSError: there is no memory.
        """
        os.set_inheritable(saved.memory, False)
        history = cls.__new__(cls)
        history._former = history._shedding = None
        history.seconds = seconds
        history._map(saved.memory, saved.octets, saved.octets // _OCTETS_A_SLOT)
        history.points.extend(saved.points)
        history._load()
        if octets == saved.octets:
            return history
        try:
            larger = cls(seconds, octets)
        except OSError as error:
            _log_unavailable(error)
            return history
        larger.oldest = larger.end = history.oldest
        larger.points.extend(history.points)
        larger._former = history
        larger._follow(history)
        return larger

    def refresh(self) -> None:
        """Learn what another process has written; it writes no more."""
        former, self._former = self._former, None
        if former is None:
            self._load()
        else:
            former._load()
            self._follow(former)
            self._shedding = former._shed()

    def _shed(self) -> Iterator[None]:
        """Let the memory go in pieces: all of it at once would hold up the stream."""
        if hasattr(mmap, "MADV_REMOVE"):
            for start in range(0, _size(self._octets), _SHED):
                length = min(_SHED, _size(self._octets) - start)
                with contextlib.suppress(OSError):  # then it goes with the last piece
                    self._memory.madvise(mmap.MADV_REMOVE, start, length)
                yield
        self.close()

    def close(self) -> None:
        """Let the memory go."""
        with contextlib.suppress(BufferError):  # somebody still has a view
            self._view.release()
            self._memory.close()
        if self._file is not None:
            os.close(self._file)

    def _load(self) -> None:
        first, self.end, self._next = _HEAD.unpack_from(self._memory)
        numbers = range(max(first, self.end - self._slots), self.end)
        kept = bisect.bisect_left(numbers, self._next - self._octets, key=lambda n: self[n].start)
        self.oldest = numbers.start + kept
        self._edge = _UNKNOWN

    def _follow(self, former: "History") -> None:
        """Copy what is new in another one, under the same numbers."""
        for number in range(max(self.end, former.oldest), former.end):
            self._write(former.run(number), former[number].time)
            self._save(former[number].time)

    # --- writing

    def append(self, runs: list[Run], now: float) -> None:
        """Add the runs that were read `now`."""
        for run in runs:
            self._write(run, now)
        self._save(now)
        if self._shedding is not None and next(self._shedding, "done") == "done":
            self._shedding = None

    def _write(self, run: Run, now: float) -> None:
        length, at = len(run.view), self._next % self._octets
        if at + length > self._octets:
            self._next += self._octets - at
            at = 0
        at += self._data_at
        self._view[at : at + length] = run.view
        slot = _PAGE + self.end % self._slots * _ENTRY.size
        _ENTRY.pack_into(self._memory, slot, now, self._next, length, run.size, run.count)
        self._next += length
        self.end += 1

    def _save(self, now: float) -> None:
        """Say what there is; what is not said was not written, should this process end here."""
        overwritten, too_old = self._next - self._octets, now - self.seconds
        time, start = self._edge
        if start < overwritten or time < too_old or self.oldest < self.end - self._slots:
            self._forget(overwritten, too_old)
        _HEAD.pack_into(self._memory, 0, self.oldest, self.end, self._next)

    def _forget(self, overwritten: int, too_old: float) -> None:
        """Forget what lies before this byte, or came before this time."""
        self.oldest = max(self.oldest, self.end - self._slots)
        while self.oldest < self.end:
            self._edge = time, start = self[self.oldest][:2]
            if start >= overwritten and time >= too_old:
                break
            self.oldest += 1

    # --- reading

    def __getitem__(self, number: int) -> Entry:
        """Return what is known of a run; the caller knows that it is there."""
        return Entry._make(self._entry(number))

    def _entry(self, number: int) -> tuple[float, int, int, int, int]:
        return _ENTRY.unpack_from(self._memory, _PAGE + number % self._slots * _ENTRY.size)

    def __contains__(self, place: Place) -> bool:
        """Tell whether reading can go on there: nothing that follows is missing."""
        return self.oldest <= place.number <= self.end

    def time(self, place: Place) -> float:
        """Return when what follows a place came, as far as it is there; at the end, the latest.

        The caller knows that there is something.
        """
        return self[min(max(place.number, self.oldest), self.end - 1)].time

    def floor(self) -> float:
        """Return the earliest time that it makes sense to go back to.

        What came in the `MARGIN` before it (in the first quarter, where that is less) is going to
        be overwritten; if nothing has been yet, any time will do. The caller knows that there is
        something.
        """
        if not self.oldest:
            return -math.inf
        oldest, newest = self[self.oldest].time, self[self.end - 1].time
        return oldest + min(MARGIN, (newest - oldest) / 4)

    def run(self, number: int) -> Run:
        """Return a run as it was read, until it is overwritten."""
        entry = self[number]
        return Run(self._slice(entry.start, entry.octets), entry.size, entry.datagrams)

    def data(self, entry: Entry) -> memoryview:
        """Return the datagrams of a run, laid end to end, until they are overwritten."""
        return self._slice(entry.start, entry.octets)

    def read(self, place: Place, until: float) -> tuple[Run, Place] | None:
        """Return what can be sent at once of what follows a place and came `until` then.

        Several runs become one where they lie end to end and their datagrams are of one size. Also
        returns the place behind it. None: nothing has come by then.
        """
        number, skipped = place
        if number >= self.end:
            return None
        entries = _ENTRY.iter_unpack(self._entries(number, number + MAX_DATAGRAMS))
        time, start, length, size, count = next(entries)
        if time > until:
            return None
        end, number = start + length, number + 1
        start += skipped * size
        count -= skipped
        for time, following, length, each, more in entries:
            if end - start != size * count or following != end or time > until:
                break
            if each > size or (each < size and more > 1):
                break
            if count + more > MAX_DATAGRAMS or end - start + length > MAX_BYTES:
                break
            end += length
            count += more
            number += 1
        return Run(self._slice(start, end - start), size, count), Place(number)

    def _entries(self, number: int, end: int) -> memoryview:
        """Return what the index has of these runs, or of the first of them: as much as is there."""
        first = number % self._slots
        behind = min(first + min(end, self.end) - number, self._slots)
        return self._view[_PAGE + first * _ENTRY.size : _PAGE + behind * _ENTRY.size]

    def behind(self, number: int, datagram: int) -> Place:
        """Return the place behind a datagram of a run."""
        more = datagram + 1 < self[number].datagrams
        return Place(number, datagram + 1) if more else Place(number + 1)

    def find(self, time: float) -> Place:
        """Return the first place that came `time` or later; the end if nothing has."""
        numbers = range(self.oldest, self.end)
        at = bisect.bisect_left(numbers, time, key=lambda number: self[number].time)
        return Place(self.oldest + at)

    def _slice(self, start: int, length: int) -> memoryview:
        at = self._data_at + start % self._octets
        return self._view[at : at + length]

    @property
    def capacity(self) -> int:
        """Octets that there is room for."""
        return self._octets

    # --- random access points

    def mark(self, point: AccessPoint) -> None:
        """Remember where decoding can start; points come in order."""
        spacing = 0.0 if math.isinf(self.seconds) else self.seconds / MAX_POINTS
        if not self.points or point.time - self.points[-1].time >= spacing:
            self.points.append(point)
        self._forget_points()

    def access(self, time: float, since: float = -math.inf) -> AccessPoint | None:
        """Return the latest point that came from `since` to `time`, or else the first after that.

        None: there is none.
        """
        self._forget_points()
        at = bisect.bisect_right(self.points, time, key=lambda point: point.time)
        if at and self.points[at - 1].time >= since:
            return self.points[at - 1]
        return self.points[at] if at < len(self.points) else None

    def _forget_points(self) -> None:
        while self.points and self.points[0].number < self.oldest:
            self.points.popleft()


def open_history(
    config: Config, saved: HistoryState | None, *, restarted: bool = False
) -> History | None:
    """Begin a history, or go on with the saved one, as the configuration wants; None: it does not.

    A `restarted` program goes on without one, rather than end, if there is no memory.

    Raises:
        SetupError: there is no memory for it.
    """
    seconds, octets = measures(config)
    if not config.timeshift and not config.inspect:
        if saved is not None:
            os.close(saved.memory)
        return None
    try:
        if saved is not None:
            return History.restore(saved, seconds, octets)
        return History(seconds, octets)
    except OSError as error:
        if not restarted:
            raise SetupError(f"no memory for the history: {error.strerror}") from None
        _log_unavailable(error)
        return None


def _log_unavailable(error: OSError) -> None:
    log.warning("history_unavailable", reason=error.strerror, remedy="a smaller --timeshift-mib")


def measures(config: Config) -> tuple[float, int]:
    """Return the seconds, and the bytes for them, that satisfy everyone who wants a history."""
    wanted = []
    if config.timeshift:
        wanted.append((config.timeshift + MARGIN, config.timeshift_mib << 20))
    if config.start == "keyframe":
        wanted.append((START, FOR_A_START))
    if config.record_faults:
        wanted.append((RECORDABLE, UNDER_RECORDING))
    if not wanted:
        return math.inf, UNDER_INSPECTION
    seconds, octets = zip(*wanted, strict=True)
    return max(seconds), max(octets)


def _size(octets: int) -> int:
    return _PAGE + octets // _OCTETS_A_SLOT * _ENTRY.size + octets


def _check_memory(size: int) -> None:
    """Find out now what would show when the history has filled: the system would kill somebody.

    Raises:
        OSError: the machine has less memory than that.
    """
    with contextlib.suppress(AttributeError, ValueError):  # not told
        if size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
            raise OSError(errno.ENOMEM, "it is more than the machine has")


def _shared_memory(size: int) -> Descriptor | None:
    """Return memory that survives an exec; None: the system has none."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        memory = os.memfd_create("relay-history")
    except OSError:  # forbidden (seccomp(2)), or missing in the kernel
        return None
    try:
        os.ftruncate(memory, size)
    except OSError:
        os.close(memory)
        raise
    return Descriptor(memory)
