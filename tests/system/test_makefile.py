"""The targets of `make` that run a relay: who is started, who is told, and who is left."""

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.lab.client import PseudoTerminal
from tools.lab.process import PATIENCE, ROOT, ChildProcess, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.sockets import unused_port
from tools.lab.viewer import TestViewer

HOST = "127.0.0.1"
INHERITED = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL")
"""What `make test ARGS=...` would tell a make that runs under it."""


def words(target: str, port: int, *more: str) -> tuple[str, ...]:
    """The command for a target, with the interpreter of the tests and nothing to set up."""
    need("make")
    clean = (word for name in INHERITED for word in ("-u", name))
    given = (f"PY={sys.executable}", f"HOST={HOST}", f"PORT={port}")
    return ("env", *clean, "make", "-s", "-o", ".venv/.ready", target, *given, *more)


class Make(ChildProcess):
    """A target of `make` on a port, in a process group of its own; nobody of it outlives it."""

    def __init__(self, target: str, port: int, *more: str, **options: Any) -> None:
        super().__init__(*words(target, port, *more), process_group=0, **options)

    def logs(self, event: str, count: int = 1) -> None:
        """Wait until the relay has logged an event so often."""
        wait_for(lambda: "".join(self.stderr).count(f'"event": "{event}"') >= count, event)

    def reloads(self, port: int, *more: str) -> None:
        """Have `make reload` reload the relay."""
        count = "".join(self.stderr).count('"event": "reloaded"')
        assert reload(port, *more) == (0, "")
        self.logs("reloaded", count + 1)

    def has_left_nobody(self) -> bool:
        """Tell whether nobody of the process group is left."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        super().__exit__(*exc)


def listens(port: int) -> bool:
    """Tell whether a relay accepts connections on the port."""
    try:
        TestViewer(port).close()
    except ConnectionError:  # refused, or reset where the listener was closed meanwhile
        return False
    return True


def streams(port: int) -> None:
    """Wait for the relay on the port to listen, and for its stream."""
    wait_for(lambda: listens(port), "the relay to listen")
    with TestViewer(port) as viewer:
        assert viewer.subscribe().receive()[0] == 0x80  # RTP, version 2


# --- doctor


@pytest.mark.long
def test_the_doctor_gets_what_run_would_get() -> None:
    """`make doctor` looks at the port that is named, with the options of ARGS, and at HTTP."""
    port = unused_port()
    with Make("doctor", port, "ARGS=--json --max-clients 7") as make:
        assert make.wait() == 0
    found = {check["name"]: check for check in json.loads("".join(make.stdout))["checks"]}
    assert found["control_port"]["figures"]["address"] == f"{HOST}:{port}"
    assert "7 viewers" in found["descriptors"]["found"]
    assert "http_port" in found


# --- demo


def test_the_demo_leaves_nobody_when_make_is_ended() -> None:
    """SIGTERM for make alone ends the relay, in order, and the sample's sender."""
    port = unused_port()
    with Make("demo", port) as make:
        streams(port)
        make.stop(signal.SIGTERM)
        wait_for(make.has_left_nobody, "everybody to leave")
        make.logs("stopped")


def test_the_demo_ends_with_ctrl_c() -> None:
    """On a terminal the demo says what streams and how to watch it; Ctrl-C ends everybody.

    It does not say to send a stream: the sample has the ingest.
    """
    port = unused_port()
    with PseudoTerminal(*words("demo", port)) as terminal:
        terminal.contains("Ctrl-C ends the relay.")
        assert f"client.py {HOST} {port} 5004 --vlc=rtp" in terminal.text
        assert "Send a stream" not in terminal.text
        streams(port)
        terminal.type("\x03")
        terminal.process.wait(PATIENCE)
        terminal.contains("stopped")
        assert "Traceback" not in terminal.text


def test_the_demo_ends_with_its_terminal() -> None:
    """When the terminal is closed, and so its shell ends, nobody is left on the port."""
    port = unused_port()
    with PseudoTerminal("sh", "-c", '"$@"; true', "sh", *words("demo", port)) as terminal:
        streams(port)
        terminal.hang_up()
        terminal.process.wait(PATIENCE)
        wait_for(lambda: not listens(port), "the relay to end")


def test_the_demo_survives_a_reload() -> None:
    """SIGHUP reloads the demo's relay, and the stream goes on."""
    port = unused_port()
    command = (sys.executable, "tools/demo.py", HOST, str(port))
    with ChildProcess(*command) as demo:
        streams(port)
        demo.process.send_signal(signal.SIGHUP)
        wait_for(lambda: '"reloaded"' in "".join(demo.stderr), "the reload")
        streams(port)
        assert demo.stop() == 0


def test_a_demo_that_cannot_start_sends_nothing() -> None:
    """Where another relay has the port the demo fails, and that relay gets no stream from it."""
    with RelayProcess() as relay, Make("demo", relay.port) as make:
        assert make.wait() != 0
        assert make.has_left_nobody()
        assert "already in use" in "".join(make.stderr)
        assert relay.stop() == 0
        assert relay.events("stopped", received=0)


