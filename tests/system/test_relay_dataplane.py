"""The stream through the whole relay: the same bytes, in the same order, on every path."""

import contextlib
import random
import socket
from collections.abc import Iterator

import pytest

from tools.lab.process import PATIENCE, need_ipv6
from tools.lab.relay import RelayProcess
from tools.lab.sockets import source
from tools.lab.traffic import exchange, numbered
from tools.lab.viewer import TestViewer

PATHS = [
    (),
    ("--no-segmentation",),
    ("--coalesce", "0"),
    ("--coalesce", "5"),
    ("--no-segmentation", "--coalesce", "0"),
]
"""Segments and plain sends, and the three kinds of coalescer."""

COUNT = 10_000


def random_sizes() -> list[int]:
    """Return every kind of size from 1 to 65,507: a third large, a third small, a third of TS."""
    rng = random.Random(2)
    kinds = (lambda: rng.randint(1, 65507), lambda: rng.randint(1, 1500), lambda: 1316)
    return [1, 65507, 65506, 2, *(rng.choice(kinds)() for _ in range(COUNT - 4))]


def bursts() -> list[int]:
    """Return sizes as ffmpeg sends them: each frame in full datagrams and a shorter one."""
    rng = random.Random(3)
    sizes: list[int] = []
    while len(sizes) < COUNT:
        sizes += [1316] * rng.randint(0, 80) + [188 * rng.randint(1, 6)]
    return sizes[:COUNT]


STREAMS = {
    "random": random_sizes(),
    "ts": [1316] * COUNT,
    "rtp": [1328] * COUNT,
    "bursts": bursts(),
    "ones": [1] * 2000 + [2, 1] * 1000,
}


@pytest.fixture(scope="module", params=PATHS, ids=lambda words: " ".join(words) or "default")
def path(request: pytest.FixtureRequest) -> Iterator[tuple[RelayProcess, socket.socket]]:
    """A relay on each path, and the source that it is locked to."""
    with RelayProcess(*request.param) as relay, source(relay.ingest_port) as sender:
        yield relay, sender


@pytest.mark.parametrize("sizes", STREAMS.values(), ids=STREAMS)
def test_every_byte_arrives_in_order(
    path: tuple[RelayProcess, socket.socket], sizes: list[int]
) -> None:
    """10,000 datagrams reach two viewers exactly as they were sent."""
    relay, sender = path
    with TestViewer(relay.port) as one, TestViewer(relay.port) as other:
        exchange(sender, [one.subscribe(), other.subscribe()], numbered(sizes))
        for viewer in (one, other):
            assert f"enviados={len(sizes)} perdidos=0" in viewer.command("ESTADO")


@pytest.mark.parametrize("words", [(), ("--no-segmentation",)], ids=["segments", "plain"])
def test_a_flood_stays_in_order(words: tuple[str, ...]) -> None:
    """Of a stream that is too fast some datagrams are lost; what arrives is intact, in order."""
    with (
        RelayProcess(*words) as relay,
        source(relay.ingest_port) as sender,
        TestViewer(relay.port) as viewer,
    ):
        viewer.subscribe()
        viewer.player.setblocking(False)
        sent = numbered([1316, 1316, 1328, 700] * 5000)
        got: list[bytes] = []
        for start in range(0, len(sent), 500):
            for each in sent[start : start + 500]:
                sender.send(each)
            got += drain(viewer.player)
        order = {each: index for index, each in enumerate(sent)}
        places = [order[each] for each in got]
        assert len(places) >= 1000
        assert places == sorted(set(places))


def drain(player: socket.socket) -> list[bytes]:
    """Return what is waiting."""
    datagrams: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            datagrams.append(player.recv(65536))
    return datagrams


def test_empty_datagrams_do_no_harm(relay: RelayProcess) -> None:
    """A datagram without content is not relayed, claims no ingest, and stops nothing."""
    with (
        source(relay.ingest_port) as stranger,
        source(relay.ingest_port) as sender,
        TestViewer(relay.port) as viewer,
    ):
        viewer.subscribe()
        stranger.send(b"")
        exchange(sender, [viewer], numbered([1316] * 10))
        for _ in range(5):
            sender.send(b"")
            sender.send(b"between")
            stranger.send(b"")
        assert viewer.receive_all(5) == [b"between"] * 5
        assert viewer.nothing_arrives()
        assert relay.wait_event("ingest_started")["datagram_size"] == 1316
        assert len(relay.events("ingest_started")) == 1


# --- addresses


@pytest.mark.parametrize(
    ("host", "feed", "peer", "shown"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("::1", "::1", "::1", "[::1]"),
        ("::", "::1", "::1", "[::1]"),
        ("::", "127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("::", "::1", "127.0.0.1", "127.0.0.1"),
        ("::", "127.0.0.1", "::1", "[::1]"),
    ],
)
def test_addresses_of_both_families(host: str, feed: str, peer: str, shown: str) -> None:
    """IPv4, IPv6 and both at once: the stream goes to the control peer's own plain address."""
    need_ipv6(host, feed, peer)
    with (
        RelayProcess(host=host) as relay,
        source(relay.ingest_port, feed) as sender,
        TestViewer(relay.port, peer) as viewer,
    ):
        viewer.subscribe()
        exchange(sender, [viewer], numbered([1316] * 300))
        assert viewer.command("ESTADO").startswith(
            f"OK estado=transmitiendo destino={shown}:{viewer.port} enviados=300 perdidos=0 "
        )
        assert relay.wait_event("output_added")["destination"] == f"{shown}:{viewer.port}"


def test_the_stream_comes_from_the_address_that_was_connected_to() -> None:
    """A host with many addresses sends from the one that the viewer knows, as firewalls expect."""
    with (
        RelayProcess(host="0.0.0.0") as relay,
        source(relay.ingest_port) as sender,
        TestViewer(relay.port, "127.0.0.9") as viewer,
    ):
        viewer.subscribe()
        sender.send(b"x")
        viewer.player.settimeout(PATIENCE)
        _, (address, _) = viewer.player.recvfrom(100)
        assert address == "127.0.0.9"
