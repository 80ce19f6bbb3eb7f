"""Restarts that must not happen: whatever is wrong with the new program, the old one goes on."""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relaylib.lifecycle import restart as restart_module
from relaylib.lifecycle.handover import State
from relaylib.net.descriptors import Descriptor
from relaylib.net.loop import Loop
from relaylib.stream.ingest import IngestState
from relaylib.stream.ingest_sockets import SocketsState
from relaylib.stream.receive_buffer import DropCount
from relaylib.stream.source_lock import LockState
from tools.lab.inprocess import running_loop, tcp_pair, turn_until
from tools.lab.process import need, wait_for
from tools.lab.relay import Relay
from tools.lab.restarts import (
    Audience,
    Stream,
    children,
    copy_program,
    descriptors,
    hang_up,
    restart,
)
from tools.lab.viewer import Viewer


def fails(relay: Relay) -> str:
    """Ask for a restart that fails; return the reason that is logged."""
    hang_up(relay)
    return str(relay.wait_event("reload_failed", len(relay.events("reload_failed")) + 1)["reason"])


@contextlib.contextmanager
def undisturbed(relay: Relay) -> Iterator[Viewer]:
    """Assert that a viewer and the stream notice nothing of what happens in the block."""
    with Viewer(relay.port) as viewer:
        viewer.subscribe()
        with Audience([viewer]) as audience, Stream(relay.ingest_port) as stream:
            relay.wait_event("ingest_started")
            before = descriptors(relay)
            viewer.send(b"ESTA")
            yield viewer
            wait_for(lambda: descriptors(relay) == before, "the descriptors to be as before")
            assert not children(relay)
            stream.__exit__()
            audience.expect(stream.sent)
        viewer.send(b"DO\n")
        assert viewer.reply().endswith(f"enviados={stream.sent} perdidos=0")


# --- the configuration

BROKEN = {
    "--max-clients none\n": "--max-clients",
    "--no-such-option\n": "--no-such-option",
    "--allow '10.0.0.0/8\n": "cannot read",
    "--help\n": "",
    "--version\n": "relay 0.",
    None: "relay.conf",
}


@pytest.mark.parametrize(("broken", "named"), BROKEN.items(), ids=lambda value: repr(value)[:20])
def test_a_broken_configuration_changes_nothing(
    tmp_path: Path, broken: str | None, named: str
) -> None:
    """The old program goes on, says why, and takes the configuration once it is mended."""
    conf = tmp_path / "relay.conf"
    conf.write_text("--max-clients 3\n")
    with Relay(f"@{conf}") as relay:
        with undisturbed(relay):
            if broken is None:
                conf.unlink()
            else:
                conf.write_text(broken)
            assert named in fails(relay)
        conf.write_text("--max-clients 1\n")
        restart(relay)
        with Viewer(relay.port), Viewer(relay.port) as second:
            assert second.reply() == "ERROR relay lleno (1 conexiones)"


# --- the program

