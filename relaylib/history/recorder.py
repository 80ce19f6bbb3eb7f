"""The flight recorder: the stream around a fault, as a capture that can be looked at and replayed.

When the verdict about the stream leaves `sano`, the last 10 s of the history and the next 5 s are
written to a file. The recorder reads the history with a place of its own, a piece every 5 ms, and
the ingest is read in between; a piece takes half a millisecond, and no turn takes 2 ms longer. A
recording begins at most once a minute, so that many faults do not wear out a disk; a fault during a
recording does not prolong it.

Writing does not wait for the disk, and there is no fsync(2): a power failure may cost the latest
file. So a slow disk is noticed only when the kernel has more waiting for it than it wants to have
(`vm.dirty_ratio`). Then writes sleep, for up to 0.2 s, and the whole relay waits; the stream waits
in the receive buffer. When the writes of a recording have taken a second in all, it ends and its
file is deleted: so the relay waits for a second in a minute at most.

If runs are overwritten in the history before the recorder has read them, because the stream is too
fast, the recording ends likewise: a file with a gap would show a fault that the stream never had.

Rejected: writing by a child process at the end of a pipe. The relay would never wait, but there
would be a second program to start, to watch and to end, only for disks that are slower than the
stream.
"""

import errno
import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from relaylib import __version__
from relaylib.config import Config
from relaylib.errors import RelayError
from relaylib.history.history import History
from relaylib.history.recordings import Recordings, complete, file_name, why_not_private
from relaylib.media import pcapng
from relaylib.media.verdict import Word
from relaylib.net.address import Address, unmapped
from relaylib.net.loop import Loop, Timer

HEALTHY = Word.HEALTHY.value
"""The verdict with which there is no fault to record."""

BEFORE = 10.0
"""Seconds of the stream that are recorded from before a fault was noticed."""

AFTER = 5.0
"""Seconds of the stream that are recorded after it."""

PERIOD = 60.0
"""Seconds from the beginning of a recording to that of the next one."""

TICK = 0.005
"""Seconds between two pieces of a recording."""

PIECE = 1 << 16
"""Bytes of a piece, without the run that it ends with. That is 100 Mb/s: with a stream of 50 Mb/s a
recording that is 10 s behind catches up in 10 s."""

PIECE_TIME = 0.001
"""Most seconds for making a piece on a slow machine, without the run that it ends with."""

LARGEST_PIECE = 1 << 18
"""Bytes of room that a piece needs: its last run has up to 64 KiB and the headers of 64 packets."""

MOST_WAITING = 1.0
"""Most seconds for all writes of a recording: ten times what they take at 50 Mb/s. The sum counts,
because a single write may also take long where other programs use the processor."""

Ends = Callable[[], tuple[Address | None, Address]]
"""Returns the address of the active source, None if there is none, and the ingest's own."""

REMEDY = "give --record-faults a directory of the relay's own: mkdir -m 700"

log = structlog.get_logger()


@dataclass(slots=True)
class RecordingState:
    """A recording that is being written: its file, and the seconds of the stream in it by now."""

    path: str
    seconds: float


@dataclass(slots=True)
class RecorderState:
    """What a reload hands over: the latest verdict, and when the next recording may begin."""

    word: str = HEALTHY
    next_at: float = 0.0
    recording: RecordingState | None = None


class _TooSlowError(RelayError):
    """The disk, or the relay, is slower than the stream."""


@dataclass(slots=True)
class _Recording:
    """A file, and the runs that go into it: from `number` on, those that came `until` then.

    `epoch` is the loop's, so that times in the file are as far apart as the loop's, even if the
    system's clock is set.
    """

    path: str
    file: int
    flow: pcapng.FlowBlocks
    epoch: int
    number: int
    until: float
    first: float
    last: float
    byte_count: int = 0
    waited: float = 0.0
    """Seconds that the writes have taken."""

    @property
    def seconds(self) -> float:
        """Seconds of the stream that are in the file."""
        return round(self.last - self.first, 1)


