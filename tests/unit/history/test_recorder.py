"""The flight recorder, on a loop whose clock the test moves: what it writes, when, and how much."""

import contextlib
import dataclasses
import itertools
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from relaylib.config import Config
from relaylib.history import recorder as module
from relaylib.history.history import History, open_history
from relaylib.history.recorder import (
    LARGEST_PIECE,
    PERIOD,
    TICK,
    Recorder,
    RecorderState,
    open_recorder,
)
from relaylib.history.recordings import Recordings, why_not_private
from relaylib.media.health import Monitor
from relaylib.net.address import Address
from relaylib.net.loop import Loop
from tests.unit.media.test_pcapng import comments
from tools.fake_vlc import SAMPLE
from tools.lab.fanout_bench import runs_of
from tools.lab.process import PATIENCE, ROOT, ChildProcess
from tools.lab.sockets import udp_socket
from tools.replay.captures import records
from tools.replay.flows import replay_capture, survey_capture

EPOCH = 1_700_000_000_000_000_000
SOURCE, INGEST = ("192.0.2.7", 40000), ("192.0.2.1", 9000)
SIZE = 1316
EVERY = 0.01
MIB = 1 << 20


@dataclass
class SteppedLoop:
    """A loop that goes where the test wants it to; the priority reader is the test's, too."""

    now: float = 1000.0
    timers: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    read_priority: Callable[[], object] = lambda: None
    dates: int = 0

    def time(self) -> float:
        return self.now

    def epoch(self) -> int:
        return EPOCH

    def date(self) -> str:
        self.dates += 1
        return f"20240229T{self.dates:06}Z"

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        self.timers.append((self.now + delay, callback))
        return callback

    def turn(self) -> None:
        """Run what is due."""
        due = [each for each in self.timers if each[0] <= self.now]
        self.timers = [each for each in self.timers if each not in due]
        for _, callback in due:
            callback()


@dataclass
class Bench:
    """A recorder, and a stream of numbered datagrams into its history."""

    loop: SteppedLoop
    history: History
    config: Config
    saved: RecorderState | None = None
    ends: tuple[Address | None, Address] = SOURCE, INGEST
    sent: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        recorder = open_recorder(
            self.config, cast(Loop, self.loop), self.history, lambda: self.ends, self.saved
        )
        assert recorder is not None
        self.recorder: Recorder = recorder

    def send(self, count: int = 1) -> None:
        """Let so many datagrams come now."""
        numbers = range(len(self.sent), len(self.sent) + count)
        runs = runs_of(each.to_bytes(4, "big") + bytes(SIZE - 4) for each in numbers)
        self.history.append(runs, self.loop.now)
        self.sent += [(self.loop.now, each) for each in numbers]

    def stream(self, seconds: float, count: int = 1, step: float = EVERY) -> None:
        """Let datagrams come for a while, and the recorder have its turns in between."""
        for _ in range(round(seconds / step)):
            self.loop.now += step
            self.send(count)
            self.loop.turn()

    def fault(self) -> None:
        """Let the verdict be about the source, and soon be healthy again."""
        self.recorder.verdict_changed("source", "packets are missing")
        self.recorder.verdict_changed("healthy", "all comes")

    def between(self, first: float, last: float) -> list[tuple[float, int]]:
        """What came in that time."""
        return [each for each in self.sent if first - 1e-6 <= each[0] <= last + 1e-6]


