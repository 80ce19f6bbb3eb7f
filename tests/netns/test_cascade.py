"""A relay fed by another one: origin, edge and viewer, each on a host of its own."""

import subprocess
import sys
from contextlib import ExitStack
from typing import Self

import pytest

from tools.lab.netns import LAN, Host, NetnsViewers, Stage, assert_got_everything, finish
from tools.lab.process import ChildProcess, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import reload

ENOUGH = 800
"""Datagrams: a second of the stream."""

PORT = 9000
"""Where the edge takes the stream in."""

EDGE = f"{LAN}.4"
"""The edge's address: it is the first host that is added."""


class Cascade(Stage):
    """An origin (the stage's relay), an edge on its LAN, a viewer whom only the edge reaches."""

    def __init__(self, stack: ExitStack, *options: str) -> None:
        super().__init__(stack, *options)
        self.edge_host = self.host("edge")
        assert self.edge_host.address == EDGE
        self.edge = self.start_edge()
        viewer = self.host("viewer")
        self._way, _ = self.wire(self.edge_host, viewer, number=78)
        viewer.ip("link", "delete", "eth0")
        self.viewer = self.watch_edge(viewer)

    def start_edge(self) -> RelayProcess:
        """Run the edge; it takes the stream from the origin and from nobody else."""
        options = ("--ingest-port", str(PORT), "--allow-source", self.relay_host.address)
        return self.stack.enter_context(
            RelayProcess(*options, host="0.0.0.0", prefix=self.edge_host.prefix)
        )

    def watch_edge(self, host: Host) -> NetnsViewers:
        """Watch what comes from the edge."""
        words = (self._way, str(self.edge.port))
        viewer = NetnsViewers(host, self.start(host, "tools.lab.netns_viewer", *words))
        viewer.do("connect", 1)
        viewer.open()
        viewer.subscribe()
        return viewer

    def fetch(self) -> Self:
        """Let a client on the edge's host ask the origin for the stream, to the edge's port."""
        address = (self.relay_host.address, str(self.relay.port), str(PORT))
        words = (*self.edge_host.prefix, sys.executable, "client.py", *address)
        client = self.stack.enter_context(ChildProcess(*words, stdin=subprocess.PIPE))
        assert client.process.stdin is not None
        client.process.stdin.write(b"CONECTAR\n")
        client.process.stdin.flush()
        wait_for(lambda: "OK\n" in client.stdout, "the client to connect")
        return self


@pytest.mark.parametrize("by", ["client", "to"])
def test_two_hops_lose_nothing(by: str) -> None:
    """Every datagram gets to the viewer as it was sent, once, in order, over reloads of both."""
    options = ("--to", f"udp://{EDGE}:{PORT}") if by == "to" else ()
    with ExitStack() as stack:
        cascade = Cascade(stack, *options)
        if by == "client":
            cascade.fetch()
        source = cascade.stream()
        cascade.viewer.wait_received(ENOUGH)
        for relay in (cascade.relay, cascade.edge, cascade.relay, cascade.edge):
            reload(relay)
        cascade.viewer.wait_received(cascade.viewer.stats()["received"] + ENOUGH)
        assert_got_everything([cascade.viewer], finish(source))
        assert len(cascade.edge.events("ingest_started")) == 1  # one source, the same all the time
        assert not cascade.edge.events("source_rejected")


def test_either_may_be_started_anew() -> None:
    """`--to` finds an edge that comes again; the edge takes an origin that has another port."""
    with ExitStack() as stack:
        options = ("--to", f"udp://{EDGE}:{PORT}")
        cascade = Cascade(stack, *options)
        cascade.stream()
        cascade.viewer.wait_received(ENOUGH)

        cascade.edge.stop()
        cascade.relay.wait_event("output_unreachable", destination=f"{EDGE}:{PORT}")
        cascade.edge = cascade.start_edge()
        cascade.edge.wait_event("ingest_started")
        again = cascade.watch_edge(cascade.viewer.host)
        again.wait_received(ENOUGH)
        cascade.relay.wait_event("output_reachable", destination=f"{EDGE}:{PORT}")

        cascade.relay.stop()
        cascade.relay = stack.enter_context(
            RelayProcess(*options, host="::", prefix=cascade.relay_host.prefix)
        )
        cascade.stream()
        takeover = cascade.edge.wait_event("source_takeover")
        assert takeover["reason"] == "silence"
        again.wait_received(again.stats()["received"] + ENOUGH)
