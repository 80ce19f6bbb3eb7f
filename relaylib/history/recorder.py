"""The flight recorder: the stream around a fault, as a capture that can be looked at and replayed.

When the verdict about the stream leaves `sano`, the last 10 s of the history and the next 5 s are
written to a file. It is read from the history with a place of its own, a piece every 5 ms, and the
ingest is read in between; a piece takes half a millisecond, and no turn takes 2 ms longer. At most
once a minute, so that a bad day does not wear out a disk; a fault during a recording prolongs
nothing.

Writing does not wait for the disk, and there is no fsync(2): a power failure may cost the latest
file. So a slow disk is noticed only when the kernel has more waiting for it than it wants to have
(`vm.dirty_ratio`). Then it lets writes sleep, for up to 0.2 s, and nothing else in the relay
happens meanwhile; the receive buffer holds the stream. When such writes have taken a second in all,
the recording ends and its file is deleted: it is a second in a minute at most.

What was overwritten in the history before it was written, because the stream is too fast, cannot be
recorded either: a file with a gap would show a fault that the stream never had.

Rejected: writing by a child process, which a pipe would lead to. It would never let the relay wait,
but it would be a second program to start, to watch and to end, for a sleep that a disk takes which
is slower than the stream.
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
"""The verdict that there is nothing to record."""

BEFORE = 10.0
"""Seconds of the stream before a fault was noticed."""

AFTER = 5.0
"""Seconds of it afterwards."""

PERIOD = 60.0
"""Seconds from the beginning of a recording to that of the next one."""

TICK = 0.005
"""Seconds between two pieces."""

PIECE = 1 << 16
"""Bytes of a piece, the run that it ends with not counted. That is 100 Mb/s: of a stream of 50, ten
seconds are caught up with in ten."""

PIECE_TIME = 0.001
"""Seconds that making a piece may take on a slow machine, the run that it ends with not counted."""

LARGEST_PIECE = 1 << 18
"""Bytes that there must be room for: a run has up to 64 KiB, and the headers of 64 packets."""

MOST_WAITING = 1.0
"""Seconds that all writes of a recording may take: ten times what they take at 50 Mb/s. The sum,
because a write may also take long where others use the processor."""

Ends = Callable[[], tuple[Address | None, Address]]
"""Tells who sends the stream, and to which address of ours."""

REMEDY = "give --record-faults a directory of the relay's own: mkdir -m 700"

log = structlog.get_logger()


@dataclass(slots=True)
class RecordingState:
    """What is being written, and how many seconds of the stream it holds by now."""

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
    """A file, and what goes into it: what came `until` then, from run `number` on.

    `epoch` is the loop's, so that the times in the file differ as the loop's do, even if somebody
    sets the system's clock.
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
    """Seconds that writing has taken."""

    @property
    def seconds(self) -> float:
        """Of the stream that are in the file."""
        return round(self.last - self.first, 1)


class Recorder:
    """Records into `directory`, in which its files take `limit` bytes at most.

    All of a recording has one sender and one receiver (`ends`), those of its beginning: so it is
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
        """Complete what is being recorded: the program is to end."""
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
        """Make it a capture, if without packets: from now on, it may be completed at any time."""
        head = pcapng.head(comment, f"relay {__version__}")
        try:
            self._append(recording, head)
        except (OSError, _TooSlowError) as error:
            self._fail(recording, _reason(error))

    def _first(self, since: float) -> int:
        """Return the first run that came since then, and that will not be overwritten too soon.

        Where the history is no longer than that, a sixteenth of it is left out.
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
        """Write a piece, or else do something about the room for it."""
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
        """Make blocks of what came; also tell whether they are the last ones.

        What is in the history may be overwritten when the ingest is read in between.
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
    """Write all of it; a full disk takes a part first, and says so at the next try."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return errno.errorcode.get(error.errno or 0, "system").lower()
    return "too_slow"


def _flow(source: Address | None, to: Address) -> pcapng.FlowBlocks:
    """Join two ends; what is not known of them is 0, as in an address that is any of ours."""
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
    """Be ready to record if the configuration wants it; complete what the last program recorded."""
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
    """Say that others may delete recordings, or put others in their place."""
    if reason := why_not_private(directory):
        log.warning("recordings_not_private", reason=reason, remedy=REMEDY)


def _complete(saved: RecordingState) -> None:
    try:
        path, byte_count = complete(saved.path)
    except OSError as error:
        _log_failed(saved.path, _reason(error))
    else:
        _log_recorded(path, byte_count, saved.seconds)