@contextlib.contextmanager
def recording(directory: Path, mib: int) -> Iterator[Bench]:
    """A recorder that may take so much in all, of a history of 4 MiB."""
    history = History(15.0, 4 * MIB)
    yield Bench(SteppedLoop(), history, Config(record_faults=str(directory), record_mib=mib))
    history.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A recorder that has room enough."""
    with recording(tmp_path, 16) as bench:
        yield bench


@pytest.fixture
def log() -> Iterator[list[Any]]:
    """What is logged."""
    with capture_logs() as logs:
        yield logs


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def name(number: int, reason: str = "source") -> str:
    return f"fault-20240229T{number:06}Z-{reason}.pcapng"


def held(file: Path) -> list[tuple[float, int]]:
    """The numbers of the datagrams in a recording, with their times on the loop's clock."""
    with file.open("rb") as capture:
        times = [(record.time - EPOCH) / 1e9 for record in records(capture)]
        survey = survey_capture(capture)
        [(flow, tally)] = survey.flows.items()
        assert flow.ends == ("192.0.2.7:40000", "192.0.2.1:9000")
        assert list(survey.warnings()) == []
        payloads = [each for _, each in replay_capture(capture, flow, tally, loop=False)]
    assert {len(each) for each in payloads} == {SIZE}
    return [
        (time, int.from_bytes(each[:4], "big")) for time, each in zip(times, payloads, strict=True)
    ]


def assert_held(file: Path, sent: list[tuple[float, int]]) -> None:
    """Check that a recording holds these datagrams, each with its time."""
    got = held(file)
    assert [number for _, number in got] == [number for _, number in sent]
    assert [time for time, _ in got] == pytest.approx([time for time, _ in sent], abs=1e-6)


# --- what is recorded


def test_a_recording_has_what_came_around_the_fault(
    bench: Bench, tmp_path: Path, log: list[Any]
) -> None:
    """It holds 10 s before and 5 s after, as they came, and says why; it is its owner's alone."""
    bench.stream(30, step=0.05)
    at = bench.loop.now
    bench.fault()
    bench.stream(30, step=0.05)
    assert names(tmp_path) == [name(1)]
    file = tmp_path / name(1)
    assert file.stat().st_mode & 0o777 == 0o600
    assert_held(file, bench.between(at - 10, at + 5))
    assert comments(file.read_bytes())[0] == b"source: packets are missing"
    started, recorded = log
    assert (started["event"], started["reason"]) == ("recording_started", "source")
    assert recorded["event"] == "recorded"
    assert recorded["file"] == started["file"] == str(file)
    assert (recorded["octets"], recorded["seconds"]) == (file.stat().st_size, 15.0)


def test_only_the_end_of_health_begins_one_at_most_once_a_minute(
    bench: Bench, tmp_path: Path
) -> None:
    """No recording follows another within a minute, none another fault; none is prolonged."""
    bench.stream(1, step=0.1)
    words = ["silence", "healthy", "source", "network", "healthy"]
    begun = bench.loop.now
    while bench.loop.now < begun + 2 * PERIOD + 10:
        bench.recorder.verdict_changed(words[bench.loop.dates % 2 * 2], "")
        bench.recorder.verdict_changed("network", "")
        bench.recorder.verdict_changed("healthy", "")
        bench.stream(1, step=0.1)
    assert names(tmp_path) == [name(1, "silence"), name(2, "source"), name(3, "silence")]
    first = [time for time, _ in held(tmp_path / name(1, "silence"))]
    assert first[-1] == pytest.approx(begun + 5, abs=0.11)


def test_where_there_was_no_stream_nothing_is_recorded(
    bench: Bench, tmp_path: Path, log: list[Any]
) -> None:
    """A relay without a source writes no empty files."""
    bench.fault()
    bench.stream(1)
    assert names(tmp_path) == log == []


@pytest.mark.parametrize(
    ("ends", "shown"),
    [
        ((("::ffff:192.0.2.7", 5, 0, 0), ("::", 9000, 0, 0)), ("192.0.2.7:5", "0.0.0.0:9000")),
        ((("fe80::7%lo", 5, 0, 1), ("::", 9000, 0, 0)), ("[fe80::7]:5", "[::]:9000")),
        ((None, ("192.0.2.1", 9000)), ("0.0.0.0:0", "192.0.2.1:9000")),
    ],
)
def test_every_kind_of_source_can_be_recorded(
    bench: Bench, tmp_path: Path, ends: tuple[Address | None, Address], shown: tuple[str, str]
) -> None:
    """IPv4 on an IPv6 socket is IPv4; what is not known of an end is any address."""
    bench.ends = ends
    bench.stream(1)
    bench.fault()
    bench.stream(6)
    with (tmp_path / name(1)).open("rb") as capture:
        assert [flow.ends for flow in survey_capture(capture).flows] == [shown]


