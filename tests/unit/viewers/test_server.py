"""The control side in this process: faults and times that a real relay will not have on demand."""

import contextlib
import dataclasses
import errno
import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterator
from unittest import mock

import pytest
from structlog.testing import capture_logs

from relaylib.channel import Channel
from relaylib.config import Config
from relaylib.log import flush_throttles
from relaylib.net.acceptor import ACCEPT_PAUSE
from relaylib.net.descriptors import Descriptor
from relaylib.net.listen import bind_pair
from relaylib.net.loop import Loop
from relaylib.net.peer_log import SHARE
from relaylib.outputs.output import Output
from relaylib.outputs.port_probe import CLOSED_LIMIT
from relaylib.protocol.session import Session, State
from relaylib.viewers import destinations, server
from relaylib.viewers.egress import Egress
from relaylib.viewers.server import GIVE_WAY, LEAVING, ControlServer
from relaylib.viewers.viewer import Viewer, ViewerState
from tools.lab.fanout_bench import runs_of
from tools.lab.process import PATIENCE
from tools.lab.sockets import unused_port


class ControlSide:
    """A server in its loop, its listener on loopback, and the bugs that the loop reported."""

    def __init__(self, config: Config | None = None) -> None:
        self.bugs: list[Exception] = []
        self.loop = Loop(self.bugs.append)
        self.listener, self.ingest = bind_pair("127.0.0.1", 0, None)
        config = config or Config(inspect=False)
        self.channel = Channel(self.loop, config, self.ingest, viewers=self._outputs)
        self.fanout, self.deferred = self.channel.fanout, self.channel.deferred
        egress = Egress(config.max_egress, lambda: self.fanout.active)
        self.server = ControlServer(self.loop, self.listener, self.channel, config, egress)
        self.peers: list[socket.socket] = []

    def _outputs(self) -> list[Output]:
        return self.server.outputs()

    def turn_until(self, condition: Callable[[], object], what: str) -> None:
        """Run the loop, turn by turn, until `condition` is true, whatever the loop's clock says."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"timed out waiting for {what}"
            self.turn()

    def turn(self, times: int = 1) -> None:
        """Run the loop for so many turns that do not sleep."""
        for _ in range(times):
            self.loop.call_soon(self.loop.stop)
            self.loop.run()

    def knock(self) -> socket.socket:
        """Connect a peer, which may be turned away."""
        peer = socket.create_connection(self.listener.getsockname())
        peer.setblocking(False)
        self.peers.append(peer)
        return peer

    def connect(self) -> socket.socket:
        """Connect a peer, and wait until it is a viewer."""
        count = len(self.server.viewers)
        peer = self.knock()
        self.turn_until(lambda: len(self.server.viewers) > count, "the viewer")
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

        self.turn_until(read, "a reply")
        return data[0].decode()

    @property
    def viewer(self) -> Viewer:
        """The only viewer."""
        [viewer] = self.server.viewers
        return viewer

    def close(self) -> None:
        """Close everything."""
        self.server.close("fin")
        for peer in self.peers:
            peer.close()
        self.turn_until(lambda: not self.server.viewers, "the viewers' end")
        self.loop.close()
        self.channel.close()


@contextlib.contextmanager
def control_side(config: Config | None = None) -> Iterator[ControlSide]:
    """A control side that is closed at the end, and in which no bug may happen."""
    control = ControlSide(config)
    yield control
    control.close()
    assert control.bugs == []


@pytest.fixture
def control() -> Iterator[ControlSide]:
    """A control side with the defaults."""
    with control_side() as made:
        yield made


def failure(number: int) -> OSError:
    """Make the error of a system call."""
    return OSError(number, os.strerror(number))


# --- sessions


def test_a_player_that_stays_closed_pauses_the_session(control: ControlSide) -> None:
    """After a minute of a closed port the session is paused and logged; CONTINUAR revives it."""
    peer, port = control.connect(), unused_port()
    assert control.ask(peer, f"CONECTAR {port}") == "OK\n"
    runs, now = runs_of([b"x" * 1316]), 0.0
    with capture_logs() as logs:
        while control.fanout.forwarded < (CLOSED_LIMIT + 2) / 0.02:
            now += 0.02
            control.fanout.forward(runs, now)
    [paused] = [event for event in logs if event["event"] == "paused"]
    assert (paused["reason"], paused["detail"]) == ("port_closed", "Connection refused")
    assert paused["destination"] == f"127.0.0.1:{port}"
    assert control.ask(peer, "ESTADO").startswith(f"OK estado=pausado destino=127.0.0.1:{port} ")
    assert control.ask(peer, "INTERRUMPIR").startswith("ERROR ")
    assert control.ask(peer, "CONTINUAR") == "OK\n"
    for _ in range(100):
        now += 0.02
        control.fanout.forward(runs, now)
    assert control.ask(peer, "ESTADO").startswith("OK estado=transmitiendo ")


def test_a_bug_costs_one_viewer_only(control: ControlSide) -> None:
    """A command that meets a bug costs its own connection; the traceback is reported once."""
    victim, other = control.connect(), control.connect()
    with mock.patch.object(Session, "next_item", side_effect=RuntimeError("bug")):
        assert control.ask(victim, "ESTADO") == ""
    assert control.ask(other, "ESTADO").startswith("OK")
    assert [str(bug) for bug in control.bugs] == ["bug"]
    assert len(control.server.viewers) == 1
    control.bugs.clear()


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EMFILE, "sin descriptores"),
        (errno.ENETUNREACH, "sin ruta"),
        (errno.ENOBUFS, "fallo del sistema (ENOBUFS)"),
    ],
)
def test_an_effect_that_fails_changes_nothing(
    control: ControlSide, number: int, reason: str
) -> None:
    """A destination that cannot be had is an error that says why; the session stays as it was."""
    peer, port = control.connect(), unused_port()
    for before in ("inactivo destino=-", f"transmitiendo destino=127.0.0.1:{port}"):
        with mock.patch.object(destinations, "open_socket", side_effect=failure(number)):
            reply = control.ask(peer, "CONECTAR 5004")
        assert reply == f"ERROR no se puede enviar a 127.0.0.1:5004: {reason}\n"
        assert control.ask(peer, "ESTADO").startswith(f"OK estado={before} ")
        control.ask(peer, f"CONECTAR {port}")


def test_repeating_conectar_keeps_the_output_and_its_counters(control: ControlSide) -> None:
    """CONECTAR to the same port is no new output: the socket and the counters stay."""
    peer, port = control.connect(), unused_port()
    control.ask(peer, f"CONECTAR {port}")
    output = control.viewer.output
    control.ask(peer, "INTERRUMPIR")
    assert control.ask(peer, f"CONECTAR {port}") == "OK\n"
    assert control.viewer.output is output
    assert control.viewer.session.state is State.STREAMING


def test_outputs_are_closed_with_their_viewers(control: ControlSide) -> None:
    """However often viewers come, move, and go, no socket and no destination stays behind."""
    ports = [unused_port() for _ in range(3)]
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        peer = control.connect()
        for port in ports:
            assert control.ask(peer, f"CONECTAR {port}") == "OK\n"
        control.peers.remove(peer)
        peer.close()
        control.turn_until(lambda: not control.server.viewers, "the viewer to be gone")
    control.turn_until(lambda: not control.loop._soon, "the sockets to be closed")
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    assert control.server.accepted == 20


# --- the idle timeout


def test_whoever_types_is_not_idle() -> None:
    """Only after `idle_timeout` without CONECTAR and without a byte is a viewer sent away."""
    with control_side(Config(idle_timeout=10.0)) as control:
        peer, clock = control.connect(), mock.Mock(return_value=control.loop.time())
        with mock.patch.object(control.loop, "time", clock), capture_logs() as logs:
            for typed, byte in enumerate(b"CONE", 1):
                clock.return_value += 9.0
                peer.send(bytes([byte]))
                lines = control.viewer.session.lines
                control.turn_until(lambda n=typed: len(lines.pending) == n, "the byte")  # type: ignore[misc]  # noqa: B023
            clock.return_value += 9.9
            control.turn(3)
            assert logs == []
            clock.return_value += 0.2
            assert control.reply(peer) == "ERROR demasiado tiempo sin CONECTAR (10 s)\n"
            peer.close()
            control.turn_until(lambda: logs, "the end")
        assert [(log["event"], log["reason"]) for log in logs] == [("client_gone", "idle_timeout")]
        assert control.server.declined == {"idle_timeout": 1}


def test_whoever_watches_is_not_idle() -> None:
    """A viewer who has asked for the stream may be silent for ever."""
    with control_side(Config(idle_timeout=10.0)) as control:
        peer, clock = control.connect(), mock.Mock(return_value=control.loop.time())
        with mock.patch.object(control.loop, "time", clock):
            control.ask(peer, f"CONECTAR {unused_port()}")
            clock.return_value += 1000.0
            control.turn(3)
            assert control.ask(peer, "INTERRUMPIR") == "OK\n"


def handed_over(saved: ViewerState) -> ViewerState:
    """What the next program gets, with descriptors of its own."""
    output = saved.output
    if output is not None:
        output = dataclasses.replace(output, sock=Descriptor(os.dup(output.sock)))
    return dataclasses.replace(saved, sock=Descriptor(os.dup(saved.sock)), output=output)


def test_a_reload_is_no_excuse_for_idling() -> None:
    """The idle timeout goes on where the previous program's stopped; a newer one may be shorter."""
    with control_side(Config(idle_timeout=60.0)) as before:
        before.connect()
        before.viewer._heard -= 50.0
        [saved] = before.server.export()
        assert saved.silent_for >= 50.0
        for timeout, passed, dismissed in ((60.0, 9.0, 0), (60.0, 10.0, 1), (45.0, 0.0, 1)):
            with control_side(Config(idle_timeout=timeout)) as after:
                clock = mock.Mock(return_value=after.loop.now)
                with mock.patch.object(after.loop, "time", clock):
                    after.server.restore([handed_over(saved)], 1, {})
                    clock.return_value += passed
                    after.turn(3)
                assert after.server.declined["idle_timeout"] == dismissed


