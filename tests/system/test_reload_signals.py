"""Signals at a bad moment: together, in a storm, during a reload, from a dying terminal."""

import pty
import signal
import time
from pathlib import Path

import pytest

from tools.lab.altered import Altered
from tools.lab.process import need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import CountingViewers, NumberedStream, Work, children, hang_up, reload
from tools.lab.viewer import TestViewer

FAREWELL = "ERROR el relay se detiene"


def test_two_hang_ups_at_once(relay: RelayProcess) -> None:
    """A second SIGHUP while the new program is tried has it tried again, and then one reload."""
    hang_up(relay)
    relay.wait_event("reload_started")
    hang_up(relay)
    relay.wait_event("reloaded")
    reload(relay)
    assert len(relay.events("reload_started")) == len(relay.events("reloaded")) == 2


WAIT = """
import os, time
from relaylib.lifecycle import check
confirm = check.confirm
def wait(*words, **more):
    open({parsed!r}, "w").close()
    while not os.path.exists({changed!r}):
        time.sleep(0.01)
    time.sleep(0.1)  # for the signal, which was sent before, to be taken
    confirm(*words, **more)
check.confirm = wait
"""


def test_what_is_tried_may_have_been_changed_since(tmp_path: Path) -> None:
    """A SIGHUP for options that were changed while the former ones are tried has these tried."""
    conf, parsed, changed = (tmp_path / name for name in ("relay.conf", "parsed", "changed"))
    conf.touch()
    program = Altered(tmp_path, WAIT.format(parsed=str(parsed), changed=str(changed)))
    with RelayProcess(f"@{conf}", prefix=program.prefix) as relay:
        hang_up(relay)
        wait_for(parsed.exists, "the options to be read")
        conf.write_text("--nonsense")
        hang_up(relay)
        changed.touch()
        assert "--nonsense" in relay.wait_event("reload_failed")["reason"]
        assert not relay.events("reloaded")


@pytest.mark.long
def test_a_storm_of_hang_ups(relay: RelayProcess) -> None:
    """Twenty SIGHUPs in a second end in a new program, and cost a viewer nothing."""
    with TestViewer(relay.port) as viewer:
        viewer.subscribe()
        with CountingViewers([viewer]) as audience, NumberedStream(relay.ingest_port) as stream:
            relay.wait_event("ingest_started")
            for _ in range(20):
                hang_up(relay)
                time.sleep(0.05)
            relay.wait_event("reloaded")
            reload(relay)
            stream.__exit__()
            audience.expect(stream.sent)
        assert f"enviados={stream.sent} perdidos=0 " in viewer.command("ESTADO")
    assert not relay.events("reload_failed")
    wait_for(lambda: not children(relay), "the last reload to be over")


class Storm(Work):
    """Sends SIGHUP as fast as it can."""

    def __init__(self, relay: RelayProcess) -> None:
        super().__init__()
        self._relay = relay

    def run(self) -> None:
        """Send, until the block or the relay ends."""
        while not self.stopped() and self._relay.process.poll() is None:
            hang_up(self._relay)


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.5])
def test_the_end_comes_through_a_storm_of_hang_ups(relay: RelayProcess, delay: float) -> None:
    """SIGTERM among thousands of SIGHUPs a second ends the relay in order, with status 0."""
    with Storm(relay):
        relay.wait_event("reload_started")
        time.sleep(delay)
        assert relay.stop(signal.SIGTERM) == 0
    assert len(relay.events("shutting_down")) == len(relay.events("stopped")) == 1


HANG_UP = """
import os, signal, time
from relaylib.lifecycle import check
confirm = check.confirm
def hang_up(*words, **more):
    os.kill(os.getppid(), signal.SIGHUP)
    time.sleep(0.1)  # for the signal to be taken
    confirm(*words, **more)
check.confirm = hang_up
"""


@pytest.mark.long
def test_nobody_can_put_a_reload_off_for_ever(tmp_path: Path) -> None:
    """If a SIGHUP comes whenever a program is tried, there is a reload, and then one more."""
    with RelayProcess(prefix=Altered(tmp_path, HANG_UP).prefix) as relay:
        hang_up(relay)
        relay.wait_event("reloaded", 2)
        assert relay.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("delay", [step * 0.06 for step in range(6)])
def test_the_end_may_be_asked_for_at_any_moment_of_a_reload(
    relay: RelayProcess, delay: float
) -> None:
    """SIGTERM before, during or after the exec ends the relay in order, with a farewell."""
    with TestViewer(relay.port) as viewer:
        viewer.subscribe()
        hang_up(relay)
        time.sleep(delay)
        assert relay.stop(signal.SIGTERM) == 0
        assert viewer.reply() == FAREWELL
        assert viewer.reply() == ""
    assert len(relay.events("shutting_down")) == 1
    assert not relay.events("reload_failed")


def test_the_end_wins_over_a_reload_that_is_being_tried(relay: RelayProcess) -> None:
    """Once SIGTERM has been taken no reload happens any more, though one was asked for."""
    hang_up(relay)
    relay.wait_event("reload_started")
    assert relay.stop(signal.SIGTERM) == 0
    assert not relay.events("reloaded")
    assert relay.events("stopped")


def test_two_ways_to_ask_for_the_end_at_once(relay: RelayProcess) -> None:
    """SIGTERM and SIGINT that are noticed together end the relay once, in order."""
    for signum in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
        relay.process.send_signal(signum)
    assert relay.wait() == 0
    assert len(relay.events("shutting_down")) == 1


def test_hang_ups_while_the_relay_ends(relay: RelayProcess) -> None:
    """SIGHUP during the farewells neither kills the relay nor reloads it."""
    with TestViewer(relay.port) as viewer:  # does not close: the relay waits for it for a while
        viewer.subscribe()
        relay.process.send_signal(signal.SIGTERM)
        relay.wait_event("shutting_down")
        hang_up(relay)
        assert relay.wait() == 0
        assert viewer.reply() == FAREWELL
    assert not relay.events("reload_started")


def test_a_closed_terminal_ends_the_relay() -> None:
    """SIGHUP reloads a relay that has its terminal, and ends one whose terminal was closed."""
    need("setsid")
    ours, its = pty.openpty()
    with (
        open(ours, "rb") as terminal,
        open(its, "rb") as end,
        RelayProcess(prefix=("setsid", "--ctty"), stdin=end) as relay,
        TestViewer(relay.port) as viewer,
    ):
        end.close()
        reload(relay)
        terminal.close()
        assert relay.wait() == 0
        assert viewer.reply() == FAREWELL
    assert len(relay.events("reload_started")) == 1
