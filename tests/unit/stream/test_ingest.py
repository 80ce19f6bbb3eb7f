"""Who may send the stream, and what is said when it comes, stops, or does not fit."""

import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Any

from relaylib.config import Config
from relaylib.net import linux
from relaylib.stream.batch import Run
from relaylib.stream.ingest import Ingest
from relaylib.stream.receive_buffer import ReceiveBuffer
from tools.lab.inprocess import running_loop, turn_for, turn_until
from tools.lab.process import wait_for
from tools.lab.relay import Relay
from tools.lab.sockets import source, udp_socket
from tools.lab.traffic import exchange, flood_ingest, numbered
from tools.lab.viewer import Viewer

QUICK = ("--source-timeout", "0.6")
STREAM = numbered([1316] * 100)


def name(sender: socket.socket) -> str:
    """Return a sender's address as the log shows it."""
    host, port = sender.getsockname()[:2]
    return f"{host}:{port}"


def stopped(relay: Relay) -> dict[str, Any]:
    """Stop the relay; return its totals."""
    assert relay.stop() == 0
    return relay.events("stopped")[0]


# --- the lock


def test_a_stranger_never_reaches_a_viewer(relay: Relay) -> None:
    """While one source sends, another's datagrams are dropped, counted, and logged once."""
    with (
        source(relay.ingest_port) as owner,
        source(relay.ingest_port) as stranger,
        Viewer(relay.port) as viewer,
    ):
        viewer.subscribe()
        exchange(owner, [viewer], STREAM)
        for _ in range(10):
            for index in range(30):
                stranger.send(b"splice %d" % index)
            exchange(owner, [viewer], STREAM)
        rejected = relay.wait_event("source_rejected")
        assert rejected["source"] == name(stranger)
        relay.wait_event("source_locked", source=name(owner))
        wait_for(lambda: viewer.nothing_arrives(0.3), "the door to be looked at")
        assert len(relay.events("source_rejected")) == 1
        totals = stopped(relay)
        assert (totals["received"], totals["strangers"]) == (1100, 300)


def test_a_strangers_flood_costs_the_stream_nothing(relay: Relay) -> None:
    """A second source that floods the ingest port takes no datagram from the first."""
    with source(relay.ingest_port) as owner, Viewer(relay.port) as viewer:
        viewer.subscribe()
        exchange(owner, [viewer], STREAM)
        with flood_ingest(relay.ingest_port, 1.0) as flood:
            while flood.running:
                exchange(owner, [viewer], STREAM)
            total = flood.total()
        assert viewer.nothing_arrives()
        assert total > 1000
        assert stopped(relay)["strangers"] >= total / 2


def test_a_standby_takes_over_after_silence() -> None:
    """When the owner has been silent for long enough, the next source becomes the stream."""
    with (
        Relay(*QUICK) as relay,
        source(relay.ingest_port) as first,
        source(relay.ingest_port) as second,
        Viewer(relay.port) as viewer,
    ):
        viewer.subscribe()
        exchange(first, [viewer], STREAM)
        relay.wait_event("ingest_silent", source=name(first))
        second.send(b"standby")
        assert viewer.receive() == b"standby"
        exchange(second, [viewer], STREAM)
        for _ in range(20):
            first.send(b"too late")
            exchange(second, [viewer], STREAM[:10])
        takeover = relay.wait_event("source_takeover")
        assert (takeover["source"], takeover["previous"]) == (name(second), name(first))
        assert [event["source"] for event in relay.events("source_locked")] == [
            name(first),
            name(second),
        ]
        assert len(relay.events("ingest_started")) == 1


def test_a_source_that_resumes_keeps_its_stream() -> None:
    """A pause of the source is logged at both ends, and changes nothing else."""
    with (
        Relay(*QUICK) as relay,
        source(relay.ingest_port) as sender,
        Viewer(relay.port) as viewer,
    ):
        viewer.subscribe()
        for pauses in (1, 2):
            exchange(sender, [viewer], STREAM)
            relay.wait_event("ingest_silent", count=pauses)
        exchange(sender, [viewer], STREAM)
        relay.wait_event("ingest_resumed", count=2, source=name(sender))
        assert relay.events("source_takeover") == []


def test_silence_is_said_after_two_seconds(relay: Relay) -> None:
    """By default 2 s without a datagram are a silence, and it is said once, with its source."""
    with source(relay.ingest_port) as sender:
        sender.send(b"x" * 1316)
        started = relay.wait_event("ingest_started")
        assert (started["source"], started["datagram_size"]) == (name(sender), 1316)
        silent = relay.wait_event("ingest_silent")
        assert silent["source"] == name(sender)
        assert silent["seconds"] >= 2
        assert len(relay.events("ingest_silent")) == 1