# --- coming and going


def test_closing_says_farewell_and_takes_nobody_new(control: ControlSide) -> None:
    """The end is one line for everyone who is there, and a refused connection for who comes."""
    peers = [control.connect() for _ in range(3)]
    address = control.listener.getsockname()
    control.server.close("el relay se detiene")
    assert [control.reply(peer) for peer in peers] == ["ERROR el relay se detiene\n"] * 3
    assert [control.reply(peer) for peer in peers] == [""] * 3
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_a_viewer_that_cannot_be_watched_takes_no_place() -> None:
    """If the system watches no more sockets a newcomer is told so, and nothing is left of it."""
    with control_side(Config(max_clients=1)) as control:
        with mock.patch.object(control.loop, "watch", side_effect=failure(errno.ENOSPC)):
            reason = "ERROR el relay no admite mas conexiones: pruebe mas tarde\n"
            assert control.reply(control.knock()) == reason
        assert control.server.declined == {"enospc": 1}
        assert control.ask(control.connect(), "AYUDA").startswith("OK")


def test_turning_away_in_order_survives_what_cannot_be_watched() -> None:
    """However many could not linger, whoever is turned away next is told without a reset."""
    full = "ERROR relay lleno (1 conexiones)\n"
    with control_side(Config(max_clients=1)) as control:
        control.ask(control.connect(), f"CONECTAR {unused_port()}")
        with mock.patch.object(control.loop, "watch", side_effect=failure(errno.ENOSPC)):
            for _ in range(LEAVING):
                assert control.reply(control.knock()) == full
        peer = control.knock()
        peer.send(b"unread, this makes a reset of an end that is not in order")
        assert [control.reply(peer), control.reply(peer)] == [full, ""]


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOBUFS, "enobufs"), (errno.ENOMEM, "enomem"), (errno.EMFILE, "descriptors")],
)
def test_the_listener_rests_when_accept_fails(
    control: ControlSide, number: int, reason: str
) -> None:
    """An error that would come again at once is logged, and not met again before a while."""
    clock = mock.Mock(return_value=control.loop.time())
    with mock.patch.object(control.loop, "time", clock):
        with (
            mock.patch.object(socket.socket, "accept", side_effect=failure(number)) as accept,
            capture_logs() as logs,
        ):
            peer = control.knock()
            control.turn_until(lambda: accept.called, "a failure")
            calls = accept.call_count
            control.turn(100)
            assert accept.call_count == calls <= 2
        assert [(log["event"], log["reason"]) for log in logs] == [("accept_failed", reason)]
        clock.return_value += ACCEPT_PAUSE
        control.turn_until(lambda: control.server.viewers, "the viewer")
        assert control.ask(peer, "AYUDA").startswith("OK")


