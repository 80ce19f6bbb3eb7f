"""The log of a real relay: it may be unwritable, and what peers repeat is limited and counted."""

import contextlib
import fcntl
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tools.lab.client import PseudoTerminal
from tools.lab.inprocess import pipe
from tools.lab.process import PATIENCE, ROOT, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import reload
from tools.lab.sockets import source, unused_port
from tools.lab.traffic import exchange, numbered
from tools.lab.viewer import TestViewer


@contextlib.contextmanager
def relay_logging_to(stderr: int | None, stdout: int = subprocess.DEVNULL) -> Iterator[int]:
    """A relay with this stderr, or none at all, that must end well; yields its port."""
    port = unused_port()  # it cannot say which one it got
    words = [sys.executable, "relay.py", "127.0.0.1", str(port)]
    if stderr is None:
        words = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words]
    process = subprocess.Popen(words, cwd=ROOT, stdout=stdout, stderr=stderr)
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
        TestViewer(port).close()
        return True
    return False


def assert_relays(port: int) -> None:
    """Check that a relay relays, with a dialogue and many events on the way."""
    with source(port) as sender, TestViewer(port) as viewer:
        make_events(viewer)
        exchange(sender, [viewer], numbered([1316] * 100))


def make_events(viewer: TestViewer) -> None:
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
            with TestViewer(port) as viewer:
                make_events(viewer)
            assert b'"log_lines_lost": ' in os.read(reader, 1 << 20)


def fill(terminal: int) -> None:
    """Write on a terminal until there is no room at all."""
    os.set_blocking(terminal, False)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(terminal, b"x" * size)
    os.set_blocking(terminal, True)


@pytest.mark.parametrize("full", [False, True])
def test_a_terminal_that_nobody_reads_does_not_stop_the_relay(full: bool) -> None:
    """A window that hangs costs the guide and the log: 300 clients come and go, the stream goes on.

    Whoever shares the terminal finds it as it was.
    """
    master, slave = pty.openpty()
    with os.fdopen(master, "rb"), os.fdopen(slave, "wb"):
        if full:
            fill(slave)
        with (
            relay_logging_to(slave, slave) as port,
            source(port) as sender,
            TestViewer(port) as viewer,
        ):
            viewer.subscribe()
            for _ in range(300):
                with TestViewer(port) as guest:
                    assert guest.command("ESTADO").startswith("OK")
            exchange(sender, [viewer], numbered([1316] * 100))
            assert os.get_blocking(slave)


def test_a_relay_in_the_background_is_not_stopped_by_its_log() -> None:
    """Where `stty tostop` stops who writes on the terminal of somebody else, the relay goes on."""
    port = unused_port()
    script = 'set -m; stty tostop; "$@" & read -r _; kill %1; wait %1; echo "status $?"'
    words = ("bash", "-c", script, "bash", sys.executable, "relay.py", "127.0.0.1", str(port))
    with PseudoTerminal(*words) as terminal:
        wait_for(lambda: listens(port), "the relay to listen")
        assert_relays(port)
        terminal.type("\n")
        terminal.contains("status 0")


# --- what peers repeat


def test_every_declined_connection_is_counted() -> None:
    """Of 40 connections that are declined 5 are logged at once, the others before the end."""
    with RelayProcess("--max-clients", "1") as relay, TestViewer(relay.port) as first:
        decline(relay, first, 40)
        assert len(relay.events("client_declined")) <= 5
        assert relay.stop() == 0
        assert counted(relay) == 40


def test_a_reload_forgets_no_declined_connection() -> None:
    """What was suppressed when the relay is replaced is logged before that."""
    with RelayProcess("--max-clients", "1") as relay, TestViewer(relay.port) as first:
        decline(relay, first, 20)
        reload(relay)
        assert counted(relay) == 20


def decline(relay: RelayProcess, first: TestViewer, times: int) -> None:
    """Come to a relay that one viewer fills, and be turned away."""
    first.subscribe()
    for _ in range(times):
        with TestViewer(relay.port) as viewer:
            assert viewer.reply().startswith("ERROR relay lleno")


def counted(relay: RelayProcess) -> int:
    """How many declined connections the log tells of."""
    declined = relay.events("client_declined")
    return sum(event.get("suppressed", 1) for event in declined)