@pytest.mark.parametrize("ingest", ["", "--ingest-port 0", "--ingest-port {port}"])
def test_the_demo_finds_the_ingest(ingest: str) -> None:
    """The sample reaches a relay that takes any free port, or has another one for the stream."""
    with Make("demo", 0, f"ARGS={ingest.format(port=unused_port())}") as make:
        make.logs("ingest_started")


def test_a_demo_with_nothing_to_send_says_so(tmp_path: Path) -> None:
    """Where the sample cannot be sent the demo ends, and says why in its last line."""
    for part in ("relaylib", "tools"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("*.ts"))
    shutil.copy(ROOT / "relay.py", tmp_path)
    with ChildProcess(sys.executable, tmp_path / "tools" / "demo.py", HOST, "0") as demo:
        assert demo.wait() == 1
        assert "cannot read" in demo.stderr[-1]
        assert any('"stopped"' in line for line in demo.stderr)


def test_the_words_of_the_demo_are_those_of_the_relay() -> None:
    """Its help says so and what the demo is; what the relay refuses is a line, as the relay's."""
    with ChildProcess(sys.executable, "tools/demo.py", HOST, "--help") as demo:
        assert demo.wait() == 0
        assert demo.stdout[0].startswith("usage: demo.py ")
        assert "sample" in "".join(demo.stdout)
    with ChildProcess(sys.executable, "tools/demo.py", HOST, "puerto") as demo:
        assert demo.wait() == 2
        assert len(demo.stderr) == 1
        assert demo.stderr[0].startswith("relay.py: argument PORT: ")


def test_the_demo_without_its_library_says_what_to_do() -> None:
    """Under an interpreter without structlog there is a line instead of a traceback."""
    with ChildProcess(sys.executable, "-S", "tools/demo.py") as demo:
        assert demo.wait() == 1
        assert demo.stderr == ["demo.py: needs the Python package structlog: make demo\n"]


# --- run and reload


@pytest.fixture
def pid_file(tmp_path: Path) -> Path:
    """Where `make run` notes its process ID in this test."""
    return tmp_path / "relay.pid"


@contextlib.contextmanager
def running(port: int, pid_file: Path) -> Iterator[Make]:
    """A relay of `make run`, when it listens."""
    with Make("run", port, f"PIDFILE={pid_file}") as make:
        make.logs("listening")
        yield make


def reload(port: int, *more: str) -> tuple[int, str]:
    """Ask for a reload; return the exit status of make and its first line on stderr."""
    with Make("reload", port, *more) as make:
        return make.wait(), "".join(make.stderr[:1])


def test_reload_reloads_the_relay_of_make_run(pid_file: Path) -> None:
    """`make reload` finds the relay by its port, and again after the reload; or by its number."""
    port = unused_port()
    with running(port, pid_file) as make:
        make.reloads(port, f"PIDFILE={pid_file}")
        make.reloads(port, f"PIDFILE={pid_file}")
        make.reloads(9000, f"PID={pid_file.read_text().strip()}")


def test_a_run_that_fails_does_not_hide_the_one_that_lives(pid_file: Path) -> None:
    """A second `make run` on the port fails, and `make reload` still finds the first."""
    port = unused_port()
    with running(port, pid_file) as first:
        with Make("run", port, f"PIDFILE={pid_file}") as second:
            assert second.wait() != 0
        first.reloads(port, f"PIDFILE={pid_file}")


def test_a_number_that_is_another_relays_by_now(relay: RelayProcess, pid_file: Path) -> None:
    """A noted process that is a relay on another port is left alone; `make run` notes its own."""
    port = unused_port()
    pid_file.write_text(f"{relay.pid}\n")
    status, said = reload(port, f"PIDFILE={pid_file}")
    assert status == 2
    assert said.startswith(f"no relay of make run on port {port}; ")
    with running(port, pid_file) as make:
        make.reloads(port, f"PIDFILE={pid_file}")
    assert relay.stop() == 0
    assert not relay.events("reload_started")


@pytest.mark.parametrize("noted", [None, "", "999999999"])
def test_nothing_to_reload(noted: str | None, pid_file: Path) -> None:
    """Where nobody runs that is said in a line."""
    if noted is not None:
        pid_file.write_text(noted)
    status, said = reload(9000, f"PIDFILE={pid_file}")
    assert status == 2
    assert said.startswith("no relay of make run on port 9000; ")


# --- words


@pytest.mark.parametrize("name", ["HOST", "PORT", "ARGS", "PID"])
@pytest.mark.parametrize("target", ["run", "demo", "reload"])
def test_the_environment_is_not_the_command_line(name: str, target: str) -> None:
    """A shell that exports HOST changes nothing; the command line does."""
    need("make")
    command = ("make", "-n", "-o", ".venv/.ready", target)
    clean = {key: value for key, value in os.environ.items() if key not in INHERITED}
    with ChildProcess(*command, env={**clean, name: "nonsense"}) as make:
        assert make.wait() == 0
        assert "nonsense" not in "".join(make.stdout)
    with ChildProcess(*command, f"{name}=nonsense", env=clean) as make:
        assert make.wait() == 0
        used = {"run": "HOST PORT ARGS", "demo": "HOST PORT ARGS", "reload": "PORT PID"}
        assert ("nonsense" in "".join(make.stdout)) == (name in used[target].split())
