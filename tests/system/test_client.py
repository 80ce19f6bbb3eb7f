"""The client on pipes and files: commands in, replies out, exit status."""

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import pytest

from relaylib.client.link import connect
from relaylib.protocol.commands import Verb
from tools.lab.client import VLCPORT, Client, FakeRelay, run
from tools.lab.process import PATIENCE, ROOT, need_ipv6
from tools.lab.relay import RelayProcess


@pytest.fixture(scope="module")
def relay() -> Iterator[RelayProcess]:
    """One relay for all tests of this file that need a real one."""
    with RelayProcess() as relay:
        yield relay


def report(state: str, port: int = VLCPORT) -> str:
    """The relay's answer to ESTADO before any stream."""
    destination = "-" if state == "inactivo" else f"127.0.0.1:{port}"
    facts = "fuente=ausente forma=opaca salud=silencio"
    delay = "0.0" if state == "transmitiendo" else "-"
    return (
        f"OK estado={state} destino={destination} enviados=0 perdidos=0 {facts} retraso={delay}\n"
    )


def test_piped_commands_are_all_answered(relay: RelayProcess) -> None:
    """Commands piped in at once are sent in order, all replies are printed, the exit is clean."""
    text = "CONECTAR\nESTADO\ninterrumpir\r\n\nESTADO\ncontinuar\nconectar-6000\nESTADO\n"
    with Client(relay.port, text=text + "DESCONECTAR\nESTADO\n", last=True) as client:
        assert client.wait() == 0
    expected = ["OK\n", report("transmitiendo"), "OK\n", report("pausado"), "OK\n", "OK\n"]
    assert client.stdout == [*expected, report("transmitiendo", 6000), "OK\n"]
    assert client.stderr == []


def test_commands_may_come_from_a_file(relay: RelayProcess) -> None:
    """Redirected input works, also where the last line has no ending, and its end disconnects."""
    with tempfile.TemporaryFile() as script:
        script.write(b"ESTADO\nCONECTAR 7000\nESTADO")
        script.seek(0)
        status, out, err = run("127.0.0.1", str(relay.port), "5004", stdin=script)
    assert (status, err) == (0, "")
    assert out == report("inactivo") + "OK\n" + report("transmitiendo", 7000) + "OK\n"
    relay.wait_event("client_gone", reason="disconnected")


def test_empty_input_connects_and_leaves(relay: RelayProcess) -> None:
    """With nothing to say the client says goodbye."""
    assert run("127.0.0.1", str(relay.port), "5004") == (0, "OK\n", "")


