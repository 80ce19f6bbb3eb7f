"""The last seconds of the stream, as it came: one bounded ring, which everybody reads.

It is fed after the fan-out, run by run. Readers (outputs that are behind, the walk, the recorder)
each keep a place of their own, so that memory does not grow with them,
and a run is one piece of memory here, too: it can be sent as it was the first time.

       index    | time, where, length, size | time, where, length, size | ...    `slots` entries
       data     | datagrams laid end to end ... | datagrams ...      | unused |  of `byte_count`

Runs are numbered without end, and so are the bytes of the data: number n is in slot n modulo
`slots`, byte b at b modulo `byte_count`. What has been overwritten is known by arithmetic alone. A
run that would not fit before the end of the data begins at its start.

All of it is in shared memory, which has no name and outlives an exec (memfd_create(2)). So a
reload hands over one descriptor, whatever the size, and what the stand-in writes is there for the
program that follows. Where the system has no such memory, a reload begins with an empty history.

Rejected: a queue of datagrams as Python has them. It would take twice the memory, and a reload
would have to copy it while the stream waits.
"""

import bisect
import math
import os
import struct
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from relaylib.config import Config
from relaylib.errors import SetupError
from relaylib.net.descriptors import Descriptor
from relaylib.net.memory import PAGE, SharedMemory
from relaylib.source.batch import MAX_BYTES, MAX_DATAGRAMS, Run

_HEAD = struct.Struct("<QQQ")
"""First number, the number that comes next, and the byte that comes next."""

_ENTRY = struct.Struct("<dQIHH")
"""Arrival in seconds, first byte, bytes, bytes of a datagram, datagrams."""

UNDER_INSPECTION = 4 << 20
"""Bytes that are kept where nobody wants a history: what came and was not looked at yet, 0.6 s at
50 Mb/s."""

UNDER_HTTP = 16 << 20
"""The same where somebody may read the track: a reload may take two seconds, of 50 Mb/s."""

UNDER_RECORDING = 64 << 20
"""Bytes that the flight recorder needs: what came before a fault, 10 s at 50 Mb/s."""

RECORDABLE = 15.0
"""Seconds that it needs: those before a fault, and as long as it takes to write them."""

FOR_A_START = 32 << 20
"""Bytes where viewers start at an entry point: `START` seconds at 9 Mb/s."""

START = 30.0
"""Seconds that it may lie back: at three times the pace it takes half as long to be live."""

MARGIN = 1.0
"""Seconds that are kept beyond those that were asked for: what has been gone back to must still be
there when its turn comes."""

_BYTES_A_SLOT = 512
"""A stream of smaller datagrams, one a run, is kept for less long than the data has room for."""

_UNKNOWN = (-math.inf, 0)
"""Arrival and first byte of the oldest run, where that has to be looked up."""

log = structlog.get_logger()


class Place(NamedTuple):
    """A place in the stream: behind `datagrams` datagrams of run `number`."""

    number: int
    datagrams: int = 0


class RunRecord(NamedTuple):
    """What the index has of a run; `time` is when it was read, in seconds of the loop's clock."""

    time: float
    start: int
    byte_count: int
    size: int
    datagrams: int


@dataclass(slots=True)
class HistoryState:
    """What a reload hands over: the memory, and how many bytes of datagrams it has room for."""

    memory: Descriptor
    octets: int