def test_a_connection_that_broke_while_it_waited_holds_up_nobody(control: ControlSide) -> None:
    """If `accept` says that the next one has gone already, the one behind it is served at once."""
    gone, accept = failure(errno.ECONNABORTED), socket.socket.accept
    results = iter([gone])

    def fail_once(listener: socket.socket) -> object:
        for error in results:
            raise error
        return accept(listener)

    with mock.patch.object(socket.socket, "accept", fail_once), capture_logs() as logs:
        assert control.ask(control.connect(), "AYUDA").startswith("OK")
    assert [log["event"] for log in logs] == ["client_connected"]


def test_whom_a_reload_excludes_has_to_go() -> None:
    """A viewer from elsewhere whom the new options exclude is sent away, and its output closed."""
    elsewhere = Config(allow=(ipaddress.ip_network("203.0.113.0/24"),))
    with control_side() as before, control_side(elsewhere) as after, capture_logs() as logs:
        peer = before.connect()
        before.ask(peer, f"CONECTAR {unused_port()}")
        [saved] = before.server.export()
        assert saved.output is not None
        with mock.patch.object(server, "is_own", return_value=False):
            after.server.restore([handed_over(saved)], 1, {})
        after.turn()
        assert after.reply(peer) == "ERROR acceso no permitido desde 127.0.0.1 (--allow)\n"
        assert after.server.declined == {"not_allowed": 1}
        assert after.viewer.output is None
        peer.close()
        after.turn_until(lambda: not after.server.viewers, "the end")
    [gone, *_] = [log["reason"] for log in logs if log["event"] == "client_gone"]
    assert gone == "not_allowed"


