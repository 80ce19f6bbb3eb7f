"""A relay that has no descriptor left, down to the last one."""

import os
import resource

from tests.helpers import Relay, Viewer


def leave_descriptors(relay: Relay, count: int) -> None:
    """Let the relay open so many descriptors more."""
    numbers = [int(fd) for fd in os.listdir(f"/proc/{relay.pid}/fd")]
    limit = max(numbers) + 1 + count
    _, hard = resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (limit, hard))


def test_asking_for_the_stream_without_descriptors() -> None:
    """CONECTAR is refused with the reason, whatever the port, and works again when one is free."""
    with Relay(host="0.0.0.0") as relay, Viewer(relay.port) as viewer:
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
