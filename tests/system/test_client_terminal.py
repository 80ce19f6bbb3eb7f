"""The client on a real terminal: prompt, line editing, and giving the terminal back."""

import sys
from collections.abc import Iterator

import pytest

from tools.lab.client import FakeRelay, PseudoTerminal
from tools.lab.process import PATIENCE, wait_for

RELAY = "127.0.0.1"
UP, LEFT = "\x1b[A", "\x1b[D"
CTRL_C, CTRL_D, CTRL_Z, CTRL_BACKSLASH = "\x03", "\x04", "\x1a", "\x1c"


@pytest.fixture
def terminal(fake: FakeRelay) -> Iterator[PseudoTerminal]:
    """A client on a terminal, connected to the fake relay, waiting for the first command."""
    with start(fake.port) as terminal:
        fake.accept()
        terminal.shows("relay> ")
        yield terminal


def start(port: int, columns: int = 80) -> PseudoTerminal:
    """Start a client on a terminal of its own."""
    argv = (sys.executable, "client.py", "127.0.0.1", str(port), "5004")
    return PseudoTerminal(*argv, columns=columns)


def test_a_session_at_the_prompt(fake: FakeRelay, terminal: PseudoTerminal) -> None:
    """The greeting says what to open; commands and replies stay on the screen in order."""
    assert terminal.rows == [
        f"connected to 127.0.0.1:{fake.port}",
        "CONECTAR brings the stream to UDP port 5004 of this host",
        "open udp://@:5004 in VLC to watch (rtp://@:5004 if you know that it is RTP)",
        "AYUDA lists the commands, Ctrl-D leaves",
        "relay>",
    ]
    terminal.type("conectar\r")
    assert fake.line() == "CONECTAR 5004"
    fake.send(b"ERROR destino ocupado\n")
    terminal.shows("relay> conectar", "ERROR destino ocupado", "relay> ")
    terminal.type(CTRL_D)
    assert fake.line() == "DESCONECTAR"
    fake.send(b"OK\n")
    terminal.shows("relay> DESCONECTAR", "OK", "")
    assert terminal.process.wait(PATIENCE) == 0  # a person has seen the ERROR


def test_each_pasted_command_stands_above_its_reply(
    fake: FakeRelay, terminal: PseudoTerminal
) -> None:
    """Of lines pasted together each is shown when its turn comes; the unfinished one stays."""
    terminal.type("CONECTAR\rHOLA\rESTADO\rINTERR")
    assert fake.line() == "CONECTAR 5004"
    terminal.shows("relay> CONECTAR", "relay> INTERR")
    fake.send(b"OK\n")
    assert fake.line() == "ESTADO"
    fake.send(b"OK estado=transmitiendo\n")
    terminal.shows(
        "relay> CONECTAR",
        "OK",
        "relay> HOLA",
        "unknown command: 'HOLA' (AYUDA lists them): not sent",
        "relay> ESTADO",
        f"-- {RELAY}:{fake.port} {'-' * (60 - len(f'{RELAY}:{fake.port}'))}",
        "state  streaming",
        "relay> INTERR",
    )


def test_a_reply_does_not_disturb_a_half_typed_line(
    fake: FakeRelay, terminal: PseudoTerminal
) -> None:
    """What arrives while a line is being typed appears above it; line and cursor stay."""
    terminal.type("ESTAD_" + LEFT)
    terminal.shows("relay> ESTAD_")
    fake.send(b"hola\n")
    terminal.shows("hola", "relay> ESTAD_")
    assert terminal.screen.column == len("relay> ESTAD")
    terminal.type("\x04O\r")
    assert fake.line() == "ESTADO"


def test_tab_and_history(fake: FakeRelay, terminal: PseudoTerminal) -> None:
    """TAB completes a command or lists those that fit; the up arrow brings lines back."""
    terminal.type("con\t")
    terminal.shows("CONECTAR  CONTINUAR  CONTINUAR DIFERIDO", "relay> con")
    terminal.type("e\t\r")
    assert fake.line() == "CONECTAR 5004"
    fake.send(b"OK\n")
    terminal.shows("OK", "relay> ")
    terminal.type(UP)
    terminal.shows("relay> CONECTAR")
    terminal.type(" 6000\r")
    assert fake.line() == "CONECTAR 6000"


@pytest.mark.parametrize("keys", [CTRL_D, CTRL_C, CTRL_BACKSLASH, "desconectar\r"])
def test_leaving_gives_the_terminal_back(
    fake: FakeRelay, terminal: PseudoTerminal, keys: str
) -> None:
    """However one leaves, the client says goodbye, exits with 0, and the terminal is as found."""
    assert not terminal.restored()
    terminal.type(keys)
    assert fake.line() == "DESCONECTAR"
    fake.send(b"OK\n")
    assert terminal.process.wait(PATIENCE) == 0
    assert terminal.restored()
    terminal.shows("OK", "")