FULL = "ERROR relay lleno (3 conexiones)\n"


def test_in_a_full_relay_the_longest_without_the_stream_gives_way() -> None:
    """A newcomer gets the place of whoever has been there longest without asking, with a farewell.

    Bytes do not make a connection younger, and who has asked for the stream never has to go.
    """
    with control_side(Config(max_clients=3)) as control, capture_logs() as logs:
        watching, older, newer = (control.connect() for _ in range(3))
        control.ask(watching, f"CONECTAR {unused_port()}")
        control.ask(watching, "INTERRUMPIR")
        assert control.ask(older, "AYUDA").startswith("OK")
        for gone in (older, newer):
            newcomer = control.knock()
            assert control.reply(gone) == f"ERROR {GIVE_WAY}\n"
            assert control.reply(gone) == ""
            assert control.ask(newcomer, f"CONECTAR {unused_port()}") == "OK\n"
            assert len(control.server.viewers) == 3
        assert control.reply(control.knock()) == FULL
        assert control.ask(watching, "ESTADO").startswith("OK estado=pausado")
        assert control.server.declined == {"gave_way": 2, "full": 1}
        for gone in (older, newer):
            gone.close()
        control.turn_until(lambda: len(control.server._leaving) <= 1, "their end")
        control.turn()
    reasons = [log["reason"] for log in logs if log["event"] == "client_gone"]
    assert reasons[:2] == ["gave_way", "gave_way"]


def test_giving_way_takes_a_bounded_number_of_descriptors() -> None:
    """However many give way and do not leave, all of them are told; so many linger, no more."""
    with control_side(Config(max_clients=3)) as control:
        idle = [control.connect() for _ in range(3)]
        for number in range(LEAVING + 10):
            idle.append(control.knock())
            assert control.reply(idle[number]) == f"ERROR {GIVE_WAY}\n"
        assert len(control.server.viewers) == 3
        assert len(control.server._leaving) == LEAVING
        assert all(control.ask(peer, "AYUDA").startswith("OK") for peer in idle[-3:])