def test_the_tools_find_in_it_what_the_stream_had(bench: Bench, tmp_path: Path) -> None:
    """Probe reports of a recording what it would of the stream; fake_vlc sends the very same."""
    data, monitor = SAMPLE.read_bytes(), Monitor()
    sent = [data[at : at + 1316] for at in range(0, len(data), 1316)]
    del sent[200:203], sent[400]
    for each in sent:
        bench.loop.now += EVERY
        monitor.feed(each, bench.loop.now)
        bench.history.append(runs_of([each]), bench.loop.now)
    bench.fault()
    bench.stream(6, count=0)
    file = tmp_path / name(1)
    words = [sys.executable, "tools/probe.py", str(file), "--json"]
    found = json.loads(subprocess.run(words, capture_output=True, check=False, cwd=ROOT).stdout)
    monitor.finish()
    assert found == json.loads(json.dumps(dataclasses.asdict(monitor.report())))
    assert found["ts"]["tr_101_290"]["Continuity_count_error"] > 0
    with udp_socket() as player:
        words = ["tools/fake_vlc.py", "127.0.0.1", str(player.getsockname()[1]), str(file)]
        with ChildProcess(sys.executable, *words, "--speed", "10"):
            player.settimeout(PATIENCE)
            assert [player.recv(2000) for _ in sent] == sent


# --- the cost of a turn


def test_a_piece_is_bounded_by_its_bytes(bench: Bench, tmp_path: Path) -> None:
    """However much is to be written, a turn writes little of it, and the ingest is read between."""
    bench.stream(0.1, count=60)
    reads: list[int] = []
    part = tmp_path / f"{name(1)}.part"
    bench.loop.read_priority = lambda: reads.append(1)
    bench.fault()
    grown = [0]
    while bench.loop.timers and part.exists() and grown[-1] < 700_000:
        bench.loop.now += TICK
        bench.loop.turn()
        grown.append(part.stat().st_size)
    pieces = [after - before for before, after in itertools.pairwise(grown)]
    assert len(pieces) > 5
    assert max(pieces) < 2 * 65536 + 10_000 < LARGEST_PIECE
    assert len(reads) >= len(pieces)


