"""The log: a stream that never blocks or fails, and a limit on what peers can repeat."""

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from relaylib.log import BestEffortStream, Throttle
from tools.lab.process import PATIENCE, ROOT, wait_for
from tools.lab.sockets import source, unused_port
from tools.lab.traffic import exchange, numbered
from tools.lab.viewer import Viewer


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe, both ends of which may be closed by the test."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


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


def test_a_long_line_is_cut() -> None:
    """No line is longer than a pipe takes at once, so that none can block."""
    with pipe() as (reader, writer):
        BestEffortStream(writer).write("x" * 10_000 + "\n")
        assert os.read(reader, 20_000) == b"x" * 4095 + b"\n"


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


# --- the limit


def test_a_throttle_passes_a_few_and_counts_the_rest() -> None:
    """In each period the first events pass; the first of the next one says how many did not."""
    throttle = Throttle(limit=2, period=10)
    assert [throttle.admit(now) for now in (0, 1, 2, 9.9)] == [{}, {}, None, None]
    assert [throttle.admit(now) for now in (10, 11, 12)] == [{"suppressed": 2}, {}, None]
    assert throttle.admit(100) == {"suppressed": 1}


# --- a relay whose log cannot be written


@contextlib.contextmanager
def relay_logging_to(stderr: int | None) -> Iterator[int]:
    """A relay with this stderr, or none at all, that must end well; yields its port."""
    port = unused_port()  # it cannot say which one it got
    words = [sys.executable, "relay.py", "127.0.0.1", str(port)]
    if stderr is None:
        words = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        wait_for(lambda: listens(port), "the relay to listen")
        yield port
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    """Tell whether somebody listens."""
    with contextlib.suppress(ConnectionRefusedError):
        Viewer(port).close()
        return True
    return False


def assert_relays(port: int) -> None:
    """Check that a relay relays, with a dialogue and many events on the way."""
    with source(port) as sender, Viewer(port) as viewer:
        make_events(viewer)
        exchange(sender, [viewer], numbered([1316] * 100))


def make_events(viewer: Viewer) -> None:
    """Make the relay log a few hundred lines."""
    for _ in range(100):
        viewer.subscribe()
        assert viewer.command("INTERRUMPIR") == "OK"
        assert viewer.command("CONTINUAR") == "OK"


def test_a_closed_log_pipe_does_not_stop_the_relay() -> None:
    """`relay.py 2>&1 | head` goes on after head has left."""
    with pipe() as (reader, writer):
        os.close(reader)
        with relay_logging_to(writer) as port:
            assert_relays(port)


def test_a_full_disk_does_not_stop_the_relay() -> None:
    """A log file on a full disk costs the log only."""
    with open("/dev/full", "wb") as disk, relay_logging_to(disk.fileno()) as port:
        assert_relays(port)


def test_closed_standard_descriptors_do_not_stop_the_relay() -> None:
    """A relay that was started without stdin, stdout and stderr sends its log to no viewer."""
    with relay_logging_to(None) as port:
        assert_relays(port)


def test_a_blocked_log_pipe_does_not_stop_the_relay() -> None:
    """A reader that has stopped reading costs lines; when it goes on it is told how many."""
    with pipe() as (reader, writer):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        with relay_logging_to(writer) as port:
            assert_relays(port)
            os.set_blocking(reader, False)
            os.read(reader, 1 << 20)
            with Viewer(port) as viewer:
                make_events(viewer)
            assert b'"log_lines_lost": ' in os.read(reader, 1 << 20)


@pytest.mark.parametrize("size", [100, 5000])
def test_a_traceback_is_logged_in_one_line_of_json(size: int) -> None:
    """A bug's traceback is part of its event, cut if it is too long for a line."""
    script = (
        "import structlog; from relaylib.log import setup; setup('json', 'info')\n"
        f"try: raise ValueError('x' * {size})\n"
        "except ValueError as error: structlog.get_logger().error('bug', exc_info=error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True, text=True
    )
    assert done.stderr.startswith("{")
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) <= 4096
    assert "Traceback" in done.stderr or size > 4096