def test_who_is_being_turned_away_is_not_reset_by_a_reload() -> None:
    """The next program goes on closing in order what the previous one turned away."""
    with control_side(Config(max_clients=1)) as before, control_side() as after:
        before.ask(before.connect(), f"CONECTAR {unused_port()}")
        peer = before.knock()
        before.turn_until(lambda: before.server._leaving, "the newcomer")
        before.turn()
        [_, saved] = before.server.export()
        after.server.restore([handed_over(saved)], 1, before.server.declined)
        assert (len(after.server.viewers), len(after.server._leaving)) == (0, 1)
        before.server._leaving.clear()
        for watched in [sock for sock in before.loop._watches if sock.fileno() == saved.sock]:
            before.loop.discard(watched)  # as the exec does
        before.turn()
        peer.send(b"unread, this makes a reset of an end that is not in order")
        after.turn()
        assert after.reply(peer) == "ERROR relay lleno (1 conexiones)\n"
        assert after.reply(peer) == ""
        peer.send(b"and so would this")
        after.turn()
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        peer.close()
        after.turn_until(lambda: not after.server._leaving, "the end")


# --- the way out


def flow(control: ControlSide, seconds: int) -> None:
    """Let 1 Mb/s of stream flow: 100 datagrams of 1250 bytes, less the headers, a second."""
    for _ in range(seconds):
        control.fanout.forward(runs_of([b"x" * (1250 - 42)] * 50), control.loop.now)
        control.fanout.forward(runs_of([b"x" * (1250 - 42)] * 50), control.loop.now)
        control.loop.now += 1.0
        control.server._measure()


def test_newcomers_are_declined_when_the_way_out_is_full() -> None:
    """With --max-egress CONECTAR and CONTINUAR fail when there is no room for one more stream."""
    with control_side(Config(max_egress=2.5e6)) as control:
        first, second, third = (control.connect() for _ in range(3))
        connect = [f"CONECTAR {unused_port()}" for _ in range(4)]
        assert control.ask(first, connect[0]) == "OK\n"
        flow(control, 3)
        assert control.ask(second, connect[1]) == "OK\n"
        declined = "ERROR salida llena: se envian 2.0 de 2.5 Mb/s y hacen falta 1.0 mas\n"
        assert control.ask(third, connect[2]) == declined
        assert control.ask(third, "ESTADO").startswith("OK estado=inactivo destino=- ")
        assert control.ask(second, connect[3]) == "OK\n", "one who is sent the stream may move"
        assert control.ask(second, "INTERRUMPIR") == "OK\n"
        assert control.ask(third, connect[2]) == "OK\n"
        assert control.ask(second, "CONTINUAR") == declined
        assert control.ask(second, connect[3]) == declined
        assert control.ask(second, "ESTADO").startswith("OK estado=pausado ")
        control.ask(first, "DESCONECTAR")
        assert control.ask(second, "CONTINUAR") == "OK\n"
        assert control.server.declined == {"egress": 3}


# --- the log


def test_what_a_viewer_repeats_is_logged_so_often_and_then_counted() -> None:
    """A viewer who does the same all day fills no disk; a neighbour's events are logged in full."""
    flush_throttles()  # those of other tests
    with capture_logs() as logs, control_side() as control:
        busy = control.connect()
        control.ask(busy, f"CONECTAR {unused_port()}")
        for _ in range(SHARE):
            control.ask(busy, "INTERRUMPIR")
            control.ask(busy, "CONTINUAR")
        assert len(logs) == SHARE + 2  # and the first of each kind beyond its share
        control.server._events.log(server.log.info, "paused", "192.0.2.1", client="other")
        assert logs[-1]["client"] == "other"
        flush_throttles()
        assert sum(log.get("suppressed", 1) for log in logs) == 2 + 2 * SHARE + 1
