"""The service manager's protocol, spoken with a socket and descriptors as systemd has them."""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tools.lab.attacks import leave_descriptors
from tools.lab.process import PATIENCE, ChildProcess
from tools.lab.relay import RelayProcess
from tools.lab.reloads import CountingViewers, NumberedStream, hang_up, reload
from tools.lab.sockets import unused_port
from tools.lab.viewer import TestViewer


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.path = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(PATIENCE)

    def told(self) -> dict[str, str]:
        """Return the next message."""
        lines = self._socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def told_state(self) -> dict[str, str]:
        """Return the next message that is not just a beat of the watchdog, or how it goes."""
        while (message := self.told()).keys() in ({"WATCHDOG"}, {"STATUS"}):
            pass
        return message

    def told_status(self) -> str:
        """Return how it goes, the next time that it is told and nothing else is."""
        while (message := self.told()).keys() != {"STATUS"}:
            pass
        return message["STATUS"]


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """A manager that listens on a path, or on a name without one."""
    names = {"path": str(tmp_path / "notify"), "abstract": f"@relay-test-{os.getpid()}"}
    with contextlib.closing(Manager(names[request.param])) as it:
        yield it


def managed(manager: Manager, *options: str, **env: str) -> RelayProcess:
    """A relay that has a manager."""
    return RelayProcess(*options, env={**os.environ, "NOTIFY_SOCKET": manager.path, **env})


# --- sd_notify


def test_the_manager_is_told_of_everything(manager: Manager) -> None:
    """READY=1 once it listens, RELOADING=1 and READY=1 for a reload, STOPPING=1 at the end.

    A beat goes with READY=1, as the last one may be old, and the last failure is forgotten. So do
    the ports of control, ingest and HTTP, which may be free ones.
    """
    with managed(manager) as relay:
        first = manager.told_state()
        assert first["READY"] == "1"
        assert first["X_RELAY_PORTS"] == f"{relay.port} {relay.ingest_port} 0"
        asked = time.monotonic_ns() // 1000
        reload(relay)
        reloading = manager.told_state()
        assert reloading["RELOADING"] == "1"
        assert asked <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert manager.told_state() == first == first | {"STATUS": "", "WATCHDOG": "1"}
        assert relay.stop() == 0
        assert manager.told_state() == {"STOPPING": "1"}


def test_the_manager_is_told_of_a_reload_that_failed(tmp_path: Path) -> None:
    """A reload that failed ends, too: with READY=1 and the reason as the status."""
    conf = tmp_path / "relay.conf"
    conf.touch()
    with (
        contextlib.closing(Manager(str(tmp_path / "notify"))) as manager,
        managed(manager, f"@{conf}") as relay,
    ):
        manager.told_state()
        conf.write_text("--nonsense")
        hang_up(relay)
        assert manager.told_state()["RELOADING"] == "1"
        failed = manager.told_state()
        assert failed["READY"] == "1"
        assert failed["STATUS"].startswith("Reload failed: relay.py: ")
        assert manager.told_status().startswith(f"{failed['STATUS']}; silence (no source sends): ")


def test_who_is_behind_watches(manager: Manager) -> None:
    """The sentence counts viewers who went back among those who are sent the stream."""
    with managed(manager, "--timeshift", "60") as relay, TestViewer(relay.port) as viewer:
        viewer.subscribe()
        with NumberedStream(relay.ingest_port):
            viewer.receive()
            assert viewer.command("RETROCEDER 1") == "OK"
            assert any("1 of 1 viewers" in manager.told_status() for _ in range(3))


def test_the_watchdog_never_waits_too_long(tmp_path: Path) -> None:
    """It beats at half the period allowed, and none is missed for a reload."""
    allowed = 4.0
    beats: list[float] = []
    with (
        contextlib.closing(Manager(str(tmp_path / "notify"))) as manager,
        managed(manager, WATCHDOG_USEC=f"{allowed * 1e6:.0f}") as relay,
    ):
        while len(beats) < 4:
            if manager.told().get("WATCHDOG") != "1":
                continue
            beats.append(time.monotonic())
            if len(beats) == 2:
                hang_up(relay)
    gaps = [later - earlier for earlier, later in pairwise(beats)]
    assert allowed / 4 < max(gaps) < allowed


