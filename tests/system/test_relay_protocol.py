"""The control protocol over real connections: how lines may be cut, and a way through each state.

Which command is valid when is proved in `tests/unit/protocol`.
"""

import http.client

import pytest

from relaylib.protocol import commands
from tools.lab.process import need_ipv6
from tools.lab.relay import RelayProcess
from tools.lab.sockets import source, udp_socket, unused_port
from tools.lab.viewer import TestViewer, about_viewer

FRAMINGS = ("whole", "byte by byte", "one segment")

DIALOGUE = """
ESTADO             | OK estado=inactivo destino=- {none}
INTERRUMPIR        | ERROR INTERRUMPIR no es valido ahora (estado: inactivo)
CONECTAR 80        | ERROR puerto no valido: '80' (de 1024 a 65535)
CONECTAR {port}    | OK
continuar          | ERROR CONTINUAR no es valido ahora (estado: transmitiendo)
Interrumpir        | OK
  estado           | OK estado=pausado destino=127.0.0.1:{port} {none}
CONTINUAR DIFERIDO | ERROR CONTINUAR DIFERIDO no esta disponible: {memory}
RETROCEDER 5       | ERROR RETROCEDER no esta disponible: {memory}
CONTINUAR          | OK
INTERRUMPIR        | OK
conectar-{other}   | OK
ESTADO             | OK estado=transmitiendo destino=127.0.0.1:{other} {none}
hola               | ERROR comando desconocido: 'hola' (AYUDA los enumera)
AYUDA              | {help}
DESCONECTAR        | OK
"""


def send(viewer: TestViewer, lines: list[str], framing: str) -> None:
    """Send lines whole, byte by byte (a segment each: TCP_NODELAY), or all in one segment."""
    text = "".join(f"{line}\r\n" for line in lines)
    match framing:
        case "whole":
            pieces = text.splitlines(keepends=True)
        case "byte by byte":
            pieces = list(text)
        case _:
            pieces = [text]
    for piece in pieces:
        viewer.send(piece.encode())


@pytest.mark.parametrize("framing", FRAMINGS)
def test_each_line_gets_its_reply_however_it_is_cut(
    shared_relay: RelayProcess, framing: str
) -> None:
    """Commands, good and bad, have their exact replies in order; blank lines have none."""
    with TestViewer(shared_relay.port) as viewer, udp_socket() as other:
        names = {
            "none": "enviados=0 perdidos=0",
            "port": viewer.port,
            "other": other.getsockname()[1],
            "memory": "este relay no guarda historial (--timeshift)",
            "help": commands.HELP.decode().rstrip("\n"),
        }
        rows = [row.format(**names).split("|") for row in DIALOGUE.splitlines() if row]
        send(viewer, [text for line, _ in rows for text in (line, "", "  ")], framing)
        assert [about_viewer(viewer.reply()) for _ in rows] == [reply.strip() for _, reply in rows]
        assert viewer.reply() == ""


@pytest.mark.parametrize("framing", ["whole", "byte by byte"])
def test_telnet_negotiation_goes_unanswered(shared_relay: RelayProcess, framing: str) -> None:
    """A client that negotiates like a Telnet has its commands answered and nothing else."""
    with TestViewer(shared_relay.port) as viewer:
        hello = b"\xff\xfd\x03\xff\xfb\x18\xff\xfa\x18\x00XTERM\n\xff\xf0"
        text = hello + b"ES\xff\xf1TADO\r\n" + hello + b"DESCONECTAR\r\n"
        step = 1 if framing == "byte by byte" else len(text)
        for start in range(0, len(text), step):
            viewer.send(text[start : start + step])
        assert viewer.reply().startswith("OK estado=inactivo")
        assert viewer.reply() == "OK"
        assert viewer.reply() == ""


def test_commands_after_desconectar_are_not_answered(shared_relay: RelayProcess) -> None:
    """DESCONECTAR is the last word, whatever follows it in the same segment."""
    with TestViewer(shared_relay.port) as viewer:
        viewer.send(b"AYUDA\nDESCONECTAR\nESTADO\nAYUDA\n")
        assert viewer.reply().startswith("OK comandos: ")
        assert viewer.reply() == "OK"
        assert viewer.reply() == ""


