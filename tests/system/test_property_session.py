"""Sessions as a model, and the real relay beside it, over real sockets.

Hypothesis thinks up what several clients do (commands whole, in halves and run together, nonsense,
leaving in every way) with datagrams in between. The model predicts every reply to the letter, and
who gets which datagram. A witness that always watches makes it certain that a datagram has been
dealt with before the next thing happens.
"""

import contextlib
import socket
import struct
from dataclasses import dataclass

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from relaylib.protocol.commands import HELP
from tools.lab.process import PATIENCE, wait_for
from tools.lab.relay import Relay
from tools.lab.sockets import source, udp_socket
from tools.lab.viewer import Viewer, about_viewer

CLIENTS = 3
PLAYERS = 5
RESET = struct.pack("ii", 1, 0)

FIXED = {
    "AYUDA": HELP.decode().rstrip("\n"),
    "hola": "ERROR comando desconocido: 'hola' (AYUDA los enumera)",
    "CONECTAR": "ERROR falta el puerto: CONECTAR <puerto>",
    "CONECTAR 80": "ERROR puerto no valido: '80' (de 1024 a 65535)",
    "conectar 65536": "ERROR puerto no valido: '65536' (de 1024 a 65535)",
    "CONECTAR 5004 5005": "ERROR sobra '5005' tras CONECTAR <puerto>",
    "ESTADO ya": "ERROR sobra 'ya' tras ESTADO",
    "DESCONECTARSE": "ERROR comando desconocido: 'DESCONECTARSE' (AYUDA los enumera)",
    "caf\xe9": "ERROR solo se admite ASCII: 'caf\\xe9'",
}
"""Replies that do not depend on the session."""

COMMANDS = ["INTERRUMPIR", "CONTINUAR", "CONTINUAR DIFERIDO", "RETROCEDER 5", "ESTADO", *FIXED]
CONNECT = ["CONECTAR {}", "conectar-{}", "  Conectar{}  ", "CONECTAR \t {}"]

Command = str | tuple[str, int]
"""A line as it is, or a form of CONECTAR and which of the players' ports it names."""

clients = st.integers(0, CLIENTS - 1)
ports = st.integers(0, PLAYERS - 1)
usual: st.SearchStrategy[Command] = st.one_of(
    st.tuples(st.just("CONECTAR {}"), ports),
    st.sampled_from(["INTERRUMPIR", "CONTINUAR", "INTERRUMPIR", "CONTINUAR", "ESTADO"]),
)
commands: st.SearchStrategy[Command] = st.one_of(
    st.sampled_from(COMMANDS),
    st.tuples(st.sampled_from(CONNECT), ports),
    st.just(("CONECTAR {}", -1)),  # the relay's own ingest
)


class Lab:
    """An example's own relay, its source, the players, the witness.

    They do not outlive the example: a fault that left something behind would spoil the next ones,
    and Hypothesis could not find the shortest way to it.
    """

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
        enter = self.stack.enter_context
        self.relay = enter(Relay())
        self.sender = enter(source(self.relay.ingest_port))
        self.players = [enter(udp_socket()) for _ in range(PLAYERS)]
        self.ports = [player.getsockname()[1] for player in self.players]
        self.witness = enter(Viewer(self.relay.port)).subscribe()
        self.number = 0

    def wait_gone(self, client: str, since: int) -> None:
        """Wait until the relay has logged, in a line after the first `since`, that it left."""
        wait_for(
            lambda: any(
                '"client_gone"' in line and f'"{client}"' in line
                for line in self.relay.stderr[since:]
            ),
            f"{client} to be gone",
        )


@dataclass
class Client:
    """A client as the model sees it, and its connection."""

    control: socket.socket
    state: str = "inactivo"
    port: int | None = None
    sent: int = 0
    half: tuple[Command, str] | None = None
    """A command of which only a part has been typed, and the rest of its text."""