def test_a_second_ctrl_c_gives_the_terminal_back(fake: FakeRelay, terminal: PseudoTerminal) -> None:
    """Ctrl-C twice ends at once with status 130, the terminal as it was found."""
    terminal.type(CTRL_C)
    assert fake.line() == "DESCONECTAR"
    terminal.type(CTRL_C)
    assert terminal.process.wait(PATIENCE) == 130
    assert terminal.restored()


def test_losing_the_relay_gives_the_terminal_back(
    fake: FakeRelay, terminal: PseudoTerminal
) -> None:
    """The relay closing is said above the line being typed, and the terminal is restored."""
    terminal.type("INTERR")
    terminal.shows("relay> INTERR")
    fake.send(b"ERROR el relay se apaga\n")
    fake.close()
    assert terminal.process.wait(PATIENCE) == 1
    terminal.shows("ERROR el relay se apaga", "client.py: the relay ended the session", "")
    assert terminal.restored()


def test_a_closed_terminal_ends_the_session(fake: FakeRelay, terminal: PseudoTerminal) -> None:
    """When the terminal's window is closed the client disconnects and does not linger."""
    terminal.hang_up()
    assert fake.line() == "DESCONECTAR"
    fake.send(b"OK\n")
    assert terminal.process.wait(PATIENCE) in (0, 1)  # 1: it had something to print, in vain


def test_the_screen_is_safe_from_the_relay(fake: FakeRelay, terminal: PseudoTerminal) -> None:
    """Control characters in a reply are spelled out instead of obeyed."""
    fake.send(b"\x1b[2J\x1b[Hgotcha\r\x07\n")
    terminal.shows(r"\x1b[2J\x1b[Hgotcha\r\x07", "relay> ")


def test_a_long_line_stays_on_one_row(fake: FakeRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a narrow terminal a long line scrolls sideways and is sent whole, whatever COLUMNS is."""
    monkeypatch.setenv("COLUMNS", "80")
    with start(fake.port, columns=20) as terminal:
        fake.accept()
        terminal.shows("relay> ")
        terminal.type("CONECTAR" + " " * 20 + "6543")
        terminal.shows("relay> " + " " * 7 + "6543")
        terminal.type("\r")
        assert fake.line() == "CONECTAR 6543"


def test_words_are_not_cut_in_two(fake: FakeRelay) -> None:
    """What the client says itself is wrapped between words, for the width of the terminal."""
    with start(fake.port, columns=40) as terminal:
        fake.accept()
        terminal.shows(
            "open udp://@:5004 in VLC to watch",
            "(rtp://@:5004 if you know that it is",
            "RTP)",
            "AYUDA lists the commands, Ctrl-D leaves",
            "relay> ",
        )


@pytest.mark.parametrize("columns", [60, 49, 25, 20, 11, 5])
def test_a_narrower_window_shows_the_line_once(terminal: PseudoTerminal, columns: int) -> None:
    """The window wraps the row when it is made narrower; then one row shows it again."""
    above = terminal.rows[:-1]
    terminal.type("CONECTAR" + " " * 30 + "6543")
    terminal.shows("relay> CONECTAR" + " " * 30 + "6543")
    terminal.contains("\x1b[49C")  # the cursor is in its place: nothing is on its way any more
    terminal.resize(columns)
    prompt = "relay> "[: columns - 3]
    room = columns - 2 - len(prompt)
    terminal.shows(*above, prompt + ("CONECTAR" + " " * 30 + "6543")[-room:])
    terminal.resize(80)
    terminal.shows(*above, "relay> CONECTAR" + " " * 30 + "6543")


def test_a_plain_terminal_is_left_alone(fake: FakeRelay) -> None:
    """Where the terminal can do nothing (TERM=dumb), lines are read as the terminal gives them."""
    argv = (sys.executable, "client.py", "127.0.0.1", str(fake.port), "5004")
    with PseudoTerminal("env", "TERM=dumb", *argv) as terminal:
        fake.accept()
        terminal.shows("AYUDA lists the commands, Ctrl-D leaves", "")
        terminal.type("ESTADO\n")
        assert fake.line() == "ESTADO"
        fake.send(b"hola\nOK estado=inactivo\n")
        terminal.shows("state  idle: CONECTAR brings the stream", "")
        assert terminal.restored()
        terminal.type(CTRL_D)
        assert fake.line() == "DESCONECTAR"


def test_ctrl_z_suspends_and_comes_back(fake: FakeRelay) -> None:
    """The shell gets a sane terminal on Ctrl-Z; after `fg` the half-typed line is there again."""
    with PseudoTerminal("sh", "-i") as shell:
        mode = shell.mode
        shell.type(f"{sys.executable} client.py 127.0.0.1 {fake.port} 5004\n")
        fake.accept()
        shell.shows("relay> ")
        shell.type("ESTA")
        shell.shows("relay> ESTA")
        shell.type(CTRL_Z)
        wait_for(shell.restored, "the terminal's own mode")
        assert shell.mode == mode
        shell.shows("$ ")
        shell.type("echo $((6 * 7))\n")
        shell.contains("\n42")
        shell.type("fg\n")
        shell.shows("relay> ESTA")
        shell.type("DO\r")
        assert fake.line() == "ESTADO"
