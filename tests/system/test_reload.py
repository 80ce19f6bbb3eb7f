"""Reloading while the relay is in use: nobody is cut off, nothing is lost or doubled."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.lab.altered import Altered
from tools.lab.process import PATIENCE, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import (
    AYUDA,
    CountingViewers,
    NumberedStream,
    Typing,
    Typist,
    children,
    descriptors,
    hang_up,
    nonsense,
    nonsense_by_telnet,
    reload,
    stuff,
    zapping,
)
from tools.lab.sockets import source
from tools.lab.viewer import TestViewer

RELOADS = 5

HOSTS = ("127.0.0.1", "::1")


class Crowd:
    """Fifty viewers of every kind, over IPv4 and IPv6."""

    def __init__(self, stack: contextlib.ExitStack, port: int) -> None:
        def come(count: int) -> list[TestViewer]:
            return [
                stack.enter_context(TestViewer(port, HOSTS[index % 2])) for index in range(count)
            ]

        self.watching = [viewer.subscribe() for viewer in come(25)]
        self.paused = [viewer.subscribe() for viewer in come(5)]
        self.closed = [viewer.subscribe() for viewer in come(5)]
        self.typists = [
            *(Typist(viewer, nonsense()) for viewer in come(5)),
            *(Typist(viewer, nonsense_by_telnet()) for viewer in come(5)),
            *(Typist(viewer, zapping(viewer.port)) for viewer in come(5)),
        ]
        for viewer in self.paused:
            assert viewer.command("INTERRUMPIR") == "OK"
        for viewer in self.closed:
            viewer.player.close()


@pytest.fixture
def relay() -> Iterator[RelayProcess]:
    """A relay on both IPs."""
    with RelayProcess(host="::") as program:
        yield program


@pytest.mark.long
def test_reloads_cost_nobody_anything(relay: RelayProcess) -> None:
    """Five reloads under 5 Mb/s with 50 viewers lose no datagram, connection, reply or count."""
    with contextlib.ExitStack() as stack:
        crowd = Crowd(stack, relay.port)
        audience = stack.enter_context(CountingViewers(crowd.watching))
        stream = stack.enter_context(NumberedStream(relay.ingest_port))
        with Typing(crowd.typists):
            relay.wait_event("source_locked")
            relay.wait_event("output_added", 40)
            before = descriptors(relay)
            for _ in range(RELOADS):
                reload(relay)
        stream.__exit__()
        print(f"longest gap {audience.longest_gap:.3f} s of {stream.sent} datagrams")
        audience.expect(stream.sent)
        assert all(typist.finish() > RELOADS for typist in crowd.typists)
        counters = f" enviados={stream.sent} perdidos=0 "
        for viewer in crowd.watching:
            assert counters in viewer.command("ESTADO")
        for viewer in crowd.paused:
            assert viewer.command("ESTADO").startswith("OK estado=pausado ")
            assert viewer.nothing_arrives(0.01)
        for viewer in crowd.closed:
            assert viewer.command("ESTADO").startswith("OK estado=transmitiendo ")
        assert descriptors(relay) == before
        assert not children(relay)
        assert not relay.events("client_gone")
        assert len(relay.events("reloaded")) == RELOADS


def test_a_line_may_be_half_typed_anywhere(relay: RelayProcess) -> None:
    """A reload between any two bytes of commands, Telnet negotiation included, changes nothing."""
    script = b"\xff\xfa\x18\x00\nv\xff\xffx\xff\xf0AYU\xff\xfd\x03DA\r\nX1\n"
    with contextlib.ExitStack() as stack:
        viewers = [stack.enter_context(TestViewer(relay.port)) for _ in range(len(script) + 1)]
        for cut, viewer in enumerate(viewers):
            viewer.send(script[:cut])
        assert viewers[-1].reply() == AYUDA  # so it has read what the others have sent
        reload(relay)
        for cut, viewer in enumerate(viewers):
            viewer.send(script[cut:])
            assert cut == len(script) or viewer.reply() == AYUDA
            assert "'X1'" in viewer.reply()


@pytest.mark.long
def test_who_comes_during_a_reload_is_served(relay: RelayProcess) -> None:
    """Connections wait for the new program; none is turned away."""
    came = 0
    for reloads in range(1, 4):
        hang_up(relay)
        while len(relay.events("reloaded")) < reloads:
            with TestViewer(relay.port) as newcomer:
                assert newcomer.command("AYUDA") == AYUDA
            came += 1
    assert relay.stop() == 0
    assert relay.events("stopped")[0]["accepted"] == came > 3


@pytest.fixture
def patient_relay(tmp_path: Path) -> Iterator[RelayProcess]:
    """A relay that lets its peers take their time, lest a loaded machine be too slow."""
    patience = (
        "from relaylib.net import connection\n"
        "connection.LINGER, connection.USER_TIMEOUT = 60.0, 60_000"
    )
    with RelayProcess(prefix=Altered(tmp_path, patience).prefix) as program:
        yield program


@pytest.mark.long
def test_replies_that_nobody_reads_travel(patient_relay: RelayProcess) -> None:
    """Replies that wait for their reader are there after two reloads, once and in order."""
    with TestViewer(patient_relay.port) as viewer:
        unread = stuff(patient_relay, viewer)
        reload(patient_relay)
        reload(patient_relay)
        assert [viewer.reply() for _ in range(unread)] == [AYUDA] * unread
        assert viewer.command("ESTADO").startswith("OK estado=inactivo ")


def test_the_last_replies_of_one_who_leaves_travel(patient_relay: RelayProcess) -> None:
    """Who said DESCONECTAR and has not read it all yet still gets everything, then the end."""
    with TestViewer(patient_relay.port) as viewer, TestViewer(patient_relay.port) as other:
        unread = stuff(patient_relay, viewer)
        viewer.send(b"DESCONECTAR\nESTADO\n")
        assert other.command("AYUDA") == AYUDA
        reload(patient_relay)
        assert [viewer.reply() for _ in range(unread)] == [AYUDA] * unread
        assert [viewer.reply(), viewer.reply()] == ["OK", ""]
    patient_relay.wait_event("client_gone", reason="disconnected", clients=1)


def test_who_has_left_half_is_not_reset(patient_relay: RelayProcess) -> None:
    """A connection that only waits for its peer to close can still be closed in peace."""
    before = descriptors(patient_relay)
    with TestViewer(patient_relay.port) as viewer:
        viewer.send(b"DESCONECTAR\n")
        patient_relay.wait_event("client_connected")
        reload(patient_relay)
        viewer.send(b"ESTADO\n")
        assert [viewer.reply(), viewer.reply()] == ["OK", ""]
    patient_relay.wait_event("client_gone", reason="disconnected")
    wait_for(lambda: descriptors(patient_relay) == before, "the descriptor to be closed")


def test_a_player_that_was_closed_is_found_again(relay: RelayProcess) -> None:
    """A viewer whose port was closed before the reload gets the stream when it opens the port."""
    with TestViewer(relay.port) as viewer, NumberedStream(relay.ingest_port):
        viewer.subscribe()
        port = viewer.player.getsockname()
        viewer.player.close()
        relay.wait_event("ingest_started")
        reload(relay)
        with contextlib.closing(
            type(viewer.player)(viewer.player.family, viewer.player.type)
        ) as it:
            it.bind(port)
            it.settimeout(PATIENCE)
            assert it.recv(2048)


# --- the stream's side


def test_a_reload_before_any_source(relay: RelayProcess) -> None:
    """The first source may come after the reload."""
    with TestViewer(relay.port) as viewer, source(relay.ingest_port) as encoder:
        viewer.subscribe()
        reload(relay)
        encoder.send(b"first")
        assert viewer.receive() == b"first"


@pytest.mark.long
def test_a_reload_while_the_source_is_silent() -> None:
    """The silent source may go on, and until then another one may take over, as before."""
    with RelayProcess("--source-timeout", "0.3") as relay, TestViewer(relay.port) as viewer:
        viewer.subscribe()
        with source(relay.ingest_port) as encoder, source(relay.ingest_port) as standby:
            encoder.send(b"first")
            relay.wait_event("ingest_silent")
            reload(relay)
            encoder.send(b"second")
            relay.wait_event("ingest_silent", 2)
            reload(relay)
            standby.send(b"third")
            assert viewer.receive_all(3) == [b"first", b"second", b"third"]
        relay.wait_event("source_takeover")


def test_the_source_stays_locked() -> None:
    """A stranger is still rejected after the reload, and still takes over after silence."""
    with RelayProcess("--source-timeout", "1") as relay, TestViewer(relay.port) as viewer:
        viewer.subscribe()
        with source(relay.ingest_port) as standby:
            with NumberedStream(relay.ingest_port) as stream, CountingViewers([viewer]) as audience:
                relay.wait_event("ingest_started")
                reload(relay)
                standby.send(b"stranger")
                relay.wait_event("source_rejected")
                stream.__exit__()
                audience.expect(stream.sent)
            relay.wait_event("ingest_silent")
            standby.send(b"standby")
            viewer.player.setblocking(True)
            assert viewer.receive() == b"standby"
        relay.wait_event("source_takeover")


def test_a_reload_does_not_lengthen_the_silence() -> None:
    """The source timeout counts from the last datagram, though the program is a new one."""
    with RelayProcess("--source-timeout", "1") as relay, source(relay.ingest_port) as encoder:
        encoder.send(b"only")
        relay.wait_event("ingest_started")
        while not relay.events("ingest_silent"):
            reload(relay)  # each takes a fraction of the timeout


@pytest.mark.long
def test_an_ingest_that_cannot_be_split() -> None:
    """A stream sent to another local address than the relay answers from survives reloads, too."""
    with RelayProcess(host="0.0.0.0") as relay, TestViewer(relay.port) as viewer:
        viewer.subscribe()
        with (
            CountingViewers([viewer]) as audience,
            NumberedStream(relay.ingest_port, "127.0.0.2") as stream,
        ):
            relay.wait_event("ingest_started")
            for _ in range(3):
                reload(relay)
            with source(relay.ingest_port, "127.0.0.2") as stranger:
                stranger.send(b"stranger")
                relay.wait_event("source_rejected")
            stream.__exit__()
            audience.expect(stream.sent)


@pytest.mark.long
def test_a_smooth_stream_is_not_cut_while_the_program_is_tried(relay: RelayProcess) -> None:
    """Asking for the next reload while one is under way loses nothing either."""
    with TestViewer(relay.port) as viewer:
        viewer.subscribe()
        with CountingViewers([viewer]) as audience, NumberedStream(relay.ingest_port) as stream:
            for wanted in range(1, 4):
                relay.wait_event("listening", wanted)
                hang_up(relay)
            relay.wait_event("reloaded", 3)
            stream.__exit__()
            audience.expect(stream.sent)
