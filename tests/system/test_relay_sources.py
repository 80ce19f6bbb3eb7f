"""Who gets the ingest of a real relay: strays, streams of known form, and others."""

import subprocess

import pytest

from tools.lab.process import ChildProcess, need
from tools.lab.relay import RelayProcess
from tools.lab.reloads import reload
from tools.lab.sockets import source
from tools.lab.viewer import TestViewer

STREAM = [7 * (b"\x47\x1f\xff\x10" + index.to_bytes(4, "big") + bytes(180)) for index in range(500)]
"""Transport stream packets, no two datagrams alike."""

PATIENT = ("--source-timeout", "60")
"""So that no source falls silent, however busy the machine is."""


def test_a_stray_line_costs_the_stream_nothing() -> None:
    """`echo hello | nc -u`, and a stream right behind it: it is relayed from its first datagram."""
    need("nc")
    with (
        RelayProcess(*PATIENT) as relay,
        TestViewer(relay.port) as viewer,
        source(relay.ingest_port) as encoder,
    ):
        viewer.subscribe()
        with ChildProcess(
            "nc", "-u", "127.0.0.1", str(relay.ingest_port), stdin=subprocess.PIPE
        ) as nc:
            nc.process.stdin.write(b"hello\n")  # type: ignore[union-attr]
            nc.process.stdin.flush()  # type: ignore[union-attr]
            assert viewer.receive() == b"hello\n"
            for each in STREAM:
                encoder.send(each)
                assert viewer.receive() == each
        assert relay.wait_event("source_takeover")["reason"] == "form"
        assert " fuente=activa forma=ts " in viewer.command("ESTADO")


@pytest.mark.parametrize("reloaded", [False, True])
@pytest.mark.parametrize(("sent", "displaced"), [(49, True), (50, False)])
def test_fifty_datagrams_protect_a_source_of_unknown_form(
    sent: int, displaced: bool, reloaded: bool
) -> None:
    """One fewer do not, and a reload in between changes nothing; the other way round never."""
    with (
        RelayProcess(*PATIENT) as relay,
        TestViewer(relay.port) as viewer,
        source(relay.ingest_port) as opaque,
        source(relay.ingest_port) as encoder,
    ):
        viewer.subscribe()
        for index in range(sent):
            opaque.send(b"opaque %d" % index)
            assert viewer.receive() == b"opaque %d" % index
        if reloaded:
            reload(relay)
            opaque.send(b"")  # ends no silence, and is none of the fifty
        encoder.send(STREAM[0])
        if not displaced:
            relay.wait_event("source_rejected")
            assert viewer.nothing_arrives(0.01)
            assert " fuente=activa forma=opaca " in viewer.command("ESTADO")
            return
        assert viewer.receive() == STREAM[0]
        if reloaded:
            reload(relay)
        opaque.send(b"opaque")
        relay.wait_event("source_rejected")
        encoder.send(STREAM[1])
        assert viewer.receive() == STREAM[1]
        assert " fuente=activa forma=ts " in viewer.command("ESTADO")
        assert len(relay.events("source_takeover")) == 1