def test_the_watchdog_beats_without_descriptors(tmp_path: Path) -> None:
    """A relay that has no descriptor left is alive, and says so."""
    with (
        contextlib.closing(Manager(str(tmp_path / "notify"))) as manager,
        managed(manager, WATCHDOG_USEC="200000") as relay,
    ):
        assert manager.told_state()["READY"] == "1"
        leave_descriptors(relay, 0)
        with TestViewer(relay.port) as viewer:
            assert viewer.reply() == "ERROR el relay no admite mas conexiones: pruebe mas tarde"
        for _ in range(3):
            while manager.told() != {"WATCHDOG": "1"}:
                pass


# --- socket activation

LAUNCHER = """
import os, sys
fds = [int(word) for word in sys.argv[1].split(",")]
for index, fd in enumerate(fds):
    os.dup2(fd, 60 + index)
for index in range(len(fds)):
    os.dup2(60 + index, 3 + index, inheritable=True)
    os.close(60 + index)
os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_PID=sys.argv[2] or str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Puts descriptors where sd_listen_fds(3) looks for them, as systemd does before it execs."""


def launched(*sockets: Any, pid: str = "") -> dict[str, Any]:
    """Arguments for a `RelayProcess` that is started with these sockets."""
    fds = [each.fileno() for each in sockets]
    words = (sys.executable, "-c", LAUNCHER, ",".join(map(str, fds)), pid)
    return {"prefix": words, "pass_fds": fds}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A TCP socket that listens, blocking as systemd's are."""
    with socket.create_server(("127.0.0.1", unused_port()), backlog=16) as sock:
        yield sock


@pytest.fixture
def ingest() -> Iterator[socket.socket]:
    """A bound UDP socket, blocking as systemd's are."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", unused_port()))
        yield sock


def streams(relay: RelayProcess, ports: tuple[int, int]) -> None:
    """Assert that the relay serves on these ports, and still does after a reload."""
    assert (relay.port, relay.ingest_port) == ports
    with TestViewer(relay.port) as viewer, CountingViewers([viewer]) as audience:
        viewer.subscribe()
        with NumberedStream(relay.ingest_port) as stream:
            relay.wait_event("ingest_started")
            reload(relay)
        audience.expect(stream.sent)


@pytest.mark.parametrize("reverse", [False, True])
def test_both_sockets_are_given(
    listener: socket.socket, ingest: socket.socket, reverse: bool
) -> None:
    """The relay takes its TCP and its UDP socket in any order, and reloads with them."""
    sockets = (ingest, listener) if reverse else (listener, ingest)
    ports = (listener.getsockname()[1], ingest.getsockname()[1])
    with RelayProcess(**launched(*sockets)) as relay:
        streams(relay, ports)
        assert relay.stop() == 0
    with RelayProcess(**launched(*sockets)) as relay:  # stopped and started, with another source
        streams(relay, ports)


def test_the_listener_alone_is_given(listener: socket.socket) -> None:
    """The ingest is opened on the port of the listener."""
    port = listener.getsockname()[1]
    with RelayProcess(**launched(listener)) as relay:
        streams(relay, (port, port))


def test_the_ingest_alone_is_given(ingest: socket.socket) -> None:
    """The listener is opened on the port of the ingest."""
    port = ingest.getsockname()[1]
    with RelayProcess(**launched(ingest)) as relay:
        streams(relay, (port, port))


def test_sockets_for_another_process(listener: socket.socket) -> None:
    """What is meant for another process (LISTEN_PID) is left alone."""
    with RelayProcess(**launched(listener, pid="1")) as relay:
        assert relay.port != listener.getsockname()[1]


@pytest.mark.parametrize("count", ["-1", "0", "two", "\u0662", "9" * 5000])
def test_a_number_of_sockets_that_is_none(count: str) -> None:
    """A LISTEN_FDS that is no number of sockets stands for none."""
    words = ("sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS="$0" exec "$@"', count)
    with RelayProcess(prefix=words) as relay:
        assert relay.stop() == 0


def test_wrong_sockets(listener: socket.socket, tmp_path: Path) -> None:
    """Anything but one TCP and one UDP socket is one line and exit status 1."""
    with (
        socket.create_server(("127.0.0.1", 0)) as second,
        socket.socket(socket.AF_UNIX) as local,
        socket.socket() as deaf,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unbound,
        (tmp_path / "file").open("w") as file,
    ):
        local.bind(str(tmp_path / "local"))
        local.listen()
        for sockets in ((listener, second), (local,), (deaf,), (unbound,), (file,)):
            options = launched(*sockets)
            words = (*options["prefix"], sys.executable, "relay.py", "127.0.0.1", "0")
            with ChildProcess(*words, pass_fds=options["pass_fds"]) as program:
                assert program.wait() == 1
                assert len(program.stderr) == 1
                assert "from the service manager" in program.stderr[0]
