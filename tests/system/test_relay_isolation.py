"""Nobody hurts anybody: closed players, dead viewers, other sources, floods and crowds."""

import contextlib
import signal
import socket
import time
from typing import Any

import pytest

from tools.lab.process import wait_for
from tools.lab.relay import RelayProcess
from tools.lab.sockets import source, udp_socket
from tools.lab.traffic import exchange, flood_ingest, numbered
from tools.lab.viewer import TestViewer

STREAM = numbered([1316] * 100)


def fields(status: str) -> dict[str, str]:
    """Read the reply to ESTADO."""
    ok, *words = status.split()
    assert ok == "OK"
    return dict(word.split("=") for word in words)


# --- players


def test_a_closed_player_hurts_nobody_and_gets_the_stream_when_it_opens(
    relay: RelayProcess,
) -> None:
    """While its port is closed a viewer costs a probe now and then; it is served once it opens."""
    with (
        source(relay.ingest_port) as sender,
        TestViewer(relay.port) as early,
        TestViewer(relay.port) as other,
    ):
        early.player.close()
        other.subscribe()
        assert early.command(f"CONECTAR {early.port}") == "OK"

        def lost() -> int:
            exchange(sender, [other], STREAM)
            return int(fields(early.command("ESTADO"))["perdidos"])

        wait_for(lambda: lost() > len(STREAM), "the closed port to be found out")
        before, offered = fields(early.command("ESTADO")), 0
        while offered < 10 * len(STREAM):
            exchange(sender, [other], STREAM)
            offered += len(STREAM)
        after = fields(early.command("ESTADO"))
        assert int(after["enviados"]) - int(before["enviados"]) < offered / 10
        early.player = udp_socket(port=early.port)
        while early.nothing_arrives(0.001):
            exchange(sender, [other], STREAM)
        while not early.nothing_arrives(0.1):
            pass
        exchange(sender, [other, early], STREAM)


def test_a_player_that_dies_hurts_nobody(relay: RelayProcess) -> None:
    """A player that closes mid-stream while its session stays takes nothing from the others."""
    with (
        source(relay.ingest_port) as sender,
        TestViewer(relay.port) as dead,
        TestViewer(relay.port) as alive,
    ):
        exchange(sender, [dead.subscribe(), alive.subscribe()], STREAM)
        dead.player.close()
        for _ in range(10):
            exchange(sender, [alive], STREAM)
        assert fields(alive.command("ESTADO"))["perdidos"] == "0"
        assert fields(dead.command("ESTADO"))["perdidos"] != "0"


@pytest.mark.parametrize("last_words", [b"", b"DESCONECTAR\n", b"CONECTAR "])
def test_a_viewer_that_leaves_frees_its_destination(relay: RelayProcess, last_words: bytes) -> None:
    """However a viewer leaves, its stream stops at once, and another may have its port."""
    with (
        source(relay.ingest_port) as sender,
        TestViewer(relay.port) as next_one,
        TestViewer(relay.port) as viewer,
    ):
        next_one.player.close()
        next_one.player, next_one.port = viewer.player, viewer.port
        exchange(sender, [viewer.subscribe()], STREAM)
        viewer.send(last_words)
        viewer.replies.close()
        viewer.control.close()
        removed = relay.wait_event("output_removed")
        assert (removed["sent"], removed["dropped"], removed["unreachable"]) == (100, 0, 0)
        sender.send(b"nobody wants this")
        assert next_one.nothing_arrives()
        exchange(sender, [next_one.subscribe()], STREAM)


def test_a_pause_is_a_pause(relay: RelayProcess) -> None:
    """INTERRUMPIR stops the stream, CONTINUAR resumes it live; the others notice nothing."""
    with (
        source(relay.ingest_port) as sender,
        TestViewer(relay.port) as viewer,
        TestViewer(relay.port) as other,
    ):
        exchange(sender, [viewer.subscribe(), other.subscribe()], STREAM)
        assert viewer.command("INTERRUMPIR") == "OK"
        exchange(sender, [other], STREAM)
        assert viewer.nothing_arrives()
        assert viewer.command("CONTINUAR") == "OK"
        exchange(sender, [viewer, other], STREAM)
        assert fields(viewer.command("ESTADO"))["enviados"] == "200"


# --- other sources, and too much of the stream


def test_an_overflow_of_the_receive_buffer_is_counted_and_logged(relay: RelayProcess) -> None:
    """What the kernel dropped while the relay did not read is counted, and the log says so."""
    with source(relay.ingest_port) as sender:
        sender.send(b"x" * 60_000)
        relay.wait_event("ingest_started")
        relay.process.send_signal(signal.SIGSTOP)
        for _ in range(1000):
            sender.send(b"x" * 60_000)
        relay.process.send_signal(signal.SIGCONT)
        overflow = relay.wait_event("ingest_overflow")
        wait_for(lambda: told(relay)["received"] + overflow["total"] == 1001, "the rest to be read")
        assert relay.stop() == 0
    totals = relay.events("stopped")[0]
    assert totals["overflowed"] == overflow["total"] > 0
    assert totals["received"] + totals["overflowed"] == 1001


def told(relay: RelayProcess) -> dict[str, Any]:
    """Have the relay tell of everything."""
    before = len(relay.events("report"))
    relay.process.send_signal(signal.SIGUSR1)
    return relay.wait_event("report", before + 1)


# --- floods


def test_commands_are_answered_while_a_flood_hits_the_ingest(relay: RelayProcess) -> None:
    """A stream far too fast does not keep anyone from being heard, or from coming in."""
    with TestViewer(relay.port) as viewer:
        viewer.subscribe()
        with flood_ingest(relay.ingest_port, 1.5) as flood:
            relay.wait_event("ingest_started")
            answered = 0
            while flood.running:
                assert viewer.command("ESTADO").startswith("OK estado=transmitiendo")
                with TestViewer(relay.port) as newcomer:
                    assert newcomer.subscribe().command("DESCONECTAR") == "OK"
                answered += 1
            assert flood.total() > 1000
        assert answered >= 10


# --- crowds


def test_200_viewers_at_5_megabits_cost_little_memory(relay: RelayProcess) -> None:
    """200 viewers get every datagram of a 5 Mb/s stream, in under 60 MiB that do not grow."""
    with contextlib.ExitStack() as stack:
        sender = stack.enter_context(source(relay.ingest_port))
        crowd = [stack.enter_context(TestViewer(relay.port)).subscribe() for _ in range(200)]
        for viewer in crowd[5:]:  # sinks: what they do not read must not fill this machine's memory
            viewer.player.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        pace(sender, crowd[:5], seconds=1)
        before = relay.rss()
        pace(sender, crowd[:5], seconds=4)
        after = relay.rss()
        assert after < 60 * 1024
        assert after - before < 1024
        assert all(" enviados=2375 perdidos=0 " in viewer.command("ESTADO") for viewer in crowd)


def pace(sender: socket.socket, sample: list[TestViewer], seconds: int) -> None:
    """Send 475 datagrams a second, which is 5 Mb/s, and read them at a sample of the viewers."""
    due = time.monotonic()
    for _ in range(25 * seconds):
        exchange(sender, sample, STREAM[:19])
        due += 19 / 475
        time.sleep(max(0.0, due - time.monotonic()))
