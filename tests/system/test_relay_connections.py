"""How control connections end, well and badly, and the tools that people drive them with."""

import contextlib
import socket
import struct
import subprocess

import pytest

from tools.lab.client import PseudoTerminal
from tools.lab.process import PATIENCE, ChildProcess, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.sockets import source
from tools.lab.traffic import exchange, numbered
from tools.lab.viewer import TestViewer, about_viewer

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing resets the connection."""


def client_name(viewer: TestViewer) -> str:
    """Return a viewer's address as the log shows it."""
    host, port = viewer.control.getsockname()
    return f"{host}:{port}"


# --- ends


def test_a_half_closed_connection_gets_its_replies(shared_relay: RelayProcess) -> None:
    """Complete lines before the peer's FIN are answered, then the relay closes too."""
    with TestViewer(shared_relay.port) as viewer:
        viewer.send(f"CONECTAR {viewer.port}\nESTADO\nx\nINTERRUMPIR".encode())
        viewer.control.shutdown(socket.SHUT_WR)
        assert viewer.reply() == "OK"
        assert viewer.reply().startswith("OK estado=transmitiendo")
        assert viewer.reply().startswith("ERROR comando desconocido: 'x'")
        assert viewer.reply() == ""
        name = client_name(viewer)
    shared_relay.wait_event("client_gone", client=name, reason="disconnected")


@pytest.mark.parametrize("text", [b"", b"CONECTAR 50", b"AYUDA\nCONECTAR 5", b"x" * 512])
def test_a_reset_ends_the_session_at_once(shared_relay: RelayProcess, text: bytes) -> None:
    """A reset, wherever in a line it comes, is one log line and nothing else."""
    with TestViewer(shared_relay.port) as viewer:
        viewer.subscribe()
        name = client_name(viewer)
        viewer.send(text)
        viewer.control.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        viewer.replies.close()
        viewer.control.close()
        shared_relay.wait_event("client_gone", client=name, reason="reset")
        with TestViewer(shared_relay.port) as next_one:
            assert next_one.command(f"CONECTAR {viewer.port}") == "OK"


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_a_line_too_long_is_answered_and_closed(shared_relay: RelayProcess, ending: bytes) -> None:
    """513 bytes are an error and the end, after all before them was answered; 512 are not."""
    with TestViewer(shared_relay.port) as viewer:
        name = client_name(viewer)
        viewer.send(b"x" * 512 + b"\r\n" + b"y" * 513 + ending)
        assert viewer.reply().startswith("ERROR comando desconocido: 'xxx")
        assert viewer.reply() == "ERROR linea demasiado larga (mas de 512 bytes)"
        assert viewer.reply() == ""
    shared_relay.wait_event("client_gone", client=name, reason="line_too_long")


def test_the_last_reply_reaches_a_client_that_is_still_sending(shared_relay: RelayProcess) -> None:
    """Who sends an endless line reads why it was closed: no reset takes the reply away."""
    with TestViewer(shared_relay.port) as viewer:
        viewer.send(b"z" * 200_000)
        assert viewer.reply() == "ERROR linea demasiado larga (mas de 512 bytes)"
        viewer.send(b"z" * 200_000)
        assert viewer.reply() == ""


def test_a_client_that_never_reads_is_closed_at_the_cap(relay: RelayProcess) -> None:
    """Replies that nobody reads do not pile up: the client is closed, logged, and no one waits."""
    with (
        TestViewer(relay.port) as deaf,
        TestViewer(relay.port) as other,
        source(relay.port) as sender,
    ):
        deaf.subscribe()
        other.subscribe()
        exchange(sender, [other], numbered([1316] * 10))
        name, before = client_name(deaf), relay.rss()
        deaf.control.settimeout(0.05)
        while not relay.events("client_gone", client=name):
            with contextlib.suppress(OSError):
                deaf.control.send(b"AYUDA\n" * 1000)
            assert other.command("ESTADO").startswith("OK")
        relay.wait_event("client_gone", client=name, reason="unread_replies")
        assert relay.rss() - before < 2048
        exchange(sender, [other], numbered([1316] * 10))


def test_leaving_is_always_logged_with_a_reason(relay: RelayProcess) -> None:
    """Coming and going is one event each, and DESCONECTAR, FIN and reset are told apart."""
    names = []
    for last_words, reason in ((b"DESCONECTAR\n", "disconnected"), (b"ESTADO\n", "disconnected")):
        with TestViewer(relay.port) as viewer:
            viewer.send(last_words)
            assert viewer.reply().startswith("OK")
            names.append(client_name(viewer))
        relay.wait_event("client_gone", client=names[-1], reason=reason)
    assert [event["client"] for event in relay.events("client_connected")] == names


def test_protocol_errors_are_logged_a_few_at_a_time(relay: RelayProcess) -> None:
    """A peer that is wrong again and again has each line answered, but few of them logged."""
    with TestViewer(relay.port) as viewer:
        for _ in range(100):
            assert viewer.command("hola").startswith("ERROR")
    relay.wait_event("client_gone")
    errors = relay.events("protocol_error")
    assert 1 <= len(errors) <= 10
    assert (errors[0]["reason"], errors[0]["detail"]) == ("unknown_command", "'hola'")


