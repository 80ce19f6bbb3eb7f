"""The client that nobody attends: `--script`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.lab.client import Client, FakeRelay, run
from tools.lab.process import PATIENCE, ROOT
from tools.lab.relay import RelayProcess
from tools.lab.viewer import TestViewer

SPANISH = {"LC_ALL": "es_ES.UTF-8"}


@pytest.mark.parametrize("env", [{}, SPANISH])
def test_a_script_is_carried_out(tmp_path: Path, env: dict[str, str]) -> None:
    """From a file, in order, with its waits: only the relay's words are on standard output, the
    same in every language.
    """
    script = tmp_path / "x.txt"
    script.write_text("CONECTAR 6000 # there\nESPERAR 0.1\n\nINTERRUMPIR\nAYUDA\nESTADO\n")
    with RelayProcess() as relay:
        status, out, err = run("127.0.0.1", str(relay.port), "5004", "--script", str(script), **env)
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[:3] == ["OK", "OK", "commands:"]
    assert lines[-2].startswith("OK estado=pausado destino=127.0.0.1:6000 ")
    assert lines[-1] == "OK"


def test_standard_input_is_left_alone_unless_it_is_the_script(fake: FakeRelay) -> None:
    """A loop in a shell that feeds names to `read` keeps them; `-` reads the script there."""
    for words, text in ((("CONECTAR",), "secret\n"), (("-",), "CONECTAR\n")):
        with Client(fake.port, "--script", *words, text=text, last=True) as client:
            assert fake.accept().line() == "CONECTAR 5004"
            fake.send(b"OK\n")
            assert fake.line() == "DESCONECTAR"
            fake.send(b"OK\n")
            assert client.wait() == 0
            fake.hang_up()


def test_the_first_failure_ends_it(tmp_path: Path) -> None:
    """The rest is not sent; the place, the command and the relay's reason are one line, status 1.
    With `--reconnect`, too: what the relay declines is not the connection's fault.
    """
    script = tmp_path / "x.txt"
    script.write_text("ESTADO\nCONECTAR\nESTADO\n")
    with RelayProcess() as relay, TestViewer(relay.port) as other:
        assert other.command("CONECTAR 5004") == "OK"
        for options in ((), ("--reconnect",)):
            with Client(relay.port, "--script", str(script), *options) as client:
                assert client.wait() == 1
            assert client.stdout[1].startswith("ERROR ")
            assert client.stdout[2:] == ["OK\n"]
            line = f"client.py: {script}, line 2: CONECTAR 5004: {client.stdout[1]}"
            assert client.stderr[-1] == line


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("CONECTAR; CONTINUAR", "--script: CONTINUAR is not valid now (streaming): not sent"),
        ("CONECTAR; INTERRUMPIR", "--script: no answer to INTERRUMPIR in 2 s: it hangs"),
    ],
)
def test_what_is_not_sent_or_not_answered_is_a_failure(
    fake: FakeRelay, script: str, reason: str
) -> None:
    """A command out of order, and one that gets no answer, end a script like an ERROR."""
    with Client(fake.port, "--script", script) as client:
        assert fake.accept().line() == "CONECTAR 5004"
        fake.send(b"OK\n")
        if fake.line() == "ESTADO":
            fake.send(b"OK estado=transmitiendo\n")
        assert fake.line() == "DESCONECTAR"
        fake.send(b"OK\n")
        assert client.wait() == 1
    assert client.stderr[0].startswith(f"client.py: {reason}")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("/nowhere.txt", "cannot read /nowhere.txt: No such file or directory"),
        ("/", "cannot read /: Is a directory"),
        ("CONECTAR; HOLA", "--script: unknown command: 'HOLA' (AYUDA lists them)"),
    ],
)
def test_a_wrong_script_is_a_wrong_argument(script: str, reason: str) -> None:
    """It is said in one line before anything is connected, with status 2."""
    done = run("127.0.0.1", "1", "5004", "--script", script, "--reconnect")
    assert done == (2, "", f"client.py: {reason}\n")


def test_a_signal_ends_a_wait(fake: FakeRelay) -> None:
    """A script that waits says goodbye at once; what was still to come makes the status 1."""
    with Client(fake.port, "--script", "CONECTAR; ESPERAR 86400; INTERRUMPIR") as client:
        assert fake.accept().line() == "CONECTAR 5004"
        fake.send(b"OK\n")
        client.prints("OK")
        client.process.send_signal(signal.SIGTERM)
        assert fake.line() == "DESCONECTAR"
        fake.send(b"OK\n")
        assert client.wait() == 1


def test_messages_follow_the_locale() -> None:
    """Errors and help are Spanish where the locale is; the exit status is the same."""
    status, _, err = run("127.0.0.1", "0", "5004", **SPANISH)
    assert (status, err) == (
        2,
        "client.py: argumento PORT: no es un puerto (1 a 65535): '0' (--help lo explica)\n",
    )
    assert "conexión se pierde" in run("--help", **SPANISH)[1]
    assert "conexion se pierde" in run("--help", PYTHONIOENCODING="ascii", **SPANISH)[1]


def test_a_reader_that_went_away_ends_it(fake: FakeRelay) -> None:
    """When nobody reads the replies any more, the client leaves politely, also with --reconnect."""
    reader, writer = os.pipe()
    os.close(reader)
    argv = (sys.executable, "client.py", "127.0.0.1", str(fake.port), "5004", "--reconnect")
    client = subprocess.Popen(
        [*argv, "--script", "CONECTAR"],
        stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, text=True,
    )  # fmt: skip
    os.close(writer)
    with client:
        assert fake.accept().line() == "ESTADO"
        fake.send(b"OK estado=inactivo\n")
        assert fake.line() == "CONECTAR 5004"
        fake.send(b"OK\n")
        assert fake.line() == "DESCONECTAR"
        fake.send(b"OK\n")
        _, err = client.communicate(timeout=PATIENCE)
    assert client.returncode == 1
    assert err.splitlines()[-1] == "client.py: cannot write: Broken pipe"
