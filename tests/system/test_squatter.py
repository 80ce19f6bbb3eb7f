"""Somebody who sends next to nothing gets the ingest while an encoder restarts, and loses it."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from relaylib.net.address import show
from tools.lab.process import wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import Work, reload
from tools.lab.sockets import source
from tools.lab.viewer import TestViewer

PACKETS = 7 * (b"\x47\x1f\xff\x10" + bytes(184))
"""A datagram that is recognised at once."""

OFTEN = 1.5
"""Seconds between two datagrams of the squatter: it is never silent for the time-out."""

RATE = 300
"""Datagrams a second of the encoder: 3 Mb/s."""


class Sender(Work):
    """Sends datagrams with its letter in them, from a port of its own."""

    def __init__(self, stack: ExitStack, relay: RelayProcess, letter: bytes, rate: float) -> None:
        super().__init__()
        self._sock = stack.enter_context(source(relay.ingest_port))
        self.name = show(self._sock.getsockname())
        self._datagram = PACKETS[:-1] + letter
        self._rate = rate

    def run(self) -> None:
        """Send evenly, late ones at once."""
        began, sent = time.monotonic(), 0
        while not self.stopped(max(0.0, began + sent / self._rate - time.monotonic())):
            self._sock.send(self._datagram)
            sent += 1


@contextmanager
def squatted() -> Iterator[tuple[ExitStack, RelayProcess, TestViewer, Sender]]:
    """Start a relay whose encoder has stopped, and whose ingest a squatter has."""
    with ExitStack() as stack:
        relay = stack.enter_context(RelayProcess())
        viewer = stack.enter_context(TestViewer(relay.port))
        viewer.subscribe()
        with Sender(stack, relay, b"A", RATE):
            relay.wait_event("source_locked")
            squatter = stack.enter_context(Sender(stack, relay, b"S", 1 / OFTEN))
            wait_for(lambda: relay.events("source_rejected"), "the squatter to be rejected")
            for _ in range(2 * RATE):
                viewer.receive()
        assert relay.wait_event("source_takeover")["source"] == squatter.name
        yield stack, relay, viewer, squatter


@pytest.mark.parametrize("reloaded", [False, True])
@pytest.mark.parametrize("rate", [RATE, 10 * RATE])
def test_an_encoder_that_restarts_gets_the_ingest_back(rate: int, reloaded: bool) -> None:
    """From another port, after a second at its rate, whatever a squatter sent meanwhile.

    A reload in between changes nothing.
    """
    with squatted() as (stack, relay, viewer, squatter):
        if reloaded:
            reload(relay)
        encoder = stack.enter_context(Sender(stack, relay, b"B", rate))
        back = relay.wait_event("source_takeover", 2)
        assert (back["source"], back["previous"]) == (encoder.name, squatter.name)
        assert back["reason"] == "returned"
        wait_for(lambda: viewer.receive().endswith(b"B"), "the encoder's stream")
        received = [viewer.receive()[-1:] for _ in range(2 * rate)]
        assert set(received) == {b"B"}
        assert len(relay.events("source_takeover")) == 2


def test_who_sends_like_a_stream_is_not_displaced_by_a_higher_rate() -> None:
    """The encoder that comes back is the standby of one that took over and sends a stream.

    What is logged of it has both rates.
    """
    with ExitStack() as stack:
        relay = stack.enter_context(RelayProcess())
        viewer = stack.enter_context(TestViewer(relay.port))
        viewer.subscribe()
        with Sender(stack, relay, b"A", RATE):
            for _ in range(2 * RATE):
                viewer.receive()
        relay.wait_event("ingest_silent")
        other = stack.enter_context(Sender(stack, relay, b"B", RATE / 5))
        assert relay.wait_event("source_takeover")["source"] == other.name
        stack.enter_context(Sender(stack, relay, b"C", 4 * RATE))
        rejected = relay.wait_event("source_rejected")
        assert rejected["rate"] > 0
        assert rejected["active_rate"] > 0
        received = [viewer.receive()[-1:] for _ in range(RATE)]
        assert b"C" not in received
        assert len(relay.events("source_takeover")) == 1
