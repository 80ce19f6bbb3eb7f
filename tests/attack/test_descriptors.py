"""A relay that has no descriptor left, down to the last one."""

import socket

from tools.lab.attacks import leave_descriptors
from tools.lab.relay import RelayProcess
from tools.lab.viewer import TestViewer


def test_asking_for_the_stream_without_descriptors() -> None:
    """CONECTAR is refused with the reason, whatever the port, and works again when one is free."""
    with RelayProcess(host="0.0.0.0") as relay, TestViewer(relay.port) as viewer:
        assert viewer.command("ESTADO").startswith("OK")
        leave_descriptors(relay, 0)
        for port in (viewer.port, relay.ingest_port):
            reply = viewer.command(f"CONECTAR {port}")
            assert reply == f"ERROR no se puede enviar a 127.0.0.1:{port}: sin descriptores"
        assert viewer.command("ESTADO").startswith("OK estado=inactivo destino=-")
        leave_descriptors(relay, 1)
        viewer.subscribe()
        reply = viewer.command(f"CONECTAR {relay.ingest_port}")
        assert reply.startswith("ERROR no se puede enviar")
        assert viewer.command("ESTADO").startswith("OK estado=transmitiendo")
        assert relay.events("bug") == []


def test_a_browser_that_comes_when_there_is_no_descriptor() -> None:
    """It is told 503 at once, whoever watches goes on, and the next one is served."""
    with RelayProcess("--http", "127.0.0.1:0") as relay:
        address = ("127.0.0.1", relay.wait_event("http_listening")["port"])
        request = b"HEAD /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with socket.create_connection(address) as early:
            early.sendall(request)
            assert early.recv(4096).startswith(b"HTTP/1.1 200 ")
            leave_descriptors(relay, 0)
            with socket.create_connection(address) as late:
                assert late.recv(4096).startswith(b"HTTP/1.1 503 ")
            early.sendall(request)
            assert early.recv(4096).startswith(b"HTTP/1.1 200 ")
            leave_descriptors(relay, 4)
            with socket.create_connection(address) as late:
                late.sendall(request)
                assert late.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert relay.events("bug") == []