class Sessions(RuleBasedStateMachine):
    """The model."""

    def __init__(self) -> None:
        super().__init__()
        self.lab = Lab()
        self.clients: list[Client] = []

    # --- the model

    def predict(self, client: Client, command: Command) -> str:
        """Do to the model what the command does to the session; return the reply."""
        if isinstance(command, tuple):
            return self.predict_connect(client, command[1])
        if command in FIXED:
            return FIXED[command]
        if command == "ESTADO":
            where = "-" if client.port is None else f"127.0.0.1:{client.port}"
            counters = f"enviados={client.sent} perdidos=0"
            return f"OK estado={client.state} destino={where} {counters}"
        verb = command.removesuffix(" 5")
        valid = {"INTERRUMPIR": ["transmitiendo"], "RETROCEDER": ["transmitiendo", "pausado"]}
        if client.state not in valid.get(verb, ["pausado"]):
            return f"ERROR {verb} no es valido ahora (estado: {client.state})"
        if verb in ("CONTINUAR DIFERIDO", "RETROCEDER"):
            return f"ERROR {verb} no esta disponible: este relay no guarda historial (--timeshift)"
        client.state = "pausado" if command == "INTERRUMPIR" else "transmitiendo"
        return "OK"

    def predict_connect(self, client: Client, index: int) -> str:
        """The same for CONECTAR."""
        if index < 0:
            where = f"127.0.0.1:{self.lab.relay.ingest_port}"
            return f"ERROR destino no valido: {where} es la entrada del relay"
        port = self.lab.ports[index]
        if any(other.port == port for other in self.clients if other is not client):
            return f"ERROR destino ocupado por otra sesion: 127.0.0.1:{port}"
        if port != client.port:
            client.port, client.sent = port, 0
        client.state = "transmitiendo"
        return "OK"

    # --- the wire

    def spell(self, command: Command) -> str:
        """Write a command as it is typed."""
        if isinstance(command, str):
            return command
        form, index = command
        port = self.lab.ports[index] if index >= 0 else self.lab.relay.ingest_port
        return form.format(port)

    def exchange(self, client: Client, typed: list[Command], ending: str = "\n") -> None:
        """Type commands in one segment, after the rest of a half typed one; check the replies."""
        text = "".join(f"{self.spell(command)}{ending}" for command in typed)
        if client.half is not None:
            command, rest = client.half
            typed, text, client.half = [command, *typed], rest + ending + text, None
        client.control.sendall(text.encode("latin-1"))
        for command in typed:
            assert about_viewer(self.read_line(client)) == self.predict(client, command)

    @staticmethod
    def read_line(client: Client) -> str:
        """Read a reply, or "" at the end, byte by byte so that nothing after it is taken."""
        line = b""
        while not line.endswith(b"\n"):
            byte = client.control.recv(1)
            if not byte:
                break
            line += byte
        return line.decode("ascii").rstrip("\n")

    # --- what happens

    @initialize()
    def arrive(self) -> None:
        """Everybody is there at first."""
        self.clients = [self.join() for _ in range(CLIENTS)]

    def join(self) -> Client:
        """Make a client."""
        relay = self.lab.relay
        return Client(socket.create_connection((relay.host, relay.port), PATIENCE))

    @rule(index=clients, typed=st.lists(usual, min_size=3, max_size=6))
    def watch(self, index: int, typed: list[Command]) -> None:
        """A client does what most clients do: often enough that something is at stake."""
        for command in typed:
            self.exchange(self.clients[index], [command])

    @rule(
        index=clients,
        typed=st.lists(commands, min_size=1, max_size=6),
        ending=st.sampled_from(["\n", "\r\n", "\n\n", "\n \r\n"]),
    )
    def ask(self, index: int, typed: list[Command], ending: str) -> None:
        """A client sends commands, several in a segment, perhaps with blank lines between."""
        self.exchange(self.clients[index], typed, ending)

    @rule(index=clients, command=commands, cut=st.integers(1, 30))
    def type_half(self, index: int, command: Command, cut: int) -> None:
        """A client stops in the middle of a line."""
        client = self.clients[index]
        if client.half is None:
            text = self.spell(command)
            client.control.sendall(text[:cut].encode("latin-1"))
            client.half = (command, text[cut:])

    @rule(size=st.integers(1, 3000))
    def send_datagram(self, size: int) -> None:
        """The source sends: exactly those who are streaming get it."""
        lab = self.lab
        datagram = f"{(number := lab.number)}:".encode().ljust(size, b"\xff")
        lab.number = number + 1
        lab.sender.send(datagram)
        assert lab.witness.receive() == datagram
        for client in self.clients:
            if client.state == "transmitiendo":
                client.sent += 1
                player = lab.players[lab.ports.index(client.port or 0)]
                player.settimeout(3)  # it left together with the witness's
                assert player.recv(65536) == datagram
        self.nothing_more()

    def nothing_more(self) -> None:
        """Check that no player has got what it must not."""
        for player in self.lab.players:
            player.setblocking(False)
            with pytest.raises(BlockingIOError):
                player.recv(65536)

    @rule(index=clients, how=st.sampled_from(["DESCONECTAR", "close", "reset"]))
    def leave(self, index: int, how: str) -> None:
        """A client leaves in some way, and another comes in its place."""
        client = self.clients[index]
        since = len(self.lab.relay.stderr)
        host, port = client.control.getsockname()
        if how == "DESCONECTAR":
            self.exchange(client, [])
            client.control.sendall(b"desconectar\nESTADO\n")
            assert (self.read_line(client), self.read_line(client)) == ("OK", "")
        elif how == "reset":
            client.control.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.control.close()
        self.lab.wait_gone(f"{host}:{port}", since)
        self.clients[index] = self.join()

    def teardown(self) -> None:
        """Everybody leaves; nobody has got too much, and the relay has met no bug."""
        with self.lab.stack:
            for client in self.clients:
                client.control.close()
            self.nothing_more()
            assert not self.lab.relay.events("bug")


@pytest.mark.long
def test_sessions_do_what_the_model_says() -> None:
    """Whatever clients do, every reply and every datagram is the one that the model predicts."""
    run_state_machine_as_test(
        Sessions,
        settings=settings(
            max_examples=20,
            stateful_step_count=50,
            phases=[Phase.generate],  # a fault is waited for: to find the shortest takes minutes
        ),
    )