class History:
    """The last `seconds` of the stream, as far as `byte_count` bytes hold them.

    `oldest` is the number of the first run that is there, `end` the number of the next one.
    """

    def __init__(self, seconds: float, byte_count: int, saved: HistoryState | None = None) -> None:
        """Begin an empty history, or go on with one that is as large, to which somebody may still
        write.

        Raises:
            OSError: there is no memory.
        """
        self.seconds = seconds
        self.oldest = self.end = self._next = 0
        self._bytes, self._slots = byte_count, byte_count // _BYTES_A_SLOT
        self._data_at = PAGE + self._slots * _ENTRY.size
        size = self._data_at + byte_count
        self._memory = SharedMemory(size, "relay-history", saved.memory if saved else None)
        self._view = self._memory.view
        self._edge = _UNKNOWN
        if saved is not None:
            self.refresh()

    # --- reloading

    def export(self) -> HistoryState | None:
        """Return what the next program needs to go on with it; None if it cannot."""
        if self._memory.file is None:
            return None
        return HistoryState(self._memory.file, self._bytes)

    def close(self) -> None:
        """Let the memory go."""
        self._memory.close()

    def refresh(self) -> None:
        """Learn what another process has written."""
        first, self.end, self._next = _HEAD.unpack_from(self._view)
        numbers = range(max(first, self.end - self._slots), self.end)
        kept = bisect.bisect_left(numbers, self._next - self._bytes, key=lambda n: self[n].start)
        self.oldest = numbers.start + kept
        self._edge = _UNKNOWN

    # --- writing

    def append(self, runs: list[Run], now: float) -> None:
        """Add the runs that were read `now`."""
        for run in runs:
            self._write(run, now)
        self._save(now)

    def _write(self, run: Run, now: float) -> None:
        length, at = len(run.view), self._next % self._bytes
        if at + length > self._bytes:
            self._next += self._bytes - at
            at = 0
        at += self._data_at
        self._view[at : at + length] = run.view
        slot = PAGE + self.end % self._slots * _ENTRY.size
        _ENTRY.pack_into(self._view, slot, now, self._next, length, run.size, run.count)
        self._next += length
        self.end += 1

    def _save(self, now: float) -> None:
        """Say what there is; what is not said was not written, should this process end here."""
        overwritten, too_old = self._next - self._bytes, now - self.seconds
        time, start = self._edge
        if start < overwritten or time < too_old or self.oldest < self.end - self._slots:
            self._forget(overwritten, too_old)
        _HEAD.pack_into(self._view, 0, self.oldest, self.end, self._next)

    def _forget(self, overwritten: int, too_old: float) -> None:
        """Forget what lies before this byte, or came before this time."""
        self.oldest = max(self.oldest, self.end - self._slots)
        while self.oldest < self.end:
            self._edge = time, start = self[self.oldest][:2]
            if start >= overwritten and time >= too_old:
                break
            self.oldest += 1

    # --- reading

    def __getitem__(self, number: int) -> RunRecord:
        """Return what is known of a run; the caller knows that it is there."""
        return RunRecord._make(self._entry(number))

    def _entry(self, number: int) -> tuple[float, int, int, int, int]:
        return _ENTRY.unpack_from(self._view, PAGE + number % self._slots * _ENTRY.size)

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
        return Run(self._slice(entry.start, entry.byte_count), entry.size, entry.datagrams)

    def data(self, entry: RunRecord) -> memoryview:
        """Return the datagrams of a run, laid end to end, until they are overwritten."""
        return self._slice(entry.start, entry.byte_count)

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
        return self._view[PAGE + first * _ENTRY.size : PAGE + behind * _ENTRY.size]

    def behind(self, number: int, datagram: int) -> Place:
        """Return the place behind a datagram of a run."""
        more = datagram + 1 < self[number].datagrams
        return Place(number, datagram + 1) if more else Place(number + 1)

    def locate(self, byte: int) -> tuple[Place, int] | None:
        """Return the datagram that has a byte of the history, and where in it; None: it is gone."""
        numbers = range(self.oldest, self.end)
        at = bisect.bisect_right(numbers, byte, key=lambda number: self[number].start)
        if not at:
            return None
        number = self.oldest + at - 1
        entry = self[number]
        datagram, offset = divmod(byte - entry.start, entry.size)
        return (Place(number, datagram), offset) if byte < entry.start + entry.byte_count else None

    def find(self, time: float) -> Place:
        """Return the first place that came `time` or later; the end if nothing has."""
        numbers = range(self.oldest, self.end)
        at = bisect.bisect_left(numbers, time, key=lambda number: self[number].time)
        return Place(self.oldest + at)

    def _slice(self, start: int, length: int) -> memoryview:
        at = self._data_at + start % self._bytes
        return self._view[at : at + length]

    @property
    def capacity(self) -> int:
        """Bytes that there is room for."""
        return self._bytes


def open_history(
    config: Config, saved: HistoryState | None, *, reloaded: bool = False
) -> History | None:
    """Begin a history, or go on with the saved one if it has the size that is wanted now; None: the
    configuration wants none.

    A `reloaded` program goes on without one, rather than end, if there is no memory.

    Raises:
        SetupError: there is no memory for it.
    """
    seconds, byte_count = measures(config)
    wanted = config.timeshift or config.looks
    if saved is not None and not (wanted and saved.octets == byte_count):
        os.close(saved.memory)
        saved = None
    if not wanted:
        return None
    try:
        return History(seconds, byte_count, saved)
    except OSError as error:
        if not reloaded:
            raise SetupError(no_memory("history", byte_count, error)) from None
        log.warning("history_unavailable", reason=error.strerror, remedy=SMALLER)
        return None


SMALLER = "a smaller --timeshift-mib"


def no_memory(kind: str, byte_count: int, error: OSError) -> str:
    """Say that there is no memory for so many bytes of this kind."""
    return f"no memory for the {kind}, {byte_count >> 20} MiB: {error.strerror}; {SMALLER} helps"


def measures(config: Config) -> tuple[float, int]:
    """Return the seconds, and the bytes for them, that satisfy everyone who wants a history.

    What `--timeshift-mib` allows is shared with the track where there is one to read.
    """
    wanted = []
    if config.timeshift:
        byte_count = config.timeshift_mib << (19 if config.http else 20)
        wanted.append((config.timeshift + MARGIN, byte_count))
    if config.start == "keyframe":
        wanted.append((START, FOR_A_START))
    if config.record_faults:
        wanted.append((RECORDABLE, UNDER_RECORDING))
    if config.http and not config.timeshift:
        wanted.append((math.inf, UNDER_HTTP))
    if not wanted:
        return math.inf, UNDER_INSPECTION
    seconds, bytes_of = zip(*wanted, strict=True)
    return max(seconds), max(bytes_of)
