"""The client and the player that it opens."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tools.lab.client import FakeRelay, run
from tools.lab.media import NOBODY, studio
from tools.lab.process import PATIENCE, ChildProcess, need, need_ipv6, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.sockets import is_bound, unused_port

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


def client(port: int, path: str, *words: str, host: str = "127.0.0.1") -> ChildProcess:
    """A client that finds its player on `path`; its input stays open."""
    argv = (sys.executable, "client.py", *words, host, str(port), "5004")
    return ChildProcess(*argv, stdin=-1, env={**os.environ, "PATH": path})


def type_connect(fake: FakeRelay, program: ChildProcess) -> None:
    """Ask for the stream, and let the relay say yes."""
    program.process.stdin.write(b"CONECTAR\n")  # type: ignore[union-attr]
    program.process.stdin.flush()  # type: ignore[union-attr]
    assert fake.line() == "CONECTAR 5004"
    fake.send(b"OK\n")


@pytest.mark.parametrize(
    ("option", "url"),
    [
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
    with (
        RelayProcess(host="::1") as relay,
        client(relay.port, vlc.path, "--vlc", host="::1") as program,
    ):
        program.process.stdin.write(b"CONECTAR\n")  # type: ignore[union-attr]
        program.process.stdin.flush()  # type: ignore[union-attr]
        assert vlc.arguments == "udp://@[::]:5004"
        assert program.stop() == 0


@pytest.mark.parametrize(
    ("status", "url", "note"),
    [
        ("fuente=activa forma=rtp", "rtp://@:5004", ""),
        ("fuente=activa forma=ts", "udp://@:5004", ""),
        ("fuente=silencio forma=rtp", "rtp://@:5004", "the source is silent"),
        ("fuente=ausente forma=opaca salud=silencio", "udp://@:5004", "the relay has no source"),
        ("", "udp://@:5004", ""),
    ],
)
def test_what_the_source_sends_decides_what_the_player_opens(
    fake: FakeRelay, tmp_path: Path, status: str, url: str, note: str
) -> None:
    """After CONECTAR the relay is asked; one that tells less of its source gets udp://."""
    vlc = FakeVlc(tmp_path)
    with client(fake.port, vlc.path, "--vlc") as program:
        type_connect(fake.accept(), program)
        assert fake.line() == "ESTADO"
        assert not (tmp_path / "arguments").exists()
        fake.send(f"OK estado=transmitiendo enviados=0 perdidos=0 {status}\n".encode())
        assert vlc.arguments == url
        assert vlc.running()
        if note:
            wait_for(lambda: program.stderr, "a note")
        assert [line.startswith(note) for line in program.stderr] == ([True] if note else [])
        assert program.stdout == ["OK\n"]  # of what was not typed nothing is shown
        type_connect(fake, program)  # what is open stays as it is
        program.stop()  # which closes the player, though nobody answers
        wait_for(lambda: not vlc.running(), "the player to end")


def test_an_old_relay_is_asked_once(fake: FakeRelay, tmp_path: Path) -> None:
    """One that ignores ESTADO costs two seconds, no word and no failure."""
    vlc = FakeVlc(tmp_path)
    with client(fake.port, vlc.path, "--vlc") as program:
        type_connect(fake.accept(), program)
        assert fake.line() == "ESTADO"
        assert vlc.arguments == "udp://@:5004"
        type_connect(fake, program)
        program.process.stdin.close()  # type: ignore[union-attr]
        assert fake.line() == "DESCONECTAR"
        fake.send(b"OK\n")
        assert program.wait() == 0
    assert (program.stdout, program.stderr) == (["OK\n"] * 3, [])


@pytest.mark.parametrize("how", ["closed", "gone"])
def test_the_player_does_not_outlive_the_client(fake: FakeRelay, tmp_path: Path, how: str) -> None:
    """The player is closed however the session ends, even one that ignores SIGTERM."""
    vlc = FakeVlc(tmp_path, trap="trap '' TERM")
    with client(fake.port, vlc.path, "--vlc=udp") as program:
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
    with client(fake.port, vlc.path, "--vlc=udp") as program:
        fake.accept()
        os.kill(vlc.pid, signal.SIGTERM)
        wait_for(lambda: program.stderr, "a word about the player")
        assert program.stderr[0].startswith(f"the player {word}")
        assert program.stderr[0].endswith("; the session goes on\n")
        program.process.stdin.write(b"CONECTAR\n")  # type: ignore[union-attr]
        program.process.stdin.flush()  # type: ignore[union-attr]
        assert fake.line() == "CONECTAR 5004"


@pytest.mark.parametrize("form", [(), ("--rtp",)])
def test_real_vlc_shows_either_form(tmp_path: Path, form: tuple[str, ...]) -> None:
    """What `--vlc` opens understands raw MPEG-TS and RTP, and is closed with the client."""
    with studio() as room, RelayProcess() as relay:
        nobody = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups"
        script = tmp_path / "vlc"
        script.write_text(
            f"#!/bin/sh\nHOME={room} exec {nobody if os.getuid() == 0 else ''} cvlc "
            f"--sout '#std{{access=file,mux=ts,dst={room}/shown.ts}}' \"$@\"\n"
        )
        script.chmod(0o755)
        need("cvlc", "setpriv")
        port, shown = unused_port(), room / "shown.ts"
        source = (sys.executable, "tools/fake_vlc.py", "127.0.0.1", str(relay.ingest_port))
        argv = (sys.executable, "client.py", "127.0.0.1", str(relay.port), str(port), "--vlc")
        path = f"{tmp_path}:{os.environ['PATH']}"
        with (
            ChildProcess(*source, "--loop", *form),
            ChildProcess(*argv, stdin=-1, env={**os.environ, "PATH": path}) as program,
        ):
            program.process.stdin.write(b"CONECTAR\n")  # type: ignore[union-attr]
            program.process.stdin.flush()  # type: ignore[union-attr]
            wait_for(lambda: shown.exists() and shown.stat().st_size, "VLC to show the stream")
            program.process.stdin.close()  # type: ignore[union-attr]
            assert program.wait() == 0
            assert not is_bound(port)


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
    with client(fake.port, str(tmp_path), "--vlc=udp") as program:
        assert program.wait(PATIENCE) == 1
    assert program.stderr == [f"client.py: --vlc: cannot start {script}: Exec format error\n"]


def test_no_player_without_a_relay(tmp_path: Path, fake: FakeRelay) -> None:
    """The player is opened after the connection stands, not when it fails."""
    vlc = FakeVlc(tmp_path)
    fake.close()
    with client(fake.port, vlc.path, "--vlc") as program:
        assert program.wait() == 1
    assert not (tmp_path / "arguments").exists()
