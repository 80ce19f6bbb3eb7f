"""The client that comes back: `--reconnect`."""

import signal
import socket
import struct

import pytest

from tools.lab.client import VLCPORT, Client, FakeRelay, run
from tools.lab.process import wait_for
from tools.lab.relay import RelayProcess
from tools.lab.sockets import udp_socket, unused_port
from tools.lab.viewer import TestViewer

IDLE = b"OK estado=inactivo destino=- enviados=0 perdidos=0\n"
AGAIN = "; trying again\n"


def let_in(fake: FakeRelay) -> FakeRelay:
    """Accept the client, and answer the question whether it may stay."""
    assert fake.accept().line() == "ESTADO"
    fake.send(IDLE)
    return fake


def answer(fake: FakeRelay, *exchange: tuple[str, bytes]) -> None:
    """Expect commands, and give these replies."""
    for command, reply in exchange:
        assert fake.line() == command
        fake.send(reply)


def reset(fake: FakeRelay) -> None:
    """End the connection with a reset."""
    fake.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    fake.hang_up()


def settled(client: Client, lines: int) -> None:
    """Wait until it has had an OK, and has said so much: what it has not read it cannot restore."""
    wait_for(lambda: client.stdout and len(client.stderr) == lines, "the client to settle")


def test_a_service_outlives_its_relay() -> None:
    """A script that began before the relay is there is carried out, its stream is there again after
    the relay was killed and after it was stopped, and SIGTERM ends the client with status 0.
    """
    port = unused_port()
    with Client(port, "--reconnect", "--script", "CONECTAR 6000") as client:
        client.prints(AGAIN)
        for lines, ends in ((2, signal.SIGKILL), (4, signal.SIGTERM), (6, None)):
            with RelayProcess(port=port) as up:
                up.wait_event("output_added", destination="127.0.0.1:6000")
                settled(client, lines)
                if ends:
                    up.stop(ends)
                else:
                    assert client.stop() == 0
                    up.wait_event("client_gone", reason="disconnected")
    assert client.stdout == ["OK\n", "OK\n"]
    lost, back = client.stderr[0::2], client.stderr[3::2]
    assert [line.endswith(AGAIN) for line in lost] == [True] * 3
    assert "el relay se detiene" in lost[2]
    assert client.stderr[1] == f"client.py: connected to 127.0.0.1:{port}\n"
    again = "the stream comes to UDP port 6000 again; what came meanwhile is lost\n"
    assert [line.partition(" s: ")[2] for line in back] == [again] * 2


@pytest.mark.parametrize(
    ("given", "restored"),
    [
        ("", []),
        ("CONECTAR\nINTERRUMPIR\n", [("CONECTAR 5004", b"OK\n"), ("INTERRUMPIR", b"OK\n")]),
        ("CONECTAR\nCONECTAR 6000\n", [("CONECTAR 6000", b"OK\n")]),
    ],
)
def test_the_state_is_what_it_was(
    fake: FakeRelay, given: str, restored: list[tuple[str, bytes]]
) -> None:
    """On a new connection the client first asks, then leads the session to where it stood."""
    with Client(fake.port, "--reconnect", text=given) as client:
        let_in(fake)
        for line in given.splitlines():
            answer(fake, (f"{line} 5004" if line == "CONECTAR" else line, b"OK\n"))
        wait_for(lambda: len(client.stdout) == given.count("\n"), "the replies")
        reset(fake)
        answer(let_in(fake), *restored)
        client.prints("connected again after")
        assert len(client.stdout) == given.count("\n")  # of what nobody typed nothing is printed
        assert len(client.stderr) == 3


def test_who_was_behind_live_is_so_again(fake: FakeRelay) -> None:
    """It goes back by what the relay told, and what it could not go back is told."""
    behind = b"OK estado=diferido destino=x enviados=1 perdidos=0 retraso=30.0\n"
    with Client(fake.port, "--reconnect", text="CONECTAR\nRETROCEDER 30\n") as client:
        answer(let_in(fake), ("CONECTAR 5004", b"OK\n"), ("RETROCEDER 30", b"OK\n"))
        answer(fake, ("ESTADO", behind))
        client.type("ESTADO\n")
        answer(fake, ("ESTADO", behind))
        client.prints("retraso=30")
        fake.hang_up()
        answer(let_in(fake), ("CONECTAR 5004", b"OK\n"))
        assert 30 <= float(fake.line().removeprefix("RETROCEDER ")) < 60
        fake.send(b"OK\n")
        answer(fake, ("ESTADO", behind.replace(b"30.0", b"12.0")))
        client.prints("12 s behind live; ")
        fake.hang_up()
        answer(let_in(fake), ("CONECTAR 5004", b"OK\n"))
        assert fake.line().startswith("RETROCEDER ")
        fake.send(b"ERROR RETROCEDER no esta disponible: este relay no guarda memoria\n")
        client.prints("live now: the relay has nothing left")
        client.type("INTERRUMPIR\n")
        answer(fake, ("INTERRUMPIR", b"OK\n"))


def test_a_command_without_an_answer_is_sent_again(fake: FakeRelay) -> None:
    """A farewell in place of its reply is no reply: the command waits for the next connection."""
    with Client(fake.port, "--reconnect", "--script", "CONECTAR") as client:
        assert let_in(fake).line() == "CONECTAR 5004"
        fake.send(b"ERROR el relay se detiene\n")
        fake.hang_up()
        answer(let_in(fake), ("CONECTAR 5004", b"OK\n"))
        client.prints("OK")
        client.process.send_signal(signal.SIGTERM)
        answer(fake, ("DESCONECTAR", b"OK\n"))
        assert client.wait() == 0
    assert client.stdout == ["OK\n", "OK\n"]