DAMAGE = {
    "config.py": ("import argparse", "import argparse argparse", "SyntaxError"),
    "fanout.py": ("import kernel", "import colonel", "ImportError"),
    "handover.py": ("VERSION = ", "VERSION = 100 + ", "state is of version"),
    "session.py": ("class State(Enum)", "import sys; sys.exit(3)\nclass State(Enum)", "status 3"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_broken_program_changes_nothing(tmp_path: Path, name: str) -> None:
    """A program that cannot start, or cannot take over, is not started."""
    good, bad, reason = DAMAGE[name]
    with Relay(prefix=copy_program(tmp_path)) as relay:
        module = tmp_path / "relaylib" / name
        text = module.read_text()
        with undisturbed(relay):
            module.write_text(text.replace(good, bad))
            assert reason in fails(relay)
        module.write_text(text)
        restart(relay)


def test_a_field_that_the_new_program_does_not_know(tmp_path: Path) -> None:
    """A state that this relay has and the new program cannot read is found before the exec."""
    with Relay(prefix=copy_program(tmp_path)) as relay, undisturbed(relay):
        module = tmp_path / "relaylib" / "lifecycle" / "handover.py"
        module.write_text(module.read_text().replace("    telnet: int\n", ""))
        assert "cannot take over" in fails(relay)


def test_a_program_that_hangs(tmp_path: Path) -> None:
    """A new program that does not come to an end is killed, and the old one goes on."""
    prefix = copy_program(tmp_path)
    module = tmp_path / "relaylib" / "lifecycle" / "restart.py"
    text = module.read_text().replace("CHECK_TIMEOUT = 10.0", "CHECK_TIMEOUT = 3.0")
    module.write_text(text)
    with Relay(prefix=prefix) as relay:
        with undisturbed(relay):
            module.write_text("import time; print('on my way', flush=True); time.sleep(60)\n")
            assert fails(relay) == "no answer within 3 s"
        module.write_text(text)
        restart(relay)


def test_an_interpreter_that_is_gone(tmp_path: Path) -> None:
    """If not even the interpreter can be run any more, the old program goes on and says so."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    (tmp_path / "lib").symlink_to(Path(sys.prefix) / "lib")
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", tmp_path)
    with Relay(prefix=("sh", "-c", f'shift; exec {python} "$@"', "sh")) as relay:
        with undisturbed(relay):
            python.rename(tmp_path / "elsewhere")
            assert fails(relay) == "No such file or directory"
        (tmp_path / "elsewhere").rename(python)
        restart(relay)


def test_no_descriptor_left() -> None:
    """A relay that is out of descriptors cannot try a new program, and goes on."""
    need("prlimit")
    with Relay(prefix=("prlimit", "--nofile=30:30")) as relay, contextlib.ExitStack() as stack:
        with undisturbed(relay):
            crowd = [stack.enter_context(Viewer(relay.port)) for _ in range(20)]
            while not relay.events("client_declined"):
                crowd.append(stack.enter_context(Viewer(relay.port)))
            assert fails(relay) == "Too many open files"
            stack.close()
            relay.wait_event("client_gone", len(relay.events("client_connected")) - 1)
        restart(relay)


# --- the exec itself


def test_an_exec_that_fails_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals come through again, also those that came meanwhile, and no descriptor leaks out."""
    called: list[int] = []
    handler = signal.getsignal(signal.SIGHUP)
    with running_loop() as loop, tcp_pair() as (listener, stream):
        loop.on_signal(signal.SIGHUP, lambda: called.append(signal.SIGHUP))
        os.kill(os.getpid(), signal.SIGHUP)  # noticed, not called back yet
        try:
            monkeypatch.setattr(sys, "executable", "/nonexistent/python")
            with pytest.raises(FileNotFoundError):
                restart_module.replace_program(_state(listener.fileno(), stream.fileno()), loop)
            turn_until(loop, lambda: called, "the signal to be called back")
        finally:
            signal.signal(signal.SIGHUP, handler)
        assert not os.get_inheritable(listener.fileno())
        assert not os.get_inheritable(stream.fileno())
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    assert "RELAY_HANDOVER_FD" not in os.environ


def test_a_bug_in_the_restart_does_not_end_restarting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong while the new program is tried, the one who asked is told."""
    troubles: list[str] = []
    bugs: list[Exception] = []

    def bug(_check: restart_module.Check) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(restart_module.Check, "_reap", bug)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", ""])
    monkeypatch.setattr(sys, "argv", ["-c"])
    loop = Loop(bugs.append)
    with tcp_pair() as (listener, stream), contextlib.closing(loop):
        state = _state(listener.fileno(), stream.fileno())
        restart_module.Check(loop, state, troubles.append)
        turn_until(loop, lambda: troubles, "the trouble")
    assert troubles == ["a bug"]
    assert len(bugs) == 1


def _state(listener: int, stream: int) -> State:
    ingest = IngestState(SocketsState(Descriptor(stream), None, True), LockState(), DropCount(), 0)
    return State(Descriptor(listener), ("127.0.0.1", 0, None), ingest, 0, {}, [])
