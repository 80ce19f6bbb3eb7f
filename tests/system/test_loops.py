"""Relays that send to each other: what goes round ends by itself, and the encoder gets in."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from relaylib.net.address import show
from tools.lab.process import wait_for
from tools.lab.relay import RelayProcess
from tools.lab.sockets import source, unused_port
from tools.lab.web import datagram

BURST = 60
"""Datagrams: what a receive buffer of usual size holds with room to spare."""


def ts(number: int) -> bytes:
    return datagram(number, in_rtp=False)


def in_rtp(number: int) -> bytes:
    return datagram(number, in_rtp=True)


def opaque(number: int) -> bytes:
    return b"%06d" % number * 100


class Ring:
    """Relays each of which sends to the next one, the last one to the first."""

    def __init__(self, stack: ExitStack, count: int, *options: str) -> None:
        ports = [unused_port() for _ in range(count)]
        self.relays = [
            stack.enter_context(
                RelayProcess(
                    "--ingest-port", str(port), "--to", f"udp://127.0.0.1:{after}", *options
                )
            )
            for port, after in zip(ports, ports[1:] + ports[:1], strict=True)
        ]
        self.first, self.last = self.relays[0], self.relays[-1]

    def received(self) -> list[int]:
        """Ask all of them how many datagrams they have got."""
        before = [len(relay.events("report")) for relay in self.relays]
        for relay in self.relays:
            os.kill(relay.pid, signal.SIGUSR1)
        found = zip(self.relays, before, strict=True)
        return [relay.wait_event("report", count + 1)["received"] for relay, count in found]

    def is_quiet(self) -> bool:
        """Tell whether nothing has come in for a moment."""
        before = self.received()
        time.sleep(0.1)
        return self.received() == before


@pytest.mark.parametrize(
    ("count", "make", "burst"),
    [(2, ts, BURST), (2, ts, 1), (2, opaque, BURST), (2, opaque, 1), (3, in_rtp, BURST)],
)
def test_what_goes_round_ends_and_the_encoder_gets_in(
    count: int, make: Callable[[int], bytes], burst: int
) -> None:
    """A relay that was held up lets go of a burst when the others are silent.

    They send it to each other. Some of them notice, say so, and turn away who brings it back.
    """
    with ExitStack() as stack:
        ring = Ring(stack, count)
        encoder = stack.enter_context(source(ring.first.ingest_port))
        numbers = iter(range(100_000))

        def all_locked() -> bool:
            encoder.send(make(next(numbers)))
            return all(relay.events("source_locked") for relay in ring.relays)

        wait_for(all_locked, "the stream to get everywhere")
        os.kill(ring.last.pid, signal.SIGSTOP)
        for _ in range(burst):
            encoder.send(make(next(numbers)))
        ring.first.wait_event("ingest_silent")
        os.kill(ring.last.pid, signal.SIGCONT)
        wait_for(lambda: any(relay.events("loop_detected") for relay in ring.relays), "a notice")
        wait_for(ring.is_quiet, "the end of it")
        told = [each for relay in ring.relays for each in relay.events("loop_detected")]
        assert all("--to" in each["remedy"] for each in told)
        restarted = stack.enter_context(source(ring.first.ingest_port))
        name = show(restarted.getsockname())

        def gets_in() -> bool:
            restarted.send(make(next(numbers)))
            locked = ring.first.events("source_locked", source=name)
            return bool(locked)

        wait_for(gets_in, "the encoder to get in")
        assert [relay.events("bug") for relay in ring.relays] == [[]] * count