def test_a_full_relay_is_waited_for() -> None:
    """Being declined is said once, with the relay's reason, however often it happens."""
    with RelayProcess("--max-clients", "1") as relay, TestViewer(relay.port) as watching:
        watching.subscribe()
        with Client(relay.port, "--reconnect", text="CONECTAR\n", last=True) as client:
            client.prints("relay lleno")
            watching.close()
            client.prints("OK\n")
            assert client.stop() == 0
    assert client.stdout == ["OK\n", "OK\n"]
    reason = "client.py: the relay ended the session (ERROR relay lleno (1 conexiones))"
    assert client.stderr[0] == f"{reason}{AGAIN}"
    assert len(client.stderr) == 2


def test_what_will_never_do_is_not_tried_again(fake: FakeRelay) -> None:
    """A relay that does not allow this address, no relay, no such name: one line and status 1."""
    with Client(fake.port, "--reconnect") as client:
        assert fake.accept().line() == "ESTADO"
        fake.send(b"ERROR acceso no permitido desde 127.0.0.1\n")
        fake.hang_up()
        assert client.wait() == 1
    assert client.stderr == [
        "client.py: the relay ended the session: ERROR acceso no permitido desde 127.0.0.1\n"
    ]
    with Client(fake.port, "--reconnect") as client:
        fake.accept().send(b"x" * 1_000_000)
        assert client.wait() == 1
    assert client.stderr[0].startswith("client.py: what answers sends lines that are too long")
    status, out, err = run("a" * 300, "9000", "5004", "--reconnect", "--script", "CONECTAR")
    assert (status, out, err[:31]) == (1, "", "client.py: unknown host: aaaaaa")


@pytest.mark.parametrize("greeting", [b"", IDLE, b"\x80\xff garbage\n"])
def test_a_relay_that_throws_everyone_out_is_left_in_peace(
    fake: FakeRelay, greeting: bytes
) -> None:
    """One that accepts and closes for ever is tried less and less; nothing spins meanwhile."""
    with Client(fake.port, "--reconnect") as client:
        for _ in range(3):
            fake.accept().send(greeting)
            fake.hang_up()
        client.process.send_signal(signal.SIGTERM)
        assert client.wait() == 0
    assert sum(line.endswith(AGAIN) for line in client.stderr) <= 3


def test_a_half_closed_connection_is_a_lost_one(fake: FakeRelay) -> None:
    """A relay that will say no more is left, although it would still listen."""
    with Client(fake.port, "--reconnect", text="CONECTAR\n") as client:
        answer(let_in(fake), ("CONECTAR 5004", b"OK\n"))
        client.prints("OK")
        fake.sock.shutdown(socket.SHUT_WR)
        assert fake.line() == ""
        fake.hang_up()
        answer(let_in(fake), ("CONECTAR 5004", b"OK\n"))
        client.prints("again after")


@pytest.mark.long
def test_an_old_relay_answers_no_questions(fake: FakeRelay) -> None:
    """One that ignores ESTADO costs two seconds each time, and gives the stream back."""
    with Client(fake.port, "--reconnect", "--script", "CONECTAR") as client:
        for _ in range(2):
            assert fake.accept().line() == "ESTADO"
            answer(fake, ("CONECTAR 5004", b"OK\n"))
            client.prints("OK")
            if len(client.stderr) == 1:
                fake.hang_up()
        client.prints("connected again")
        assert client.stdout == ["OK\n"]


def test_another_stream_at_the_port_is_waited_for(fake: FakeRelay) -> None:
    """Where the old session still holds the destination, the client waits until it is free."""
    with Client(fake.port, "--reconnect", text="CONECTAR\n") as client:
        answer(let_in(fake), ("CONECTAR 5004", b"OK\n"))
        client.prints("OK")
        reset(fake)
        answer(let_in(fake), ("CONECTAR 5004", b"ERROR destino ocupado\n"))
        assert fake.line() == ""
        fake.hang_up()
        answer(let_in(fake), ("CONECTAR 5004", b"OK\n"))
        client.prints("again after")
    assert "CONECTAR 5004 got ERROR destino ocupado" in client.stderr[2]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_leaving_does_not_need_a_relay(signum: int) -> None:
    """While there is no relay a signal ends the client at once, with status 0."""
    with Client(unused_port(), "--reconnect", text=f"CONECTAR {VLCPORT}\n") as client:
        client.prints(AGAIN)
        assert client.stop(signum) == 0
    assert (client.stdout, len(client.stderr)) == ([], 1)


@pytest.mark.long
def test_a_stream_that_the_relay_paused_goes_on_when_the_player_is_back(fake: FakeRelay) -> None:
    """Unattended, a session that was paused for a closed port is resumed once the port is open."""
    paused = b"OK estado=pausado destino=x enviados=1 perdidos=0\n"
    port = unused_port()
    with Client(fake.port, "--reconnect", "--script", f"CONECTAR {port}") as client:
        answer(let_in(fake), (f"CONECTAR {port}", b"OK\n"))
        answer(fake, ("ESTADO", paused))  # nobody listens: no command follows
        assert fake.line() == "ESTADO"
        with udp_socket(port=port):
            fake.send(paused)
            answer(fake, ("CONTINUAR", b"OK\n"))
        client.prints(f"UDP port {port} is open again: CONTINUAR")
