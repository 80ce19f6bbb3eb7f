"""The log: a stream that never blocks or fails, lines that parse, a limit on what peers repeat."""

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from relaylib.log import BestEffortStream, Throttle, flush_throttles
from tools.lab.inprocess import pipe
from tools.lab.process import ROOT

# --- the stream


def test_lines_are_written_whole() -> None:
    """A line goes straight to the descriptor."""
    with pipe() as (reader, writer):
        stream = BestEffortStream(writer)
        assert stream.write("uno\n") == 4
        stream.flush()
        assert os.read(reader, 100) == b"uno\n"


def test_what_is_not_unicode_is_written_all_the_same() -> None:
    """A lone surrogate, as in a file name that is no UTF-8, costs nothing."""
    with pipe() as (reader, writer):
        BestEffortStream(writer).write("a\udcffb\n")
        assert os.read(reader, 100) == b"a\\udcffb\n"


def test_a_long_line_loses_its_middle() -> None:
    """No line is longer than a pipe takes at once, so that none can block."""
    with pipe() as (reader, writer):
        BestEffortStream(writer).write("a" * 5_000 + "z" * 5_000 + "\n")
        line = os.read(reader, 20_000)
        assert 4090 < len(line) <= 4096
        assert line.startswith(b"a" * 2_000 + b"a")
        assert line.endswith(b"z" * 2_000 + b"\n")


def test_a_full_pipe_costs_lines_and_not_time() -> None:
    """While nobody reads the log, lines are counted as lost; the next one says how many."""
    with pipe() as (reader, writer):
        stream = BestEffortStream(writer)
        while not stream.lost:
            stream.write("x" * 4095 + "\n")
        for _ in range(4):
            stream.write("lost\n")
        assert stream.count_lost(None, "info", {"event": "still full"})["log_lines_lost"] == 5
        assert os.get_blocking(writer)
        os.read(reader, 1 << 20)
        assert stream.count_lost(None, "info", {"event": "now"}) == {"event": "now"}


def test_a_closed_pipe_and_a_full_disk_are_survived() -> None:
    """A log that cannot be written at all only costs the log."""
    with pipe() as (reader, writer):
        os.close(reader)
        stream = BestEffortStream(writer)
        stream.write("nobody reads\n")
        assert stream.lost == 1
    stream = BestEffortStream(writer)  # closed by now
    stream.write("no descriptor\n")
    assert stream.lost == 1
    with open("/dev/full", "wb") as disk:
        stream = BestEffortStream(disk.fileno())
        stream.write("no space\n")
        assert stream.lost == 1


# --- lines


def logged(code: str, form: str = "json", **env: str) -> list[str]:
    """Run code that logs, `log` being the logger; return the lines, read from a pipe."""
    script = "import os, structlog; from relaylib.log import setup; log = structlog.get_logger()\n"
    script += f"setup({form!r}, 'debug')\n{code}"
    with pipe() as (reader, writer):
        status = os.fstat(writer)
        words = {name: value.format(status) for name, value in env.items()}
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, **words},
            stderr=writer,
            check=True,
        )
        return os.read(reader, 1 << 20).decode().splitlines()


RAISE = """
def deep(levels):
    if levels:
        deep(levels - 1)
    raise {error}
for size in (0, 100, 3_000, 4_000, 5_000, 100_000):
    try:
        deep({levels})
    except Exception as error:
        log.error("bug", exc_info=error, size=size)
"""


@pytest.mark.parametrize("levels", [0, 20])
@pytest.mark.parametrize("text", ["x", "\\n", '"', "\xf1", "\U0001f4fa", "\\udcff"])
def test_every_traceback_is_one_line_of_json(text: str, levels: int) -> None:
    """However long a traceback is, its event parses, and shows how it begins and how it ends."""
    lines = logged(RAISE.format(error=f"ValueError('{text}' * size + '!')", levels=levels))
    assert len(lines) == 6
    for line in lines:
        assert len(line) < 4096
        event = json.loads(line)
        assert event["event"] == "bug"
        assert event["exception"].startswith("Traceback (most recent call last)")
        assert event["exception"].endswith("!")
    assert len(lines[-1]) > 2000  # not much more is left out than has to be