def test_a_destination_belongs_to_one_session(shared_relay: RelayProcess) -> None:
    """A second session that asks for the same destination is refused, and keeps its own."""
    with TestViewer(shared_relay.port) as first, TestViewer(shared_relay.port) as other:
        first.subscribe()
        taken = f"ERROR destino ocupado por otra sesion: 127.0.0.1:{first.port}"
        assert other.command(f"CONECTAR {first.port}") == taken
        assert other.subscribe().command(f"CONECTAR {first.port}") == taken
        assert f"destino=127.0.0.1:{other.port} " in other.command("ESTADO")
        assert first.command("DESCONECTAR") == "OK"
        assert other.command(f"CONECTAR {first.port}") == "OK"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_the_relays_own_ingest_is_no_destination(host: str) -> None:
    """The stream cannot be sent back into the relay, whichever of its addresses that is."""
    need_ipv6(host)
    with RelayProcess("--ingest-port", "0", host=host) as relay, TestViewer(relay.port) as viewer:
        assert viewer.command(f"CONECTAR {relay.ingest_port}") == (
            f"ERROR destino no valido: 127.0.0.1:{relay.ingest_port} es la entrada del relay"
        )
        assert viewer.command(f"CONECTAR {relay.port}") == "OK"


@pytest.mark.parametrize("where", ["", "127.0.0.1"])
def test_the_ingest_may_be_anywhere(where: str) -> None:
    """An ingest named as VLC names it is told in the log, fed there, and no destination."""
    port = unused_port()
    with (
        RelayProcess("--ingest", f"udp://@{where}:{port}") as relay,
        TestViewer(relay.port) as viewer,
    ):
        told = f"{where or '0.0.0.0'}:{port}"
        assert relay.events("listening", ingest_port=port, ingest=told)
        assert "es la entrada del relay" in viewer.command(f"CONECTAR {port}")
        viewer.subscribe()
        with source(port) as sock:
            sock.send(b"x" * 188)
        assert viewer.receive() == b"x" * 188


def test_moving_to_another_port_frees_the_old_one(shared_relay: RelayProcess) -> None:
    """CONECTAR to another port moves the stream, and the old port is anybody's again."""
    with TestViewer(shared_relay.port) as mover, TestViewer(shared_relay.port) as next_one:
        mover.subscribe()
        with udp_socket() as new:
            assert mover.command(f"CONECTAR {new.getsockname()[1]}") == "OK"
            assert next_one.command(f"CONECTAR {mover.port}") == "OK"


def test_every_refusal_is_counted() -> None:
    """Whatever was declined is in the totals, by kind; a mere mistake is not."""
    with RelayProcess("--idle-timeout", "1") as relay:
        with TestViewer(relay.port) as idler:
            assert idler.reply() == "ERROR demasiado tiempo sin CONECTAR (1 s)"
        with TestViewer(relay.port) as viewer, TestViewer(relay.port) as other:
            viewer.subscribe()
            other.subscribe()
            assert other.command(f"CONECTAR {viewer.port}").startswith("ERROR destino ocupado")
            assert viewer.command(f"CONECTAR {relay.ingest_port}").startswith("ERROR destino no")
            assert viewer.command("CONTINUAR DIFERIDO").startswith("ERROR")
            assert other.command("nonsense").startswith("ERROR comando desconocido")
            assert other.command("x" * 600).startswith("ERROR linea demasiado larga")
        assert relay.stop() == 0
        assert relay.events("stopped")[0]["declined"] == {
            "idle_timeout": 1, "destination_taken": 1, "destination_loop": 1, "line_too_long": 1,
        }  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_browser_is_told_once_and_gives_no_commands(
    shared_relay: RelayProcess, method: str
) -> None:
    """HTTP gets one answer that a browser can show; what a page has it send is not obeyed."""
    body = "\r\nCONECTAR 5004\r\nESTADO\r\n"
    head = f"{method} / HTTP/1.1\r\nHost: relay\r\nContent-Length: {len(body)}\r\n\r\n"
    with TestViewer(shared_relay.port) as browser:
        browser.send(f"{head}{body}".encode())
        answer = http.client.HTTPResponse(browser.control, method=method)
        answer.begin()
        assert (answer.status, answer.getheader("Connection")) == (400, "close")
        assert answer.read().startswith(b"ERROR esto no es un servidor HTTP: ")
        assert browser.control.recv(1) == b""
        client = "{}:{}".format(*browser.control.getsockname())
    shared_relay.wait_event("client_gone", client=client, reason="http")
    assert not shared_relay.events("output_added", client=client)