def test_what_is_declined_is_logged_in_english(relay: RelayProcess) -> None:
    """A valid command that the relay declines is another event than a broken protocol."""
    with TestViewer(relay.port) as viewer, TestViewer(relay.port) as other:
        viewer.subscribe()
        assert other.command(f"CONECTAR {viewer.port}").startswith("ERROR destino ocupado")
        declined = relay.wait_event("command_declined", client=client_name(other))
        assert declined["reason"] == "destination_taken"
        assert declined["detail"] == f"127.0.0.1:{viewer.port}"
    assert relay.events("protocol_error") == []


def test_out_of_descriptors_is_a_declined_client() -> None:
    """Without descriptors a newcomer reads why, the present ones go on, and room comes back."""
    need("prlimit")
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(RelayProcess(prefix=("prlimit", "--nofile=40:40")))
        sender = stack.enter_context(source(relay.port))
        first = stack.enter_context(TestViewer(relay.port)).subscribe()
        crowd = [stack.enter_context(TestViewer(relay.port)) for _ in range(50)]
        farewell = crowd[-1].reply()
        assert farewell == "ERROR el relay no admite mas conexiones: pruebe mas tarde"
        relay.wait_event("client_declined", reason="descriptors")
        exchange(sender, [first], numbered([1316] * 10))
        refused = crowd[20].command("CONECTAR 5004")
        assert refused == "ERROR no se puede enviar a 127.0.0.1:5004: sin descriptores"
        for viewer in crowd:
            viewer.close()
        wait_for(lambda: admits(relay), "room for a newcomer")


def admits(relay: RelayProcess) -> bool:
    """Tell whether a newcomer can have the stream."""
    with TestViewer(relay.port) as viewer, contextlib.suppress(OSError):
        return viewer.command(f"CONECTAR {viewer.port}") == "OK"
    return False


# --- tools


def test_netcat_with_piped_commands(shared_relay: RelayProcess) -> None:
    """`nc -N` sends a script and its FIN at once; each line is answered before the end."""
    need("nc")
    script = "CONECTAR 5004\nINTERRUMPIR\nCONTINUAR\nCONTINUAR\nESTADO\nDESCONECTAR\n"
    done = subprocess.run(
        ["nc", "-N", "127.0.0.1", str(shared_relay.port)],
        input=script.encode(),
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert [about_viewer(line) for line in done.stdout.decode().splitlines()] == [
        "OK",
        "OK",
        "OK",
        "ERROR CONTINUAR no es valido ahora (estado: transmitiendo)",
        "OK estado=transmitiendo destino=127.0.0.1:5004 enviados=0 perdidos=0",
        "OK",
    ]


DIALOGUE = [
    ("ayuda", "OK comandos: CONECTAR <puerto>"),
    ("CONTINUAR", "ERROR CONTINUAR no es valido ahora (estado: inactivo)"),
    ("CONECTAR-5004", "OK"),
    ("INTERRUMPIR", "OK"),
    ("estado", "OK estado=pausado destino=127.0.0.1:5004 enviados=0 perdidos=0"),
    ("CONTINUAR", "OK"),
    ("DESCONECTAR", "OK"),
]


@pytest.mark.parametrize("tool", ["nc", "telnet"])
def test_a_dialogue_over_a_pipe(shared_relay: RelayProcess, tool: str) -> None:
    """A script that talks through `nc` or `telnet`, waiting for each reply, reads them all."""
    need(tool)
    with ChildProcess(tool, "127.0.0.1", str(shared_relay.port), stdin=subprocess.PIPE) as program:
        assert program.process.stdin is not None
        if tool == "telnet":
            wait_for(lambda: any("Escape" in line for line in program.stdout), "telnet")
        skip = len(program.stdout)
        for count, (command, _) in enumerate(DIALOGUE, skip + 1):
            program.process.stdin.write(f"{command}\n".encode())
            program.process.stdin.flush()
            wait_for(lambda count=count: len(program.stdout) >= count, f"a reply to {command}")  # type: ignore[misc]
        replies = program.stdout[skip:]
        for (_, expected), reply in zip(DIALOGUE, replies, strict=False):
            assert reply.rstrip("\r\n").startswith(expected)


def test_a_person_at_a_telnet(shared_relay: RelayProcess) -> None:
    """Typed at `telnet` on a terminal, negotiation and all, every command is answered in order."""
    need("telnet")
    with PseudoTerminal("telnet", "127.0.0.1", str(shared_relay.port)) as terminal:
        terminal.contains("Escape character")
        for command, _ in DIALOGUE:
            terminal.type(f"{command}\n")
        terminal.contains("closed by foreign host")
        shown = terminal.text.splitlines()
    replies = [line for line in shown if line.startswith(("OK", "ERROR"))]
    for (_, expected), reply in zip(DIALOGUE, replies, strict=True):
        assert reply.startswith(expected)


def test_asking_again_for_the_same_port(shared_relay: RelayProcess) -> None:
    """It resumes a paused session and changes nothing in a streaming one; the log says which."""
    with TestViewer(shared_relay.port) as viewer:
        client = client_name(viewer)
        for command in ("CONECTAR", "CONECTAR", "INTERRUMPIR", "CONECTAR"):
            words = f"{command} {viewer.port}" if command == "CONECTAR" else command
            assert viewer.command(words) == "OK"
    shared_relay.wait_event("client_gone", client=client)
    told = [event["event"] for event in shared_relay.log if event.get("client") == client]
    assert told == [
        "client_connected", "output_added", "paused", "resumed", "output_removed", "client_gone",
    ]  # fmt: skip
