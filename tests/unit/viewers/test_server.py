"""The control side in this process: faults and times that a real relay will not have on demand."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from unittest import mock

import pytest
from structlog.testing import capture_logs

from relaylib.config import Config
from relaylib.net.listen import bind_pair
from relaylib.net.loop import Loop
from relaylib.protocol import commands
from relaylib.protocol.session import State
from relaylib.stream.fanout import REFUSED_LIMIT, Fanout
from relaylib.viewers import destinations
from relaylib.viewers.access import Access, Limits
from relaylib.viewers.server import Server
from tools.lab.fanout_bench import runs_of
from tools.lab.inprocess import turn_for, turn_until
from tools.lab.sockets import unused_port


class Desk:
    """A server in its loop, its listener on loopback, and the bugs that the loop reported."""

    def __init__(self) -> None:
        self.bugs: list[Exception] = []
        self.loop = Loop(self.bugs.append)
        self.fanout = Fanout(segmentation=True)
        self.listener, self.ingest = bind_pair("127.0.0.1", 0, None)
        name = self.ingest.getsockname()
        self.server = Server(self.loop, self.listener, self.fanout, name, Config())
        self.fanout.on_refused = self.server.destinations.player_refused
        self.peers: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """Connect a peer, and wait until it is a client."""
        peer = socket.create_connection(self.listener.getsockname())
        peer.setblocking(False)
        self.peers.append(peer)
        count = len(self.server.clients)
        turn_until(self.loop, lambda: len(self.server.clients) > count, "the client")
        return peer

    def ask(self, peer: socket.socket, line: str) -> str:
        """Send a command and return its reply."""
        peer.send(line.encode() + b"\n")
        return self.reply(peer)

    def reply(self, peer: socket.socket) -> str:
        """Read a reply; empty at the end."""
        data: list[bytes] = []

        def read() -> bool:
            with contextlib.suppress(BlockingIOError):
                data.append(peer.recv(4096))
            return bool(data)

        turn_until(self.loop, read, "a reply")
        return data[0].decode()

    def close(self) -> None:
        """Close everything."""
        self.server.close("fin")
        for peer in self.peers:
            peer.close()
        turn_until(self.loop, lambda: not self.server.clients, "the clients' end")
        self.loop.close()
        self.ingest.close()
        if self.server._spare is not None:
            os.close(self.server._spare)


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A desk that is closed at the end."""
    made = Desk()
    yield made
    made.close()


def test_a_player_that_stays_closed_pauses_the_session(desk: Desk) -> None:
    """After a minute of refusals the session is paused and logged, and CONTINUAR revives it."""
    peer, port = desk.connect(), unused_port()
    assert desk.ask(peer, f"CONECTAR {port}") == "OK\n"
    runs, now = runs_of([b"x" * 1316]), 0.0
    with capture_logs() as logs:
        while desk.fanout.forwarded < (REFUSED_LIMIT + 2) / 0.02:
            now += 0.02
            desk.fanout.forward(runs, now)
    [paused] = [event for event in logs if event["event"] == "paused"]
    assert (paused["reason"], paused["destination"]) == ("Connection refused", f"127.0.0.1:{port}")
    assert desk.ask(peer, "ESTADO").startswith(f"OK estado=pausado destino=127.0.0.1:{port} ")
    assert desk.ask(peer, "INTERRUMPIR").startswith("ERROR ")
    assert desk.ask(peer, "CONTINUAR") == "OK\n"
    assert desk.ask(peer, "ESTADO").startswith("OK estado=transmitiendo ")
    for _ in range(100):
        now += 0.02
        desk.fanout.forward(runs, now)
    assert desk.ask(peer, "ESTADO").startswith("OK estado=transmitiendo ")