def test_a_piece_is_bounded_by_its_time(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where making blocks takes long, a turn makes those of one run."""
    bench.stream(1)
    real = Recorder._blocks

    def slow(recorder: Recorder, *args: Any) -> list[bytes]:
        bench.loop.now += 2 * module.PIECE_TIME
        return real(recorder, *args)

    monkeypatch.setattr(Recorder, "_blocks", slow)
    bench.fault()
    sizes = []
    for _ in range(10):
        bench.loop.now += TICK
        bench.loop.turn()
        sizes.append((tmp_path / f"{name(1)}.part").stat().st_size)
    assert len({after - before for before, after in itertools.pairwise(sizes)}) == 1
    assert sizes[1] - sizes[0] < 2 * SIZE


# --- what goes wrong


def assert_failed(log: list[Any], directory: Path, *reasons: str) -> None:
    """Check that nothing is left of recordings that failed so."""
    assert names(directory) == []
    failed = [each for each in log if each["event"] == "recording_failed"]
    assert [each["reason"] for each in failed] == list(reasons)
    assert all(each["file"].startswith(str(directory)) for each in failed)


def test_what_is_overwritten_first_is_not_recorded(
    bench: Bench, tmp_path: Path, log: list[Any]
) -> None:
    """A stream that is too fast leaves no file, for one with a gap would tell of another fault."""
    bench.stream(1)
    bench.fault()
    for _ in range(100):
        for _ in range(12):
            bench.send(60)
        bench.stream(EVERY)
    assert_failed(log, tmp_path, "too_slow")


def test_a_full_history_is_written_without_a_gap(bench: Bench, tmp_path: Path) -> None:
    """Where the history is shorter than 10 s, and ever overwritten, what there is of it counts."""
    bench.stream(8, count=5)
    assert bench.history.oldest > 0
    bench.fault()
    bench.stream(2, count=5)
    bench.recorder.close()
    [(_, first), *_] = held(tmp_path / name(1))
    assert_held(tmp_path / name(1), bench.sent[first:])
    assert first < 4000 - 0.9 * 4 * MIB / SIZE


def test_a_disk_may_let_the_relay_wait_for_a_second(
    bench: Bench, tmp_path: Path, log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the writes of a recording have slept for so long in all, it ends, and leaves nothing."""
    writes = []

    def sleepy(file: int, data: memoryview) -> int:
        writes.append(len(data))
        bench.loop.now += module.MOST_WAITING / 3.5
        return len(data)

    monkeypatch.setattr(os, "write", sleepy)
    bench.stream(1)
    bench.fault()
    bench.stream(1)
    assert_failed(log, tmp_path, "too_slow")
    assert len(writes) == 4


@contextlib.contextmanager
def files_limited(byte_count: int) -> Iterator[None]:
    """Inside this context no file of this process grows larger; it is as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (byte_count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_once_and_nothing_is_left(
    bench: Bench, tmp_path: Path, log: list[Any]
) -> None:
    """A write that takes a part only, and then fails, ends the recording; a minute later, again."""
    bench.stream(2)
    with files_limited(100_000):
        bench.fault()
        bench.stream(1)
    assert_failed(log, tmp_path, "efbig")
    bench.stream(PERIOD + 1, step=0.1)
    bench.fault()
    bench.stream(6, step=0.1)
    assert names(tmp_path) == [name(2)]


def test_a_directory_that_is_gone_is_said(bench: Bench, tmp_path: Path, log: list[Any]) -> None:
    """The relay goes on when it cannot begin a file, and when it cannot name one."""
    bench.stream(1)
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    bench.fault()
    bench.stream(PERIOD + 1, step=0.1)
    moved.rename(tmp_path)
    bench.fault()
    bench.stream(1)
    tmp_path.rename(moved)
    bench.stream(6)
    moved.rename(tmp_path)
    (tmp_path / f"{name(2)}.part").unlink()
    assert_failed(log, tmp_path, "enoent", "enoent")


# --- how much there may be


def test_the_oldest_of_its_own_files_give_way(tmp_path: Path) -> None:
    """Room is made before anything is written; what the recorder did not write stays."""
    own = [f"fault-2020010{day}T000000Z-red.pcapng" for day in range(1, 6)]
    for each in own:
        (tmp_path / each).write_bytes(bytes(200_000))
    left = tmp_path / f"{own[0]}.part"
    left.write_bytes(b"x")
    foreign = ["fault-20190101T000000Z-red.pcapng~", "a-fault.pcapng", "film.ts"]
    for each in foreign:
        (tmp_path / each).write_bytes(bytes(MIB))
    link = "fault-20180101T000000Z-red.pcapng"
    (tmp_path / link).symlink_to(tmp_path / "film.ts")
    with recording(tmp_path, 1) as bench:
        assert not left.exists()
        bench.stream(1, step=0.1)
        assert set(names(tmp_path)) == {*own, *foreign, link}
        bench.fault()
        bench.stream(6, step=0.1)
    assert set(names(tmp_path)) == {*own[2:], *foreign, link, name(1)}
    assert (tmp_path / "film.ts").stat().st_size == MIB


def test_a_recording_alone_is_never_larger_than_all_may_be(tmp_path: Path, log: list[Any]) -> None:
    """Where there is nothing more to delete, it ends early, and is whole as far as it goes."""
    with recording(tmp_path, 1) as bench:
        bench.stream(2, count=5)
        bench.fault()
        bench.stream(2, count=5)
    [file] = tmp_path.iterdir()
    assert MIB - LARGEST_PIECE <= file.stat().st_size <= MIB
    [(_, first), *_, (_, last)] = held(file)
    assert_held(file, bench.sent[first : last + 1])
    assert log[-1]["event"] == "recorded"
    assert log[-1]["octets"] == file.stat().st_size


# --- a directory in which others may write

OLD = "fault-20200101T000000Z-red.pcapng"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def full_folder(path: Path) -> None:
    path.mkdir()
    (path / "x").touch()


def link_to_a_fifo(path: Path) -> None:
    os.mkfifo(path.parent / "pipe")
    path.symlink_to(path.parent / "pipe")


def file_of_another(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)


TRAPS = [fifo, full_folder, link_to_a_fifo, file_of_another]


def as_root_for(trap: Callable[[Path], None]) -> None:
    if trap is file_of_another and os.geteuid():
        pytest.skip("needs root")


@pytest.mark.parametrize("suffix", ["", ".part"])
@pytest.mark.parametrize("trap", TRAPS)
def test_what_others_made_is_not_counted_nor_touched(
    tmp_path: Path, log: list[Any], trap: Callable[[Path], None], suffix: str
) -> None:
    """What is no file of ours takes no room, whatever its name, and hides no other entry."""
    as_root_for(trap)
    odd, own = tmp_path / (OLD + suffix), tmp_path / "fault-20200102T000000Z-red.pcapng"
    trap(odd)
    own.write_bytes(bytes(900_000))
    with recording(tmp_path, 1) as bench:
        bench.stream(1, step=0.1)
        bench.fault()
        bench.stream(6, step=0.1)
    assert (tmp_path / name(1)).exists()
    assert os.path.lexists(odd)
    assert not own.exists(), "it is counted, and gives way"
    assert [each["event"] for each in log] == ["recording_started", "recorded"]


@pytest.mark.parametrize("trap", TRAPS)
def test_what_takes_the_place_of_a_recording_is_left_alone(
    tmp_path: Path, log: list[Any], trap: Callable[[Path], None]
) -> None:
    """What was a recording at the start, and is something else when its turn has come, may stay."""
    as_root_for(trap)
    old = tmp_path / OLD
    old.write_bytes(bytes(900_000))
    with recording(tmp_path, 1) as bench:
        old.unlink()
        trap(old)
        bench.stream(1, step=0.1)
        bench.fault()
        bench.stream(6, step=0.1)
    assert (tmp_path / name(1)).exists()
    assert os.path.lexists(old)
    assert [each["event"] for each in log] == ["recording_started", "recorded"]


@pytest.mark.parametrize("suffix", ["", ".part"])
@pytest.mark.parametrize("trap", TRAPS)
def test_a_name_that_is_taken_ends_no_recording(
    bench: Bench, tmp_path: Path, log: list[Any], trap: Callable[[Path], None], suffix: str
) -> None:
    """Who guesses the name of the next recording has it; the recording gets another one."""
    as_root_for(trap)
    trap(tmp_path / (name(1) + suffix))
    bench.stream(1)
    bench.fault()
    bench.stream(6)
    started, recorded = log
    assert (started["event"], recorded["event"]) == ("recording_started", "recorded")
    assert started["file"] == recorded["file"] != str(tmp_path / name(1))
    assert_held(Path(recorded["file"]), bench.sent[: len(held(Path(recorded["file"])))])
    again = Recordings(str(tmp_path), MIB)
    assert not again.has_room(MIB), "a later start counts it"


def test_a_name_that_is_taken_meanwhile_ends_no_recording(
    bench: Bench, tmp_path: Path, log: list[Any]
) -> None:
    """Nor does one that is taken while the recording is under way."""
    bench.stream(1)
    bench.fault()
    full_folder(tmp_path / name(1))
    bench.stream(6)
    assert log[-1]["event"] == "recorded"
    assert_held(Path(log[-1]["file"]), bench.sent[: len(held(Path(log[-1]["file"])))])


def test_a_directory_that_is_not_ours_alone_is_told(
    tmp_path: Path, log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It, or one above it, may be written by others, even if it is sticky: a warning says so."""
    own = tmp_path / "above" / "own"
    own.mkdir(parents=True)
    own.chmod(0o700)
    assert why_not_private(str(own)) == ""
    for folder, mode, private in (
        (own, 0o1777, False),
        (own, 0o770, False),
        (own, 0o755, True),
        (own.parent, 0o777, False),
        (own.parent, 0o1777, True),
    ):
        folder.chmod(mode)
        assert (why_not_private(str(own)) == "") == private, oct(mode)
        folder.chmod(0o700)
    own.chmod(0o777)
    with recording(own, 1):
        [told] = log
    assert told["event"] == "recordings_not_private"
    assert str(own) in told["reason"]
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    if os.stat(own).st_uid:
        assert "another user's" in why_not_private(str(own))


# --- the end of the program


@pytest.mark.parametrize("wanted", [True, False], ids=["same options", "no recorder any more"])
def test_a_reload_completes_what_there_is(
    bench: Bench, tmp_path: Path, log: list[Any], wanted: bool
) -> None:
    """The next program names the file, and keeps to the minute; no temporary file is left."""
    bench.stream(12, step=0.05)
    bench.fault()
    bench.recorder.verdict_changed("network", "")
    bench.stream(2, step=0.05)
    saved = bench.recorder.export()
    config = bench.config if wanted else Config()
    loop = cast(Loop, SteppedLoop(bench.loop.now, dates=1))
    recorder = open_recorder(config, loop, bench.history, lambda: bench.ends, saved)
    assert (recorder is not None) == wanted
    assert names(tmp_path) == [name(1)]
    assert [each["event"] for each in log] == ["recording_started", "recorded"]
    assert log[1]["octets"] == (tmp_path / name(1)).stat().st_size
    assert_held(tmp_path / name(1), bench.between(bench.loop.now - 12, bench.loop.now))
    if recorder is not None:
        recorder.verdict_changed("healthy", "")
        recorder.verdict_changed("source", "")
        assert names(tmp_path) == [name(1)]


def test_the_end_completes_what_there_is(bench: Bench, tmp_path: Path) -> None:
    """A relay that is stopped leaves a whole file."""
    bench.stream(12, step=0.05)
    bench.fault()
    bench.stream(1, step=0.05)
    bench.recorder.close()
    assert_held(tmp_path / name(1), bench.between(bench.loop.now - 11, bench.loop.now))


def test_an_end_before_the_first_piece_leaves_a_capture_too(bench: Bench, tmp_path: Path) -> None:
    """A file has its head before anything may end the recording: it can be read, if it is short."""
    bench.stream(1)
    bench.fault()
    bench.recorder.close()
    assert comments((tmp_path / name(1)).read_bytes())[0] == b"source: packets are missing"


def test_the_history_keeps_enough_for_it() -> None:
    """With a recorder it holds 10 s of 50 Mb/s, and more if time-shift asks for it."""
    for config, seconds, byte_count in (
        (Config(record_faults="."), 10, 64 * MIB),
        (Config(record_faults=".", timeshift=5, timeshift_mib=8), 10, 64 * MIB),
        (Config(record_faults=".", timeshift=60, timeshift_mib=128), 60, 128 * MIB),
    ):
        history = open_history(config, None)
        assert history is not None
        assert history.seconds >= seconds
        saved = history.export()
        assert saved is not None
        assert saved.octets == byte_count
        history.close()