def test_an_owner_may_send_to_another_of_our_addresses() -> None:
    """The owner is known by where it sends from, whichever local address it sends to."""
    with (
        Relay(host="0.0.0.0") as relay,
        udp_socket() as sender,
        source(relay.ingest_port) as stranger,
        Viewer(relay.port) as viewer,
    ):
        viewer.subscribe()
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.2"):
            for each in STREAM[:20]:
                sender.sendto(each, (host, relay.ingest_port))
                assert viewer.receive() == each
            stranger.send(b"splice")
        assert viewer.nothing_arrives()
        assert relay.events("source_takeover") == []


def test_an_empty_datagram_begins_nothing(relay: Relay) -> None:
    """Who sends nothing does not own the ingest, and is not taken for a second source."""
    with source(relay.ingest_port) as owner, source(relay.ingest_port) as other:
        owner.send(b"")
        owner.send(b"stream")
        relay.wait_event("source_locked", source=name(owner))
        assert relay.events("source_rejected") == []
        other.send(b"")
        assert relay.wait_event("source_rejected")["reason"] == "locked"


# --- the buffer


def test_what_overflowed_before_a_takeover_is_counted() -> None:
    """When the stream moves to another socket, the first one's drops are not forgotten."""
    with (
        running_loop() as loop,
        udp_socket() as first,
        udp_socket() as second,
        source(first.getsockname()[1]) as sender,
    ):
        overflow = ReceiveBuffer(loop)
        overflow.use(first)
        while not linux.dropped(first):
            sender.send(b"x" * 60_000)
        overflow.use(second)
    assert overflow.total > 0


def test_an_overflow_of_the_receive_buffer_is_counted_and_logged(relay: Relay) -> None:
    """What the kernel dropped while the relay did not read is counted, with the remedy."""
    with source(relay.ingest_port) as sender:
        sender.send(b"x" * 60_000)
        relay.wait_event("ingest_started")
        relay.process.send_signal(signal.SIGSTOP)
        for _ in range(1000):
            sender.send(b"x" * 60_000)
        relay.process.send_signal(signal.SIGCONT)
        overflow = relay.wait_event("ingest_overflow")
        assert overflow["buffer_asked"] == 8 << 20
        assert 0 < overflow["buffer_granted"] <= 8 << 20
        short = overflow["buffer_granted"] < overflow["buffer_asked"]
        remedy = "sysctl -w net.core.rmem_max=8388608" if short else "none: "
        assert overflow["remedy"].startswith(remedy)
        totals = stopped(relay)
        assert totals["overflowed"] == overflow["total"] > 0
        assert totals["received"] + totals["overflowed"] == 1001


def test_a_relay_that_slept_blames_nobody() -> None:
    """What was sent while the relay was stopped is relayed, and was no silence of the source."""
    with (
        Relay(*QUICK) as relay,
        source(relay.ingest_port) as sender,
        Viewer(relay.port) as viewer,
    ):
        viewer.subscribe()
        exchange(sender, [viewer], STREAM)
        relay.process.send_signal(signal.SIGSTOP)
        viewer.nothing_arrives(0.9)
        for each in STREAM:
            sender.send(each)
        relay.process.send_signal(signal.SIGCONT)
        assert viewer.receive_all(100) == STREAM
        assert relay.events("ingest_silent") == []


# --- where the kernel cannot part the senders


@contextlib.contextmanager
def undivided_ingest(timeout: float) -> Iterator[tuple[Any, Ingest, list[bytes]]]:
    """An ingest on a system whose sockets cannot share a port: its loop, itself, its output."""
    relayed: list[bytes] = []

    def forward(runs: list[Run]) -> None:
        relayed.extend(bytes(each) for run in runs for each in run.datagrams())

    with running_loop() as loop, udp_socket() as sock:
        sock.setblocking(False)
        ingest = Ingest(loop, sock, Config(source_timeout=timeout), forward)
        ingest._can_split = False
        yield loop, ingest, relayed


def test_senders_are_compared_where_sockets_cannot_share_a_port() -> None:
    """With a single socket the lock and the takeover work all the same."""
    with undivided_ingest(0.2) as (loop, ingest, relayed):
        port = ingest._bound[1]
        with source(port) as first, source(port) as second:
            first.send(b"one")
            second.send(b"stranger")
            first.send(b"two")
            turn_until(loop, lambda: len(relayed) == 2, "the owner's datagrams")
            turn_for(loop, 0.05)
            assert (relayed, ingest.strangers.total) == ([b"one", b"two"], 1)
            turn_until(loop, lambda: ingest._silent, "the silence")
            second.send(b"three")
            turn_until(loop, lambda: len(relayed) == 3, "the takeover")
            assert ingest.owner == second.getsockname()
