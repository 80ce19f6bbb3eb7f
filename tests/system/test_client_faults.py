"""The client when the relay, its own output or its person goes away, or means harm."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.lab.client import Client, FakeRelay, run
from tools.lab.process import PATIENCE, ROOT, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.viewer import TestViewer

ENDED = "client.py: the relay ended the session\n"
CLOSED = "client.py: the relay closed the connection and did not say why\n"


def test_the_relay_closing_is_said_with_its_last_words() -> None:
    """A relay that shuts down is noticed at once: its farewell is printed, the status is 1."""
    with RelayProcess() as relay, Client(relay.port, text="CONECTAR\n") as client:
        client.prints("OK\n")
        relay.stop()
        assert client.wait() == 1
    assert client.stdout[1].startswith("ERROR ")
    assert client.stderr == [ENDED]


@pytest.mark.parametrize("last", [b"", b"ERROR adios\n", b"ERROR adi\xc3\xb3s"])
def test_last_words_may_be_cut_off(fake: FakeRelay, last: bytes) -> None:
    """Whatever came before the end of the connection is printed, also without a line ending."""
    with Client(fake.port) as client:
        fake.accept().send(last)
        fake.close()
        assert client.wait() == 1
    assert "".join(client.stdout).strip() == last.decode().strip()


def test_a_reset_is_said_at_once(fake: FakeRelay) -> None:
    """A connection that is reset ends the client with status 1; half a line is not lost."""
    with Client(fake.port, text="CONECTAR\n") as client:
        assert fake.accept().line() == "CONECTAR 5004"
        fake.send(b"hola\nERROR adios")
        client.prints("hola")
        fake.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        fake.close()
        assert client.wait() == 1
    assert client.stdout == ["hola\n", "ERROR adios\n"]
    assert [line[:27] for line in client.stderr] == ["client.py: connection lost:"]


@pytest.mark.parametrize("text", ["", "CONECTAR\n", "CONECTAR\nESTADO\n"])
def test_being_turned_away_is_no_success(text: str) -> None:
    """Where the relay does not let the viewer in the status is 1, however little was asked."""
    with RelayProcess("--max-clients", "1") as relay, TestViewer(relay.port) as watching:
        watching.subscribe()
        with Client(relay.port, text=text, last=True) as client:
            assert client.wait() == 1
    assert client.stdout == ["ERROR relay lleno (1 conexiones)\n"]
    assert client.stderr == [ENDED]


@pytest.mark.parametrize(
    ("answer", "status", "why"),
    [
        (b"OK\n", 0, ""),
        (b"OK", 0, ""),
        (b"", 0, ""),  # as old relays do
        (b"hola\n", 0, ""),
        (b"ERROR el relay se detiene\n", 1, ENDED),
        (b"ERROR el relay se", 1, ENDED),
    ],
)
def test_success_is_what_the_relay_agreed_to(
    fake: FakeRelay, answer: bytes, status: int, why: str
) -> None:
    """Leaving is success if the relay says OK to it, or closes without an ERROR."""
    with Client(fake.port, text="CONECTAR\n", last=True) as client:
        assert fake.accept().line() == "CONECTAR 5004"
        fake.send(b"OK\n")
        assert fake.line() == "DESCONECTAR"
        fake.send(answer)
        fake.close()
        assert client.wait() == status
    assert "".join(client.stderr) == why


def test_a_relay_that_closes_before_it_heard_of_the_end(fake: FakeRelay) -> None:
    """A relay that closes unasked is gone, although the input ended after its last reply."""
    with Client(fake.port, text="CONECTAR\n", last=True) as client:
        assert fake.accept().line() == "CONECTAR 5004"
        fake.send(b"OK")
        fake.close()
        assert client.wait() == 1
    assert client.stdout == ["OK\n"]
    assert client.stderr == [CLOSED]


def test_a_relay_that_does_not_confirm_the_end(fake: FakeRelay) -> None:
    """Leaving takes two seconds at most, whatever the relay does; silence is no success."""
    with Client(fake.port, last=True) as client:
        assert fake.accept().line() == "DESCONECTAR"
        assert client.wait() == 1
    assert client.stderr == ["client.py: the relay did not confirm DESCONECTAR in 2 s\n"]


@pytest.mark.skipif(sys.platform != "linux", reason="a full backlog drops only on Linux")
def test_connecting_to_a_host_that_does_not_answer_is_bounded() -> None:
    """Where no answer comes, the client gives up after 5 s."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        status, _, err = run("127.0.0.1", str(address[1]), "5004")
        for filler in fillers:
            filler.close()
    expected = f"client.py: cannot connect to 127.0.0.1:{address[1]}: no answer in 5 s\n"
    assert (status, err) == (1, expected)


def test_bytes_without_end_are_not_hoarded(fake: FakeRelay) -> None:
    """A peer that sends no lines is no relay: the client leaves instead of growing."""
    with Client(fake.port) as client:
        fake.accept().send(b"\x00" * 600)
        assert client.wait() == 1
    assert client.stderr[0].startswith("client.py: what answers sends lines that are too long")


