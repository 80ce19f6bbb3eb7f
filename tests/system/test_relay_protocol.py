"""The whole control protocol over real connections: every state, every command, every framing."""

import pytest

from relaylib.protocol import commands
from tools.lab.process import need_ipv6
from tools.lab.relay import Relay
from tools.lab.sockets import udp_socket
from tools.lab.viewer import Viewer

FRAMINGS = ("whole", "byte by byte", "one segment")

WAYS = {
    "inactivo": [],
    "transmitiendo": ["CONECTAR {port}"],
    "pausado": ["CONECTAR {port}", "INTERRUMPIR"],
}
"""How a session gets into each state that this relay can reach."""

COMMANDS = [
    "CONECTAR {port}",
    "CONECTAR {other}",
    "INTERRUMPIR",
    "CONTINUAR",
    "CONTINUAR DIFERIDO",
    "DESCONECTAR",
    "ESTADO",
    "AYUDA",
    "CONECTAR 80",
    "hola",
]

OUT_OF_ORDER = "ERROR {command} no es valido ahora (estado: {state})"


def expected(state: str, command: str) -> tuple[str, str]:
    """Return the reply, and the state that ESTADO shows after it; from the protocol's table."""
    destination = "-" if state == "inactivo" else "127.0.0.1:{port}"
    status = f"OK estado={state} destino={destination} enviados=0 perdidos=0"
    refused = OUT_OF_ORDER.format(command=command, state=state)
    streaming, paused = state == "transmitiendo", state == "pausado"
    return {
        "CONECTAR {port}": ("OK", "transmitiendo"),
        "CONECTAR {other}": ("OK", "transmitiendo"),
        "INTERRUMPIR": ("OK", "pausado") if streaming else (refused, state),
        "CONTINUAR": ("OK", "transmitiendo") if paused else (refused, state),
        "CONTINUAR DIFERIDO": (
            "ERROR CONTINUAR DIFERIDO no esta disponible: este relay no guarda memoria"
            if paused
            else refused,
            state,
        ),
        "DESCONECTAR": ("OK", ""),
        "ESTADO": (status, state),
        "AYUDA": (commands.HELP.decode().rstrip("\n"), state),
        "CONECTAR 80": ("ERROR puerto no valido: '80' (de 1024 a 65535)", state),
        "hola": ("ERROR comando desconocido: 'hola' (AYUDA los enumera)", state),
    }[command]


def send(viewer: Viewer, lines: list[str], framing: str) -> None:
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
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("state", WAYS)
def test_every_state_and_command(
    shared_relay: Relay, state: str, command: str, framing: str
) -> None:
    """Each command in each state has its one exact reply and its effect, however it is cut."""
    reply, after = expected(state, command)
    with Viewer(shared_relay.port) as viewer, udp_socket() as other:
        names = {"port": viewer.port, "other": other.getsockname()[1]}
        lines = [line.format(**names) for line in [*WAYS[state], command, "ESTADO"]]
        send(viewer, lines, framing)
        assert [viewer.reply() for _ in WAYS[state]] == ["OK"] * len(WAYS[state])
        assert viewer.reply() == reply.format(**names)
        if not after:
            assert viewer.reply() == ""
        else:
            status = viewer.reply()
            assert status.startswith(f"OK estado={after} destino=")
            if command == "CONECTAR {other}":
                assert f"destino=127.0.0.1:{names['other']} " in status


@pytest.mark.parametrize("framing", FRAMINGS)
def test_replies_come_in_the_order_of_the_commands(shared_relay: Relay, framing: str) -> None:
    """A long run of good and bad commands has its answers in order, blank lines apart."""
    with Viewer(shared_relay.port) as viewer:
        lines = [
            f"CONECTAR {viewer.port}",
            "",
            "CONECTAR-99",
            "  ",
            "continuar",
            "INTERRUMPIR",
            "x",
        ]
        send(viewer, [*lines * 5, "DESCONECTAR"], framing)
        replies = [viewer.reply() for _ in range(5 * 5 + 1)]
        assert viewer.reply() == ""
    round_of_replies = ["OK", "ERROR puerto", "ERROR CONTINUAR no es", "OK", "ERROR comando"]
    for reply, begin in zip(replies, [*round_of_replies * 5, "OK"], strict=True):
        assert reply.startswith(begin)


@pytest.mark.parametrize("framing", ["whole", "byte by byte"])
def test_telnet_negotiation_goes_unanswered(shared_relay: Relay, framing: str) -> None:
    """A client that negotiates like a Telnet has its commands answered and nothing else."""
    with Viewer(shared_relay.port) as viewer:
        hello = b"\xff\xfd\x03\xff\xfb\x18\xff\xfa\x18\x00XTERM\n\xff\xf0"
        text = hello + b"ES\xff\xf1TADO\r\n" + hello + b"DESCONECTAR\r\n"
        step = 1 if framing == "byte by byte" else len(text)
        for start in range(0, len(text), step):
            viewer.send(text[start : start + step])
        assert viewer.reply().startswith("OK estado=inactivo")
        assert viewer.reply() == "OK"
        assert viewer.reply() == ""


def test_commands_after_desconectar_are_not_answered(shared_relay: Relay) -> None:
    """DESCONECTAR is the last word, whatever follows it in the same segment."""
    with Viewer(shared_relay.port) as viewer:
        viewer.send(b"AYUDA\nDESCONECTAR\nESTADO\nAYUDA\n")
        assert viewer.reply().startswith("OK comandos: ")
        assert viewer.reply() == "OK"
        assert viewer.reply() == ""


def test_a_destination_belongs_to_one_session(shared_relay: Relay) -> None:
    """A second session that asks for the same destination is refused, and keeps its own."""
    with Viewer(shared_relay.port) as owner, Viewer(shared_relay.port) as other:
        owner.subscribe()
        taken = f"ERROR destino ocupado por otra sesion: 127.0.0.1:{owner.port}"
        assert other.command(f"CONECTAR {owner.port}") == taken
        assert other.subscribe().command(f"CONECTAR {owner.port}") == taken
        assert f"destino=127.0.0.1:{other.port} " in other.command("ESTADO")
        assert owner.command("DESCONECTAR") == "OK"
        assert other.command(f"CONECTAR {owner.port}") == "OK"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_the_relays_own_ingest_is_no_destination(host: str) -> None:
    """The stream cannot be sent back into the relay, whichever of its addresses that is."""
    need_ipv6(host)
    with Relay("--ingest-port", "0", host=host) as relay, Viewer(relay.port) as viewer:
        assert viewer.command(f"CONECTAR {relay.ingest_port}") == (
            f"ERROR destino no valido: 127.0.0.1:{relay.ingest_port} es la entrada del relay"
        )
        assert viewer.command(f"CONECTAR {relay.port}") == "OK"


def test_moving_to_another_port_frees_the_old_one(shared_relay: Relay) -> None:
    """CONECTAR to another port moves the stream, and the old port is anybody's again."""
    with Viewer(shared_relay.port) as mover, Viewer(shared_relay.port) as heir:
        mover.subscribe()
        with udp_socket() as new:
            assert mover.command(f"CONECTAR {new.getsockname()[1]}") == "OK"
            assert heir.command(f"CONECTAR {mover.port}") == "OK"


def test_every_refusal_is_counted() -> None:
    """Whatever was declined is in the totals, by kind; a mere mistake is not."""
    with Relay("--idle-timeout", "1") as relay:
        with Viewer(relay.port) as idler:
            assert idler.reply() == "ERROR demasiado tiempo sin CONECTAR"
        with Viewer(relay.port) as viewer, Viewer(relay.port) as other:
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