def test_many_long_values_are_shortened_alike() -> None:
    """Values of any kind lose their middle, the longest first; short ones stay as they are."""
    code = "log.info('long', a='x' * 4000, b=['y' * 9000], c={'z': 5}, d='w' * 500)"
    [line] = logged(code)
    event = json.loads(line)
    assert len(line) < 4096
    assert (event["event"], event["c"], event["d"]) == ("long", {"z": 5}, "w" * 500)
    assert "[...]" in event["a"]
    assert "[...]" in event["b"]


LEVELS = "for level in ('debug', 'info', 'warning', 'error'): getattr(log, level)('fact')"


def test_journald_is_told_of_priorities() -> None:
    """Where stderr is journald's, each line begins with <N> by its level (sd-daemon(3))."""
    lines = logged(LEVELS, JOURNAL_STREAM="{0.st_dev}:{0.st_ino}")
    assert [line[:4] for line in lines] == ["<7>{", "<6>{", "<4>{", "<3>{"]
    for line in lines:
        assert json.loads(line[3:])["event"] == "fact"


def test_journald_gets_every_line_of_a_traceback_with_its_priority() -> None:
    """A line without a prefix would be a message of its own, of another priority."""
    code = RAISE.format(error="ValueError(size)", levels=3)
    lines = logged(code, "console", JOURNAL_STREAM="{0.st_dev}:{0.st_ino}")
    assert len(lines) > 6
    assert {line[:3] for line in lines} == {"<3>"}


@pytest.mark.parametrize("stream", ["", "1:2", "{0.st_dev}", "{0.st_ino}:{0.st_dev}"])
def test_nobody_else_gets_priorities(stream: str) -> None:
    """A relay that journald started, and whose log goes elsewhere, writes plain lines."""
    for line in logged(LEVELS, JOURNAL_STREAM=stream):
        assert json.loads(line)["event"] == "fact"


# --- the limit


class Clock:
    """Timers that run when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        """Run the callback that much later."""
        self._timers.append((self.now + delay, callback))

    def pass_until(self, when: float) -> None:
        """Let time pass."""
        while due := [timer for timer in self._timers if timer[0] <= when]:
            timer = min(due)
            self._timers.remove(timer)
            self.now = timer[0]
            timer[1]()
        self.now = when


Lines = list[tuple[float, int, int | None]]
"""What was logged: when, the event's number, how many were suppressed."""


def throttled(limit: int) -> tuple[Clock, Callable[[float, int], None], Lines]:
    """A throttle of 10 s; a function that logs an event at a time; and what got through."""
    clock, lines = Clock(), Lines()
    throttle = Throttle(clock.call_later, limit=limit, period=10)

    def write(_event: str, number: int, suppressed: int | None = None) -> None:
        lines.append((clock.now, number, suppressed))

    def log(when: float, number: int) -> None:
        clock.pass_until(when)
        throttle.log(write, "fact", number=number)

    return clock, log, lines


def test_a_few_events_pass_a_throttle() -> None:
    """Up to the limit, events are logged as they happen, and a period later again."""
    clock, log, lines = throttled(2)
    for when, number in ((0, 1), (9, 2), (11, 3), (12, 4)):
        log(when, number)
    clock.pass_until(100)
    assert lines == [(0, 1, None), (9, 2, None), (11, 3, None), (12, 4, None)]


def test_the_last_of_many_events_is_logged_when_the_period_ends() -> None:
    """Nothing more has to happen for that, and its line tells how many were suppressed."""
    clock, log, lines = throttled(5)
    for number in range(40):
        log(number / 100, number)
    clock.pass_until(9.9)
    assert [number for _, number, _ in lines] == [0, 1, 2, 3, 4]
    clock.pass_until(100)
    assert lines[5:] == [(10, 39, 35)]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_a_flood_costs_the_limit_in_each_period(limit: int) -> None:
    """However long it lasts, each period has `limit` lines, and in the end all are counted."""
    clock, log, lines = throttled(limit)
    for number in range(1000):
        log(number / 10, number)
    clock.pass_until(1000)
    for start in range(0, 100, 10):
        assert sum(start <= when < start + 10 for when, _, _ in lines) == limit
    assert sum(suppressed or 1 for _, _, suppressed in lines) == 1000
    assert lines[-1] == (100, 999, lines[-1][2])


def test_what_is_suppressed_at_the_end_is_logged_then() -> None:
    """Before a program ends it has every throttle say what it holds back, once."""
    clock, log, lines = throttled(1)
    for number in range(3):
        log(0, number)
    flush_throttles()
    flush_throttles()
    clock.pass_until(100)
    assert lines == [(0, 0, None), (0, 2, 2)]