def test_every_address_of_a_name_is_tried(
    relay: RelayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name whose first address refuses reaches the relay at the second, on a tuned socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()
    addresses = [closed, ("127.0.0.1", relay.port)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    with connect("relay.example", 9000) as sock:
        assert sock.getpeername() == addresses[1]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)  # or it may vanish unnoticed


def test_ipv6() -> None:
    """The relay may be given by IPv6 address."""
    need_ipv6("::1")
    with (
        RelayProcess(host="::1") as relay,
        Client(relay.port, host="::1", text="CONECTAR\nESTADO\n") as c,
    ):
        c.prints(f"destino=[::1]:{VLCPORT}")


def test_wrong_commands_are_explained_and_not_sent(relay: RelayProcess) -> None:
    """What is not valid is said on standard error; the relay, which answers all, hears none."""
    text = "INTERRUMPIR\nHOLA\nCONECTAR 80\nESTADO 1\nCONECTAR\nCONTINUAR\nDESCONECTAR\n"
    with Client(relay.port, text=text) as client:
        assert client.wait() == 1
    assert client.stdout == ["OK\n", "OK\n"]
    assert client.stderr == [
        "INTERRUMPIR is not valid now (idle): not sent\n",
        "unknown command: 'HOLA' (AYUDA lists them): not sent\n",
        "'CONECTAR 80': CONECTAR takes one UDP port, 1024 to 65535, or none: not sent\n",
        "'ESTADO 1': ESTADO does not take that: not sent\n",
        "CONTINUAR is not valid now (streaming): not sent\n",
    ]


@pytest.mark.parametrize("text", ["CONECTAR\nESTADO\n", "HOLA\n", "CONECTAR 80\n", "CONTINUAR\n"])
def test_a_script_that_failed_is_no_success(relay: RelayProcess, text: str) -> None:
    """Unattended, one command that is answered with ERROR or not sent makes the status 1."""
    with Client(relay.port, text="CONECTAR\n") as other:
        other.prints("OK")  # it has the port
        with Client(relay.port, text=text, last=True) as client:
            assert client.wait() == 1
        assert other.stop() == 0


def test_a_signal_leaves_a_script_unfinished(fake: FakeRelay) -> None:
    """Unattended, commands that were waiting when a signal came were not sent: status 1."""
    with Client(fake.port, text="CONECTAR\nINTERRUMPIR\n") as client:
        assert fake.accept().line() == "CONECTAR 5004"
        client.process.send_signal(signal.SIGTERM)
        assert fake.line() == "DESCONECTAR"
        fake.send(b"OK\nOK\n")
        assert client.wait() == 1
    assert client.stdout == ["OK\n", "OK\n"]


def test_old_knowledge_holds_nothing_back(fake: FakeRelay) -> None:
    """The relay paused the session itself: it is asked, quietly, before CONTINUAR is held back."""
    with Client(fake.port, text="CONECTAR\nCONTINUAR\nCONTINUAR\n", last=True) as client:
        assert fake.accept().line() == "CONECTAR 5004"
        fake.send(b"OK\n")
        assert fake.line() == "ESTADO"
        fake.send(b"OK estado=pausado destino=127.0.0.1:5004\n")
        assert fake.line() == "CONTINUAR"
        fake.send(b"OK\n")
        assert fake.line() == "ESTADO"
        fake.send(b"OK estado=transmitiendo destino=127.0.0.1:5004\n")
        assert fake.line() == "DESCONECTAR"
        fake.send(b"OK\n")
        assert client.wait() == 1
    assert client.stdout == ["OK\n"] * 3
    assert client.stderr == ["CONTINUAR is not valid now (streaming): not sent\n"]


def test_help_is_local(fake: FakeRelay) -> None:
    """AYUDA is answered by the client itself: every command, and the port of a bare CONECTAR."""
    with Client(fake.port, text="ayuda\n", last=True) as client:
        assert fake.accept().line() == "DESCONECTAR"
        fake.send(b"OK\n")
        assert client.wait() == 0
    listed = [line[2:].split("  ")[0] for line in client.stdout[1:-1]]
    arguments = {Verb.CONNECT: " [PORT]", Verb.REWIND: " SECONDS"}
    assert listed == [verb.value + arguments.get(verb, "") for verb in Verb]
    assert "UDP port 5004" in client.stdout[1]


@pytest.mark.parametrize(
    "segments",
    [
        [b"OK\nOK estado=transmitiendo x=1\n"],
        [b"O", b"K", b"\n", b"OK est", b"ado=transmitiendo x=1", b"\n"],
        [b"OK\r\nOK estado=trans", b"mitiendo x=1\r\n"],
    ],
)
def test_replies_in_any_pieces(fake: FakeRelay, segments: list[bytes]) -> None:
    """However TCP cuts the relay's lines or runs them together, they are shown whole, in order."""
    with Client(fake.port, text="CONECTAR\n") as client:
        assert fake.accept().line() == "CONECTAR 5004"
        for segment in segments:
            fake.send(segment)
            time.sleep(0.01)  # so that most segments arrive alone
        client.prints("x=1")
        client.type("INTERRUMPIR\n")
        assert fake.line() == "INTERRUMPIR"
    assert client.stdout == ["OK\n", "OK estado=transmitiendo x=1\n"]


def test_one_command_at_a_time(fake: FakeRelay) -> None:
    """The next command waits for the reply of the last one, so that each is judged by facts."""
    with Client(fake.port, text="CONECTAR\nESTADO\n", last=True) as client:
        assert fake.accept().line() == "CONECTAR 5004"
        fake.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            fake.sock.recv(100)
        fake.sock.settimeout(PATIENCE)
        fake.send(b"OK\n")
        assert fake.sock.recv(100) == b"ESTADO\n"
        fake.send(b"OK estado=transmitiendo\n")
        assert fake.sock.recv(100) == b"DESCONECTAR\n"
        fake.send(b"OK\n")
        assert client.wait() == 0


def test_an_old_relay_that_answers_nothing(fake: FakeRelay) -> None:
    """Silence is said after two seconds, the commands that wait go on, and OK is not misread."""
    with Client(fake.port, text="ESTADO\nCONECTAR\nINTERRUMPIR\n", last=True) as client:
        assert fake.accept().line() == "ESTADO"  # an old relay ignores it
        assert fake.line() == "CONECTAR 5004"
        fake.send(b"OK\n")
        assert fake.line() == "INTERRUMPIR"
        fake.send(b"OK\n")
        assert fake.line() == "DESCONECTAR"
        fake.send(b"OK\n")
        assert client.wait() == 1
    assert client.stdout == ["OK\n"] * 3
    silence = "no answer to ESTADO in 2 s: it hangs, or ignores what it rejects\n"
    assert client.stderr == [silence]


def test_a_relay_that_hangs(fake: FakeRelay) -> None:
    """A relay that has said ERROR or its state is no old one: when it is silent, it hangs."""
    with Client(fake.port, text="ESTADO\nCONECTAR\n") as client:
        assert fake.accept().line() == "ESTADO"
        fake.send(b"OK estado=inactivo\n")
        client.prints("no answer to CONECTAR in 2 s: it hangs\n")


def test_a_relay_that_does_not_end_its_lines(fake: FakeRelay) -> None:
    """When the time for a reply is over, what has come without a line ending is the reply."""
    with Client(fake.port, text="CONECTAR\nESTADO\n", last=True) as client:
        assert fake.accept().line() == "CONECTAR 5004"
        fake.send(b"OK")
        assert fake.line() == "ESTADO"
        fake.send(b"OK estado=transmitiendo\n")
        assert fake.line() == "DESCONECTAR"
        fake.send(b"OK\r")
        fake.close()
        assert client.wait() == 0
    assert client.stdout == ["OK\n", "OK estado=transmitiendo\n", "OK\n"]
    assert client.stderr == []


def test_half_a_line_that_answers_nothing_is_shown(fake: FakeRelay) -> None:
    """A prompt, say, is printed when the time for a reply is over; it is not taken for one."""
    with Client(fake.port, text="CONECTAR\n") as client:
        assert fake.accept().line() == "CONECTAR 5004"
        fake.send(b"relay> ")
        client.prints("no answer to CONECTAR")
        client.prints("relay> \n")


def test_a_large_script_waits_its_turn(relay: RelayProcess) -> None:
    """A thousand commands piped in at once are all answered, in order."""
    text = "CONECTAR\n" + "INTERRUMPIR\nCONTINUAR\n" * 500
    with Client(relay.port, text=text, last=True) as client:
        assert client.wait() == 0
    assert client.stdout == ["OK\n"] * 1002


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (["localhost"], 2, "the following arguments are required: PORT, VLCPORT"),
        (["9000", "5004", "5004"], 2, "argument HOST: '9000' looks like a port: HOST comes before"),
        (["localhost", "0", "5004"], 2, "argument PORT: not a port (1 to 65535): '0'"),
        (["localhost", "9000", "80"], 2, "argument VLCPORT: not a port (1024 to 65535): '80'"),
        (["localhost", "9000", "x"], 2, "argument VLCPORT: not a port (1024 to 65535): 'x'"),
        (["localhost", "9000", "5004", "--vlc=hls"], 2, "argument --vlc: invalid choice: 'hls'"),
        (["localhost", "9000", "5004", "--quick"], 2, "unrecognized arguments: --quick"),
        (["nowhere.invalid", "9000", "5004"], 1, "unknown host: nowhere.invalid"),
        (["a" * 300, "9000", "5004"], 1, "unknown host: aaa"),
        (["[::1]", "1", "5004"], 1, "cannot connect to [::1]:1: "),
        (["255.255.255.255", "9000", "5004"], 1, "cannot connect to 255.255.255.255:9000: "),
        (
            ["fe80::1", "9000", "5004"],
            1,
            "cannot connect to [fe80::1]:9000: a link-local address "
            "needs the interface that leads there: fe80::1%",
        ),
    ],
)
def test_bad_arguments_are_one_line(words: list[str], status: int, reason: str) -> None:
    """A wrong argument or an unknown host is one line on standard error and a status."""
    code, out, err = run(*words)
    assert (code, out) == (status, "")
    assert err.startswith(f"client.py: {reason}")
    assert err.count("\n") == 1


def test_a_refused_connection_is_one_line() -> None:
    """Where no relay listens, the client says so and exits with status 1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    why = "nothing listens there: start the relay, or correct PORT"
    expected = f"client.py: cannot connect to 127.0.0.1:{port}: {why}\n"
    assert run("127.0.0.1", str(port), "5004") == (1, "", expected)


def test_help_and_version() -> None:
    """--help shows an example of each use, --version the version."""
    status, out, _ = run("--help")
    assert status == 0
    assert all(word in out for word in ("HOST PORT VLCPORT", "--vlc=rtp", "printf", "exit status"))
    assert run("--version")[1].startswith("client ")


def test_without_an_input_it_says_so(relay: RelayProcess) -> None:
    """A closed standard input is an error of its own, not a socket taken for it."""
    command = f'exec "$0" client.py 127.0.0.1 {relay.port} 5004 <&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("client.py: standard input, output and error must be open")


def test_it_needs_only_the_standard_library() -> None:
    """A viewer needs Python and these files, no installation: nothing from site-packages."""
    command = [sys.executable, "-S", "client.py", "--version"]
    assert subprocess.run(command, cwd=ROOT, timeout=PATIENCE, check=False).returncode == 0
