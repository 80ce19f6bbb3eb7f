"""The last seconds of the stream, as it came: one bounded ring with many readers.

It is fed after the fan-out, run by run. Readers (outputs that are behind, the walk, the recorder)
each keep a place of their own, so that memory does not grow with their number. A run is one piece
of memory here, too, so that it can be sent again as it was the first time.

       index    | time, where, length, size | time, where, length, size | ...    `slots` entries
       data     | datagrams laid end to end ... | datagrams ...      | unused |  of `byte_count`

Runs are numbered without end, and so are the bytes of the data: number n is in slot n modulo
`slots`, byte b at b modulo `byte_count`. Whether a run has been overwritten follows from its
numbers alone. A run that would not fit before the end of the data begins at its start.

The ring is in shared memory, which has no name and outlives an exec (memfd_create(2)). So a reload
hands over one descriptor, whatever the size, and the next program finds the runs that the stand-in
wrote. Where the system has no such memory, a reload begins with an empty history.

Rejected: a queue of Python's objects, one for each datagram. It would take twice the memory, and a
reload would have to copy it while the stream waits.
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
"""Number of the oldest run, number of the next run, first byte of the next run."""

_ENTRY = struct.Struct("<dQIHH")
"""A run: arrival in seconds, first byte, bytes, bytes of a datagram, datagrams."""

UNDER_INSPECTION = 4 << 20
"""Bytes of a history that only the walk reads: datagrams that wait for it, 0.6 s at 50 Mb/s."""

UNDER_HTTP = 16 << 20
"""The same where viewers by HTTP read the track: a reload may take two seconds, of 50 Mb/s."""

UNDER_RECORDING = 64 << 20
"""Bytes that the flight recorder needs: the stream before a fault, 10 s at 50 Mb/s."""

RECORDABLE = 15.0
"""Seconds that the flight recorder needs: those before a fault, and the time to write them."""

FOR_A_START = 32 << 20
"""Bytes where viewers start at an entry point: `START` seconds at 9 Mb/s."""

START = 30.0
"""Most seconds from that entry point to live: at three times the pace half as many to catch up."""

MARGIN = 1.0
"""Seconds that are kept beyond those that were asked for: a datagram to which a viewer goes back
must still be there when it is due."""

_BYTES_A_SLOT = 512
"""Bytes of data for each slot of the index. A stream of smaller runs fills the index first, so that
it is kept for a shorter time."""

_UNKNOWN = (-math.inf, 0)
"""Arrival and first byte of the oldest run, where that has to be looked up."""

log = structlog.get_logger()


class Place(NamedTuple):
    """A place in the stream: behind `datagrams` datagrams of run `number`."""

    number: int
    datagrams: int = 0


class RunRecord(NamedTuple):
    """A run's entry in the index; `time` is when it was read, in seconds of the loop's clock."""

    time: float
    start: int
    byte_count: int
    size: int
    datagrams: int


@dataclass(slots=True)
class HistoryState:
    """What a reload hands over: the memory, and the bytes of datagrams that it has room for."""

    memory: Descriptor
    octets: int


class History:
    """The last `seconds` of the stream, as far as `byte_count` bytes hold them.

    `oldest` is the number of the oldest run that is kept, `end` the number of the next new one.
    """

    def __init__(self, seconds: float, byte_count: int, saved: HistoryState | None = None) -> None:
        """Begin an empty history, or go on with one of the same size, to which another process may
        still write.

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
        """Release the memory."""
        self._memory.close()

    def refresh(self) -> None:
        """Read the numbers of the runs that another process has written."""
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
        """Write the head: a run counts as written only then, should this process end before."""
        overwritten, too_old = self._next - self._bytes, now - self.seconds
        time, start = self._edge
        if start < overwritten or time < too_old or self.oldest < self.end - self._slots:
            self._forget(overwritten, too_old)
        _HEAD.pack_into(self._view, 0, self.oldest, self.end, self._next)

    def _forget(self, overwritten: int, too_old: float) -> None:
        """Forget runs that begin before a byte, or came before a time."""
        self.oldest = max(self.oldest, self.end - self._slots)
        while self.oldest < self.end:
            self._edge = time, start = self[self.oldest][:2]
            if start >= overwritten and time >= too_old:
                break
            self.oldest += 1

    # --- reading

    def __getitem__(self, number: int) -> RunRecord:
        """Return a run's entry in the index. The caller makes sure that the run is kept."""
        return RunRecord._make(self._entry(number))

    def _entry(self, number: int) -> tuple[float, int, int, int, int]:
        return _ENTRY.unpack_from(self._view, PAGE + number % self._slots * _ENTRY.size)

    def __contains__(self, place: Place) -> bool:
        """Tell whether reading can go on at a place: no run behind it is overwritten."""
        return self.oldest <= place.number <= self.end

    def time(self, place: Place) -> float:
        """Return the arrival of the run behind a place, or of the nearest run that is kept.

        The caller makes sure that the history is not empty.
        """
        return self[min(max(place.number, self.oldest), self.end - 1)].time

    def floor(self) -> float:
        """Return the earliest time that it makes sense to go back to.

        Runs of the `MARGIN` before it (of the first quarter, where that is less) are overwritten
        next; until the first run has been overwritten, any time will do. The caller makes sure that
        the history is not empty.
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
        """Return the next run behind a place, of datagrams that came `until` then.

        Several runs become one where they lie end to end and their datagrams are of one size. Also
        returns the place behind the run. None: no datagram behind the place had come by then.
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
        """Return the entries of these runs in the index, or of the first of them."""
        first = number % self._slots
        behind = min(first + min(end, self.end) - number, self._slots)
        return self._view[PAGE + first * _ENTRY.size : PAGE + behind * _ENTRY.size]

    def behind(self, number: int, datagram: int) -> Place:
        """Return the place behind a datagram of a run."""
        more = datagram + 1 < self[number].datagrams
        return Place(number, datagram + 1) if more else Place(number + 1)

    def locate(self, byte: int) -> tuple[Place, int] | None:
        """Return the datagram that has a byte of the history, and the offset in it; None: gone."""
        numbers = range(self.oldest, self.end)
        at = bisect.bisect_right(numbers, byte, key=lambda number: self[number].start)
        if not at:
            return None
        number = self.oldest + at - 1
        entry = self[number]
        datagram, offset = divmod(byte - entry.start, entry.size)
        return (Place(number, datagram), offset) if byte < entry.start + entry.byte_count else None

    def find(self, time: float) -> Place:
        """Return the place of the first run that came at `time` or later; the end if none has."""
        numbers = range(self.oldest, self.end)
        at = bisect.bisect_left(numbers, time, key=lambda number: self[number].time)
        return Place(self.oldest + at)

    def _slice(self, start: int, length: int) -> memoryview:
        at = self._data_at + start % self._bytes
        return self._view[at : at + length]

    @property
    def capacity(self) -> int:
        """Most bytes of datagrams."""
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
    """Return the seconds of a history, and the bytes for them, that suffice for all its readers.

    The bytes of `--timeshift-mib` are shared with the track where viewers by HTTP read it.
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