class Recorder:
    """Records into `directory`, in which its files take `limit` bytes at most.

    All packets of a recording have the sender and the receiver (`ends`) of its beginning: so it is
    replayed as one stream, as the viewers got it, even if the source changed meanwhile.
    """

    def __init__(
        self, loop: Loop, history: History, ends: Ends, directory: str, limit: int
    ) -> None:
        self._loop = loop
        self._history = history
        self._ends = ends
        self._directory = directory
        self._files = Recordings(directory, limit)
        self._word = HEALTHY
        self._next_at = 0.0
        self._recording: _Recording | None = None
        self._timer: Timer | None = None

    # --- reloading

    def export(self) -> RecorderState:
        """Return what the next program needs; it completes the file with what is in it by now."""
        saved = RecorderState(self._word, self._next_at)
        if self._recording is not None:
            saved.recording = RecordingState(self._recording.path, self._recording.seconds)
        return saved

    def restore(self, saved: RecorderState) -> None:
        """Go on with the verdict and the rate of the previous program."""
        self._word, self._next_at = saved.word, saved.next_at

    def close(self) -> None:
        """Complete the file that is being recorded, because the program ends."""
        if self._recording is not None:
            self._finish(self._recording)

    # --- beginning and end

    def verdict_changed(self, word: str, sentence: str) -> None:
        """Take note of another verdict; begin a recording if the stream was healthy until now."""
        before, self._word = self._word, word
        now = self._loop.time()
        if before == HEALTHY != word and self._recording is None and now >= self._next_at:
            self._begin(word, sentence, now)

    def _begin(self, reason: str, sentence: str, now: float) -> None:
        first = self._first(now - BEFORE)
        if first == self._history.end:
            return  # there was no stream, healthy or not
        self._next_at = now + PERIOD
        path = os.path.join(self._directory, file_name(self._loop.date(), reason))
        try:
            file, path = self._files.create(path)
        except OSError as error:
            _log_failed(path, _reason(error))
            return
        log.info("recording_started", file=path, reason=reason)
        time = self._history[first].time
        self._recording = _Recording(
            path, file, _flow(*self._ends()), self._loop.epoch(), first, now + AFTER, time, time
        )
        self._write_head(self._recording, f"{reason}: {sentence}")
        self._wake()

    def _write_head(self, recording: _Recording, comment: str) -> None:
        """Write the head of a capture: from now on the file may be completed at any time."""
        head = pcapng.head(comment, f"relay {__version__}")
        try:
            self._append(recording, head)
        except (OSError, _TooSlowError) as error:
            self._fail(recording, _reason(error))

    def _first(self, since: float) -> int:
        """Return the first run that came since then and is not among the next to be overwritten.

        Where the history goes no further back, its oldest sixteenth is left out.
        """
        oldest, end = self._history.oldest, self._history.end
        spared = oldest and oldest + (end - oldest) // 16
        return max(self._history.find(since).number, spared)

    def _finish(self, recording: _Recording) -> None:
        self._recording = None
        try:
            path, byte_count = self._files.complete(recording.file, recording.path)
        except OSError as error:
            _log_failed(recording.path, _reason(error))
        else:
            _log_recorded(path, byte_count, recording.seconds)

    def _fail(self, recording: _Recording, reason: str) -> None:
        self._recording = None
        self._files.discard(recording.file, recording.path)
        _log_failed(recording.path, reason)

    # --- every 5 ms, while there is something to do

    def _wake(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        """Write a piece, or else make room for it."""
        self._timer, recording = None, self._recording
        wanted = 0 if recording is None else recording.byte_count + LARGEST_PIECE
        try:
            if not self._files.make_room(wanted) and recording is not None:
                self._record(recording)
        except (OSError, _TooSlowError) as error:
            if recording is not None:
                self._fail(recording, _reason(error))
        if self._recording is not None:
            self._wake()

    def _record(self, recording: _Recording) -> None:
        """Write a piece; complete the file if it was the last one, or if there is no more room."""
        last = not self._files.has_room(recording.byte_count + LARGEST_PIECE)
        if not last:
            data, last = self._piece(recording)
            self._append(recording, data)
        if last:
            self._finish(recording)

    def _append(self, recording: _Recording, data: bytes) -> None:
        started = self._loop.time()
        _write(recording.file, data)
        recording.byte_count += len(data)
        recording.waited += self._loop.time() - started
        if recording.waited > MOST_WAITING:
            raise _TooSlowError

    def _piece(self, recording: _Recording) -> tuple[bytes, bool]:
        """Return the blocks of the next runs, and whether they are the last ones.

        Runs may be overwritten in the history when the ingest is read in between.
        """
        blocks, history = list[bytes](), self._history
        size, spent = 0, 0.0
        while size < PIECE and spent < PIECE_TIME:
            started = self._loop.time()
            if recording.number == history.end:
                return b"".join(blocks), started > recording.until
            if recording.number < history.oldest:
                raise _TooSlowError
            if (time := history[recording.number].time) > recording.until:
                return b"".join(blocks), True
            blocks += self._blocks(recording, time)
            size += history[recording.number].byte_count
            recording.number, recording.last = recording.number + 1, time
            spent += self._loop.time() - started
            self._loop.read_priority()
        return b"".join(blocks), False

    def _blocks(self, recording: _Recording, time: float) -> list[bytes]:
        block, when = recording.flow.block, recording.epoch + round(time * 1e9)
        return [block(when, each) for each in self._history.run(recording.number).datagrams()]


def _write(file: int, data: bytes) -> None:
    """Write all of the data; a full disk takes a part first, and the next write fails."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return errno.errorcode.get(error.errno or 0, "system").lower()
    return "too_slow"


def _flow(source: Address | None, to: Address) -> pcapng.FlowBlocks:
    """Join two ends; an address that is not known is 0, and so is one that is any of ours."""
    here = _packed(to)
    there = bytes(len(here)) if source is None else _packed(source)
    if len(here) != len(there):
        here = bytes(len(there))
    return pcapng.FlowBlocks(there, 0 if source is None else source[1], here, to[1])


def _packed(address: Address) -> bytes:
    return ipaddress.ip_address(unmapped(address)[0].partition("%")[0]).packed


def _log_recorded(path: str, byte_count: int, seconds: float) -> None:
    log.info("recorded", file=path, octets=byte_count, seconds=seconds)


def _log_failed(path: str, reason: str) -> None:
    log.warning("recording_failed", file=path, reason=reason)


def open_recorder(
    config: Config, loop: Loop, history: History | None, ends: Ends, saved: RecorderState | None
) -> Recorder | None:
    """Open a recorder if the configuration wants one; complete the last program's recording."""
    if saved is not None and saved.recording is not None:
        _complete(saved.recording)
    if config.record_faults is None or history is None:
        return None
    recorder = Recorder(loop, history, ends, config.record_faults, config.record_mib << 20)
    if saved is not None:
        recorder.restore(saved)
    _warn_if_shared(config.record_faults)
    return recorder


def _warn_if_shared(directory: str) -> None:
    """Log a warning if other users may delete recordings, or put files in their place."""
    if reason := why_not_private(directory):
        log.warning("recordings_not_private", reason=reason, remedy=REMEDY)


def _complete(saved: RecordingState) -> None:
    try:
        path, byte_count = complete(saved.path)
    except OSError as error:
        _log_failed(saved.path, _reason(error))
    else:
        _log_recorded(path, byte_count, saved.seconds)