def test_a_bug_costs_one_client_only(desk: Desk) -> None:
    """A command that meets a bug costs its own connection; the traceback is reported once."""
    victim, other = desk.connect(), desk.connect()
    with mock.patch.object(commands, "parse", side_effect=RuntimeError("bug")):
        assert desk.ask(victim, "ESTADO") == ""
    assert desk.ask(other, "ESTADO").startswith("OK")
    assert [str(bug) for bug in desk.bugs] == ["bug"]
    assert len(desk.server.clients) == 1


def test_an_effect_that_fails_changes_nothing(desk: Desk) -> None:
    """A destination that cannot be reached is an error, and the session stays where it was."""
    peer = desk.connect()
    for error, reason in ((errno.EMFILE, "sin descriptores"), (errno.ENETUNREACH, "sin ruta")):
        failure = OSError(error, os.strerror(error))
        with mock.patch.object(destinations, "open_socket", side_effect=failure):
            reply = desk.ask(peer, "CONECTAR 5004")
        assert reply == f"ERROR no se puede enviar a 127.0.0.1:5004: {reason}\n"
    assert desk.ask(peer, "ESTADO").startswith("OK estado=inactivo destino=- ")
    [client] = desk.server.clients
    assert (client.state, client.output) == (State.IDLE, None)


def test_a_failed_move_keeps_the_old_destination(desk: Desk) -> None:
    """A session that cannot move to another port goes on at the old one."""
    peer, port = desk.connect(), unused_port()
    desk.ask(peer, f"CONECTAR {port}")
    failure = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    with mock.patch.object(destinations, "open_socket", side_effect=failure):
        assert desk.ask(peer, "CONECTAR 5004").startswith("ERROR ")
    assert f"transmitiendo destino=127.0.0.1:{port} " in desk.ask(peer, "ESTADO")


def test_repeating_conectar_keeps_the_subscriber_and_its_counters(desk: Desk) -> None:
    """CONECTAR to the same port is no new subscription: the socket and the counters stay."""
    peer, port = desk.connect(), unused_port()
    desk.ask(peer, f"CONECTAR {port}")
    [client] = desk.server.clients
    output = client.output
    desk.ask(peer, "INTERRUMPIR")
    assert desk.ask(peer, f"CONECTAR {port}") == "OK\n"
    assert client.output is output
    assert client.state is State.STREAMING


def test_subscribers_are_released_with_their_viewers(desk: Desk) -> None:
    """However often viewers come, move, and go, no socket and no destination stays behind."""
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        peer = desk.connect()
        for _ in range(3):
            assert desk.ask(peer, f"CONECTAR {unused_port()}") == "OK\n"
        desk.peers.remove(peer)
        peer.close()
        turn_until(desk.loop, lambda: not desk.server.clients, "the client to be gone")
    turn_for(desk.loop, 0)
    assert desk.server.destinations._owners == {}
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    assert desk.server.accepted == 20


def test_closing_says_farewell_and_takes_nobody_new(desk: Desk) -> None:
    """The end is one line for everyone who is there, and a refused connection for who comes."""
    peers = [desk.connect() for _ in range(3)]
    address = desk.listener.getsockname()
    desk.server.close("el relay se detiene")
    assert [desk.reply(peer) for peer in peers] == ["ERROR el relay se detiene\n"] * 3
    assert [desk.reply(peer) for peer in peers] == [""] * 3
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_a_client_that_cannot_be_watched_takes_no_place(desk: Desk) -> None:
    """If the system watches no more sockets the connection ends, and nothing is left of it."""
    desk.server.access = Access(Limits(max_clients=1))
    full = OSError(errno.ENOSPC, "No space left on device")
    with mock.patch.object(desk.loop, "watch", side_effect=full):
        peer = socket.create_connection(desk.listener.getsockname())
        desk.peers.append(peer)
        turn_until(desk.loop, lambda: desk.bugs, "the fault")
    assert peer.recv(1) == b""
    assert desk.server.clients == set()
    desk.bugs.clear()
    assert desk.ask(desk.connect(), "AYUDA").startswith("OK")
