"""The client and the player that it opens."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.lab.client import FakeRelay, run
from tools.lab.process import PATIENCE, Program, need, need_ipv6, wait_for
from tools.lab.relay import Relay
from tools.lab.sockets import udp_socket

VLC = """#!/bin/sh
echo "$@" >{folder}/arguments.new
mv {folder}/arguments.new {folder}/arguments
{trap}
echo $$ >{folder}/pid.new; mv {folder}/pid.new {folder}/pid
while :; do sleep 0.05; done
"""


class FakeVlc:
    """A program named vlc that notes its arguments and waits to be ended."""

    def __init__(self, folder: Path, trap: str = "") -> None:
        self._folder = folder
        script = folder / "vlc"
        script.write_text(VLC.format(folder=folder, trap=trap))
        script.chmod(0o755)
        self.path = f"{folder}:/usr/bin:/bin"

    @property
    def arguments(self) -> str:
        """What it was started with, once it was."""
        file = self._folder / "arguments"
        wait_for(file.exists, "the player")
        return file.read_text().strip()

    @property
    def pid(self) -> int:
        """Its process ID, once it waits."""
        file = self._folder / "pid"
        wait_for(file.exists, "the player")
        return int(file.read_text())

    def running(self) -> bool:
        """Tell whether it runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


@pytest.fixture
def fake() -> Iterator[FakeRelay]:
    """A relay played by the test."""
    with FakeRelay() as fake:
        yield fake


def client(port: int, path: str, *words: str, host: str = "127.0.0.1") -> Program:
    """A client that finds its player on `path`; its input stays open."""
    argv = (sys.executable, "client.py", *words, host, str(port), "5004")
    return Program(*argv, stdin=-1, env={**os.environ, "PATH": path})


@pytest.mark.parametrize(
    ("option", "url"),
    [
        ("--vlc", "udp://@:5004"),
        ("--vlc=rtp", "rtp://@:5004"),
        ("--vlc=udp", "udp://@:5004"),
    ],
)
def test_the_player_opens_the_right_address(
    fake: FakeRelay, tmp_path: Path, option: str, url: str
) -> None:
    """VLC is started on the address where the stream will arrive, and closed on leaving."""
    vlc = FakeVlc(tmp_path)
    with client(fake.port, vlc.path, option) as program:
        fake.accept()
        assert vlc.arguments == url
        assert vlc.running()
        program.process.send_signal(signal.SIGINT)
        assert fake.line() == "DESCONECTAR"
        assert vlc.running()  # the terminal's signals are not for the player
        fake.send(b"OK\n")
        assert program.wait() == 0
    assert not vlc.running()


def test_over_ipv6_the_player_listens_on_ipv6(tmp_path: Path) -> None:
    """The stream comes to the address of the control connection, so VLC must have it open."""
    need_ipv6("::1")
    vlc = FakeVlc(tmp_path)
    with Relay(host="::1") as relay, client(relay.port, vlc.path, "--vlc", host="::1") as program:
        assert vlc.arguments == "udp://@[::]:5004"
        assert program.stop() == 0


@pytest.mark.parametrize("how", ["closed", "gone"])
def test_the_player_does_not_outlive_the_client(fake: FakeRelay, tmp_path: Path, how: str) -> None:
    """The player is closed however the session ends, even one that ignores SIGTERM."""
    vlc = FakeVlc(tmp_path, trap="trap '' TERM")
    with client(fake.port, vlc.path, "--vlc") as program:
        fake.accept()
        assert vlc.running()
        if how == "closed":
            program.process.stdin.close()  # type: ignore[union-attr]
            assert fake.line() == "DESCONECTAR"
            fake.send(b"OK\n")
        fake.close()
        assert program.wait() == (0 if how == "closed" else 1)
    assert not vlc.running()


@pytest.mark.parametrize(
    ("trap", "word"), [("trap 'exit 0' TERM", "is closed"), ("trap 'exit 1' TERM", "failed (try ")]
)
def test_the_player_ending_does_not_end_the_session(
    fake: FakeRelay, tmp_path: Path, trap: str, word: str
) -> None:
    """When the player is closed or fails the client says so and goes on."""
    vlc = FakeVlc(tmp_path, trap)
    with client(fake.port, vlc.path, "--vlc") as program:
        fake.accept()
        os.kill(vlc.pid, signal.SIGTERM)
        wait_for(lambda: program.stderr, "a word about the player")
        assert program.stderr[0].startswith(f"the player {word}")
        assert program.stderr[0].endswith("; the session goes on\n")
        program.process.stdin.write(b"CONECTAR\n")  # type: ignore[union-attr]
        program.process.stdin.flush()  # type: ignore[union-attr]
        assert fake.line() == "CONECTAR 5004"


def test_real_vlc(fake: FakeRelay, tmp_path: Path) -> None:
    """The real VLC has the port open while the client runs, and not after it."""
    need("cvlc", "setpriv")
    (tmp_path / "home").mkdir(mode=0o777)
    (tmp_path / "home").chmod(0o777)
    tmp_path.chmod(0o755)
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups" if os.getuid() == 0 else ""
    script = tmp_path / "vlc"
    script.write_text(f'#!/bin/sh\nHOME={tmp_path}/home exec {nobody} cvlc "$@"\n')
    script.chmod(0o755)
    with udp_socket() as free:
        port: int = free.getsockname()[1]
    argv = (sys.executable, "client.py", "127.0.0.1", str(fake.port), str(port), "--vlc=udp")
    path = f"{tmp_path}:{os.environ['PATH']}"
    with Program(*argv, stdin=-1, env={**os.environ, "PATH": path}) as program:
        fake.accept()
        wait_for(lambda: taken(port), f"VLC to open UDP port {port}")
        program.process.stdin.close()  # type: ignore[union-attr]
        assert fake.line() == "DESCONECTAR"
        fake.send(b"OK\n")
        assert program.wait() == 0
        assert not taken(port)


def taken(port: int) -> bool:
    """Tell whether someone has a UDP port open on every address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("0.0.0.0", port))
        except OSError:
            return True
    return False


def test_a_missing_player_is_said_before_anything_else(tmp_path: Path) -> None:
    """Without VLC on PATH the client says so, in one line, and does not connect."""
    status, out, err = run("127.0.0.1", "1", "5004", "--vlc", PATH=str(tmp_path))
    assert (status, out) == (1, "")
    assert err.startswith("client.py: --vlc: there is no vlc on PATH")
    assert err.count("\n") == 1


def test_a_player_that_cannot_be_started_is_one_line(fake: FakeRelay, tmp_path: Path) -> None:
    """A vlc that the system cannot execute is one line on standard error."""
    script = tmp_path / "vlc"
    script.write_bytes(b"\x7fELF nonsense")
    script.chmod(0o755)
    with client(fake.port, str(tmp_path), "--vlc") as program:
        assert program.wait(PATIENCE) == 1
    assert program.stderr == [f"client.py: --vlc: cannot start {script}: Exec format error\n"]


def test_no_player_without_a_relay(tmp_path: Path, fake: FakeRelay) -> None:
    """The player is opened after the connection stands, not when it fails."""
    vlc = FakeVlc(tmp_path)
    fake.close()
    with client(fake.port, vlc.path, "--vlc") as program:
        assert program.wait() == 1
    assert not (tmp_path / "arguments").exists()
