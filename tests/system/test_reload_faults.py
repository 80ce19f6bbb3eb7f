"""Reloads that must not happen: whatever is wrong with the new program, the old one goes on."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relaylib import __version__
from tools.lab.altered import Altered
from tools.lab.process import need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import (
    CountingViewers,
    NumberedStream,
    children,
    descriptors,
    hang_up,
    reload,
)
from tools.lab.viewer import TestViewer


def fails(relay: RelayProcess) -> str:
    """Ask for a reload that fails; return the reason that is logged."""
    hang_up(relay)
    return str(relay.wait_event("reload_failed", len(relay.events("reload_failed")) + 1)["reason"])


@contextlib.contextmanager
def undisturbed(relay: RelayProcess) -> Iterator[TestViewer]:
    """Assert that a viewer and the stream notice nothing of what happens in the block."""
    with TestViewer(relay.port) as viewer:
        viewer.subscribe()
        with CountingViewers([viewer]) as audience, NumberedStream(relay.ingest_port) as stream:
            relay.wait_event("source_locked")
            assert viewer.command("ESTADO").startswith("OK")  # so the standby socket is open, too
            before = descriptors(relay)
            viewer.send(b"ESTA")
            yield viewer
            wait_for(lambda: descriptors(relay) == before, "the descriptors to be as before")
            assert not children(relay)
            stream.__exit__()
            audience.expect(stream.sent)
        viewer.send(b"DO\n")
        assert f"enviados={stream.sent} perdidos=0 " in viewer.reply()


# --- the configuration

BROKEN = {
    "--max-clients none\n": "relay.conf, line 1: argument --max-clients: not a number",
    "# mine\n--no-such-option\n": "relay.conf, line 2: unrecognized arguments: --no-such-option",
    "\n\n--allow '10.0.0.0/8\n": "relay.conf, line 3: cannot read",
    "--help\n": "",
    "--version\n": f"relay {__version__}",
}


@pytest.mark.long
def test_a_broken_configuration_changes_nothing(tmp_path: Path) -> None:
    """The old program goes on, says what is wrong where, and takes the file once it is mended."""
    conf = tmp_path / "relay.conf"
    conf.write_text("--max-clients 3\n")
    with RelayProcess(f"@{conf}") as relay:
        with undisturbed(relay):
            for broken, reason in BROKEN.items():
                conf.write_text(broken)
                assert reason in fails(relay)
            conf.unlink()
            assert "relay.conf: No such file or directory" in fails(relay)
        conf.write_text("--max-clients 1\n")
        reload(relay)
        with TestViewer(relay.port) as first:
            first.subscribe()
            with TestViewer(relay.port) as second:
                assert second.reply() == "ERROR relay lleno (1 conexiones)"


# --- the program

STATE = "from relaylib.viewers.viewer import ViewerState; hints = ViewerState.__annotations__; "
DAMAGE = {
    "a syntax error": ("x = = 1", "SyntaxError: invalid syntax ({program}, line 3)"),
    "a missing module": (
        "import numby",
        "ModuleNotFoundError: No module named 'numby' ({program}, line 3)",
    ),
    "a bug": ("\n\n1 / 0", "ZeroDivisionError: division by zero ({program}, line 5)"),
    "an early end": ("raise SystemExit(3)", "exit status 3"),
    "another version": (
        "from relaylib.lifecycle import handover; handover.VERSION = 100",
        "program.py: cannot take over from the running relay: its state is of version 4, not 100",
    ),
    "an unknown field": (
        STATE + "del hints['telnet']",
        "program.py: cannot take over from the running relay: "
        "viewers: ViewerState does not fit: ['telnet']",
    ),
    "an unknown state": (
        STATE + "from enum import Enum; hints['state'] = Enum('State', {'IDLE': 'inactivo'})",
        "program.py: cannot take over from the running relay: "
        "viewers: state: 'streaming' is not a valid State",
    ),
}
"""What the new program lacks, and the reason why the old one stays."""


def test_a_broken_program_changes_nothing(tmp_path: Path) -> None:
    """A program that cannot start or take over is refused with a reason; the stream goes on."""
    program = Altered(tmp_path)
    with RelayProcess(prefix=program.prefix) as relay:
        with undisturbed(relay):
            for alteration, reason in DAMAGE.values():
                program.become(alteration)
                assert fails(relay) == reason.format(program=program.path)
        assert not relay.events("reloaded")
        program.become()
        reload(relay)


def test_a_program_that_hangs(tmp_path: Path) -> None:
    """A new program that does not come to an end is killed, and the old one goes on."""
    program = Altered(tmp_path, "from relaylib.lifecycle import check; check.TIMEOUT = 0.5")
    with RelayProcess(prefix=program.prefix) as relay, undisturbed(relay):
        program.become("import time; print('on my way', flush=True); time.sleep(60)")
        assert fails(relay) == "no answer within 0.5 s"


def test_an_interpreter_that_is_gone(tmp_path: Path) -> None:
    """If not even the interpreter can be run any more, the old program goes on and says so."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    (tmp_path / "lib").symlink_to(Path(sys.prefix) / "lib")
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", tmp_path)
    with RelayProcess(prefix=("sh", "-c", f'shift; exec {python} "$@"', "sh")) as relay:
        with undisturbed(relay):
            python.rename(tmp_path / "elsewhere")
            assert fails(relay) == "No such file or directory"
        (tmp_path / "elsewhere").rename(python)
        reload(relay)


def test_no_descriptor_left() -> None:
    """A relay that is out of descriptors cannot try a new program, and goes on."""
    need("prlimit")
    with (
        RelayProcess(prefix=("prlimit", "--nofile=30:30")) as relay,
        contextlib.ExitStack() as stack,
    ):
        with undisturbed(relay):
            crowd = [stack.enter_context(TestViewer(relay.port)) for _ in range(20)]
            while not relay.events("client_declined"):
                crowd.append(stack.enter_context(TestViewer(relay.port)))
            assert fails(relay) == "Too many open files"
            stack.close()
            relay.wait_event("client_gone", len(relay.events("client_connected")) - 1)
        reload(relay)