def test_a_chattering_relay_does_not_lock_the_person_out(fake: FakeRelay) -> None:
    """While replies pour in without end, commands are still sent and Ctrl-C still ends."""
    with Client(fake.port, text="CONECTAR\n") as client:
        assert fake.accept().line() == "CONECTAR 5004"
        fake.sock.setblocking(False)
        client.process.send_signal(signal.SIGINT)
        received = b""
        deadline = time.monotonic() + PATIENCE
        while b"DESCONECTAR\n" not in received and time.monotonic() < deadline:
            try:
                fake.sock.send(b"hola\n" * 1000)
            except BlockingIOError:
                time.sleep(0.001)
            try:
                received += fake.sock.recv(100)
            except BlockingIOError:
                continue
        assert b"DESCONECTAR\n" in received
        assert client.wait() == 1  # CONECTAR was not answered


def test_control_sequences_are_defused(fake: FakeRelay) -> None:
    """A hostile relay cannot write control characters to the viewer's terminal."""
    with Client(fake.port) as client:
        fake.accept().send(b"ERROR \x1b]0;owned\x07\x1b[2J\x08\x9b\xfe\n")
        client.prints("ERROR")
        client.process.send_signal(signal.SIGTERM)
        assert fake.line() == "DESCONECTAR"
        fake.send(b"OK\n")
        assert client.wait() == 0
    assert client.stdout[0] == r"ERROR \x1b]0;owned\x07\x1b[2J\x08\x9b\xfe" + "\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP])
def test_signals_disconnect_politely(signum: int) -> None:
    """Ctrl-C, Ctrl-\\, a kill, a closed terminal say DESCONECTAR and wait for the OK: status 0."""
    with RelayProcess() as relay, Client(relay.port, text="CONECTAR\n") as client:
        client.prints("OK\n")
        assert client.stop(signum) == 0
        assert client.stdout == ["OK\n", "OK\n"]
        relay.wait_event("client_gone", reason="disconnected")


def test_a_second_signal_ends_at_once(fake: FakeRelay) -> None:
    """A second Ctrl-C does not wait for a relay that does not answer: status 130."""
    with Client(fake.port, text="ESTADO\n") as client:
        assert fake.accept().line() == "ESTADO"
        client.process.send_signal(signal.SIGINT)
        assert fake.line() == "DESCONECTAR"
        client.process.send_signal(signal.SIGINT)
        assert client.wait() == 130


def test_ctrl_c_while_starting_is_quiet(tmp_path: Path) -> None:
    """Ctrl-C while the client's parts are being loaded just ends it, without a traceback."""
    (tmp_path / "argparse.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    assert run(PYTHONPATH=str(tmp_path)) == (-signal.SIGINT, "", "")


def test_ctrl_c_while_connecting_is_quiet() -> None:
    """Before the connection stands, Ctrl-C just ends the client, without a traceback."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with socket.create_connection(listener.getsockname()):
            client = Client(listener.getsockname()[1])
            with client:
                wait_for(lambda: syn_sent(client.pid), "the client to be connecting")
                assert client.stop(signal.SIGINT) == -signal.SIGINT
    assert client.stderr == []


def syn_sent(pid: int) -> bool:
    """Tell whether a process waits for a connection to be accepted (state 02 in proc(5))."""
    with open(f"/proc/{pid}/net/tcp") as table:
        states = {row.split()[9]: row.split()[3] for row in table.readlines()[1:]}
    inodes = [link for link in links(pid) if link.startswith("socket:")]
    return any(states.get(inode[8:-1]) == "02" for inode in inodes)


def links(pid: int) -> list[str]:
    """What the descriptors of a process stand for; it may close one while we look."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(descriptor))
    return found


def test_output_that_cannot_be_written_is_one_line(fake: FakeRelay) -> None:
    """A full disk behind standard output is said once; the client leaves politely, status 1."""
    with open("/dev/full", "w") as full:
        client = subprocess.Popen(
            [sys.executable, "client.py", "127.0.0.1", str(fake.port), "5004"],
            stdin=subprocess.PIPE,
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
    with client:
        fake.accept().send(b"hola\n")
        assert fake.line() == "DESCONECTAR"
        fake.send(b"OK\n")
        _, err = client.communicate(timeout=PATIENCE)
    assert (client.returncode, err) == (1, b"client.py: cannot write: No space left on device\n")


def test_input_that_is_no_text_is_one_line(fake: FakeRelay) -> None:
    """A file of something else piped in by mistake is refused; nothing of it is sent."""
    with Client(fake.port, text="x" * 600) as client:
        assert fake.accept().line() == "DESCONECTAR"
        fake.send(b"OK\n")
        assert client.wait() == 1
    assert client.stderr == ["client.py: a line of the input is too long to be a command\n"]
