"""The client that shows how the session stands: `--watch`."""

import signal
import sys

import pytest

from tools.lab.client import Client, FakeRelay, PseudoTerminal
from tools.lab.process import PATIENCE
from tools.lab.relay import RelayProcess

STREAMING = b"OK estado=transmitiendo destino=127.0.0.1:5004 enviados=%d perdidos=0 fuente=activa\n"
CTRL_C = "\x03"


def watch(port: int, *options: str, columns: int = 80, **env: str) -> PseudoTerminal:
    """Start a client that watches, on a terminal of its own."""
    argv = (sys.executable, "client.py", "127.0.0.1", str(port), "5004", "--watch", *options)
    return PseudoTerminal(*argv, columns=columns, **env)


def report(fake: FakeRelay, reply: bytes) -> None:
    """Answer the next question of the client's own."""
    assert fake.line() == "ESTADO"
    fake.send(reply)


def title(fake: FakeRelay, columns: int = 60) -> str:
    """The row above the block."""
    relay = f"127.0.0.1:{fake.port}"
    return f"-- {relay} {'-' * (columns - len(relay))}"


def test_the_block_keeps_its_place_above_the_prompt(fake: FakeRelay) -> None:
    """It is renewed in place; replies come above it, and the line being typed stays."""
    with watch(fake.port) as terminal:
        report(fake.accept(), STREAMING % 100)
        block = [title(fake), "state    streaming", "goes to  127.0.0.1:5004"]
        greeting = "AYUDA lists the commands, Ctrl-D leaves"
        rest = ["lost     0 datagrams", "source   sending", "relay> "]
        terminal.shows(greeting, *block, "sent     100 datagrams", *rest)
        terminal.type("INTERR")
        report(fake, STREAMING.replace(b"transmitiendo", b"pausado") % 100)
        terminal.contains("paused: CONTINUAR goes on")
        terminal.contains("relay> INTERR")
        assert terminal.rows[-8].startswith(greeting)  # one block, not two
        fake.send(b"hola\n")
        terminal.contains("hola")
        terminal.type("\t")
        terminal.contains("relay> INTERRUMPIR")
        terminal.type(CTRL_C)
        while fake.line() != "DESCONECTAR":
            fake.send(STREAMING % 100)
        fake.send(b"OK\n")
        assert terminal.process.wait(PATIENCE) == 0
        assert terminal.restored()
        terminal.shows("relay> DESCONECTAR", "OK", "")


@pytest.mark.parametrize("columns", [40, 20])
def test_a_narrower_window_shows_the_block_once(fake: FakeRelay, columns: int) -> None:
    """What the window wrapped is found and drawn anew, for the new width."""
    with watch(fake.port) as terminal:
        report(fake.accept(), b"OK estado=inactivo salud=red\n")
        terminal.contains("health  your network")
        above = terminal.rows[:4]
        fake.line()  # nothing is drawn until this is answered
        terminal.resize(columns)
        short = title(fake, min(60, columns - 5)).rstrip()
        for row in (short, "relay>"):
            terminal.contains(row)
        terminal._wait(lambda: terminal.rows[4] == short, "the block")
        assert terminal.rows[:4] == above
        assert all(len(row) < columns for row in terminal.rows[4:])


@pytest.mark.parametrize(("no_color", "painted"), [("", True), ("1", False)])
def test_colours_can_be_switched_off(fake: FakeRelay, no_color: str, painted: bool) -> None:
    """Where NO_COLOR is set nothing is painted."""
    with watch(fake.port, NO_COLOR=no_color) as terminal:
        report(fake.accept(), b"OK estado=transmitiendo\n")
        terminal.contains("streaming")
        assert ("\x1b[32mstreaming" in terminal.text) is painted


def test_the_block_tells_that_the_relay_is_away(fake: FakeRelay) -> None:
    """Instead of old counts it says for how long, and when the next attempt is made."""
    with watch(fake.port, "--reconnect", LC_ALL="es_ES.UTF-8") as terminal:
        report(fake.accept(), b"OK estado=inactivo\n")
        report(fake, b"OK estado=inactivo\n")
        terminal.contains("estado  inactivo: CONECTAR trae el flujo")
        terminal.type("CONECTAR\r")
        while (line := fake.line()) != "CONECTAR 5004":
            assert line == "ESTADO"
            fake.send(b"OK estado=inactivo\n")
        fake.close()
        terminal.contains("relay  sin conexión desde hace")
        terminal.type("HOLA\r")
        terminal.contains("sin conexión: esto espera a que vuelva el relay")
        terminal.type("DESCONECTAR\r")
        assert terminal.process.wait(PATIENCE) == 0
        assert terminal.restored()


def test_an_old_relay_has_nothing_to_watch(fake: FakeRelay) -> None:
    """One that ignores ESTADO is asked once; the prompt goes on."""
    with watch(fake.port) as terminal:
        assert fake.accept().line() == "ESTADO"
        terminal.shows("this relay does not answer ESTADO: there is nothing to watch", "relay> ")
        terminal.type("CONECTAR\r")
        assert fake.line() == "CONECTAR 5004"


def test_a_script_may_come_before_the_prompt(fake: FakeRelay) -> None:
    """On a terminal that watches, a script is carried out first, and then the person goes on."""
    with watch(fake.port, "--script", "CONECTAR") as terminal:
        report(fake.accept(), b"OK estado=inactivo\n")
        assert fake.line() == "CONECTAR 5004"
        fake.send(b"OK\n")
        terminal.contains("relay> CONECTAR")
        report(fake, b"OK estado=transmitiendo\n")
        terminal.shows("state  streaming", "relay> ")


def test_a_closed_terminal_ends_it(fake: FakeRelay) -> None:
    """When the window is closed the client disconnects, however often it would like to draw."""
    with watch(fake.port, "--reconnect") as terminal:
        report(fake.accept(), b"OK estado=inactivo\n")
        terminal.contains("relay> ")
        terminal.hang_up()
        while fake.line() != "DESCONECTAR":
            fake.send(b"OK estado=inactivo\n")
        fake.send(b"OK\n")
        assert terminal.process.wait(PATIENCE) in (0, 1)


def test_a_program_gets_the_relays_line_every_second() -> None:
    """In a pipe it is a line a second as the relay said it, until a signal; the input may end."""
    with (
        RelayProcess() as relay,
        Client(relay.port, "--watch", text="CONECTAR\n", last=True) as client,
    ):
        for count in (2, 3):
            client.prints("estado=transmitiendo")
            while len(client.stdout) < count:
                client.prints("OK")
        assert client.stop(signal.SIGTERM) == 0
    reports = [line for line in client.stdout if line != "OK\n"]
    assert all(line.startswith("OK estado=") for line in reports)
    assert client.stdout[-1] == "OK\n"
