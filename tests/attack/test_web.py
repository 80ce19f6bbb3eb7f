"""The web under attack: who watches by UDP loses nothing, who watches by HTTP gets every byte."""

import contextlib
import sys
import time
from collections import Counter
from itertools import pairwise

import pytest

from relaylib.web.budget import AT_ONCE, SHARE
from tools.lab.attacks import attack_relay
from tools.lab.machine import cpu_seconds
from tools.lab.process import ChildProcess, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import Work
from tools.lab.viewer import TestViewer
from tools.lab.web import PACKETS, HttpViewer, Packets, Watching, http_port, numbers, request

SECONDS = 1.5


@pytest.mark.long
def test_odd_requests_to_an_edge() -> None:
    """Who floods an edge costs the relay a request a name and second."""
    outcome = attack_relay("edge", SECONDS)
    assert outcome.counts["replies"] > 100
    assert outcome.counts["passed on"] < 20


@pytest.mark.parametrize("name", ["requests", "malformed"])
def test_floods_of_requests(name: str) -> None:
    """Whatever is sent as fast as it is taken is answered, and that is all."""
    assert attack_relay(name, SECONDS).counts["replies"] > 100


def test_clients_that_never_read_a_response() -> None:
    """They are read no more when a response is left over, so they cost no memory."""
    assert attack_relay("deaf-requests", SECONDS).counts["bytes"] > 1 << 18


def test_two_thousand_idle_connections() -> None:
    """Twice as many as there is room for, which never end a request: every newcomer is served."""
    counts = attack_relay("slow-heads", 2.0).counts
    assert counts["served"] == counts["newcomers"] > 5


class Player(Work):
    """Receives by UDP, and keeps the numbers of all packets."""

    def __init__(self, viewer: TestViewer) -> None:
        super().__init__()
        self._player = viewer.player
        self.numbers: list[int] = []

    def run(self) -> None:
        """Receive."""
        self._player.settimeout(0.05)
        while not self.stopped():
            with contextlib.suppress(TimeoutError):
                self.numbers += numbers(self._player.recv(2048))


def test_viewers_that_do_not_read() -> None:
    """A hundred who ask for the past and read nothing are closed after 10 s; others watch on."""
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(RelayProcess("--http", "127.0.0.1:0", "--timeshift", "5"))
        viewer = stack.enter_context(TestViewer(relay.port)).subscribe()
        player = stack.enter_context(Player(viewer))
        packets = stack.enter_context(Packets(relay.ingest_port))
        wait_for(lambda: packets.sent > 900, "two seconds of the stream")
        port = http_port(relay)
        deaf = [stack.enter_context(HttpViewer(port, receive_buffer=2048)) for _ in range(100)]
        watching = stack.enter_context(Watching(port))
        asked = time.monotonic()
        for browser in deaf:
            browser.send(request("/live.ts?back=60"))
        relay.wait_event("http_client_gone", count=1, reason="stalled")
        assert time.monotonic() - asked > 9
        wait_for(lambda: len(packets_of(watching)) > 9 * 475 * PACKETS, "the stream by HTTP")
        sent = packets.sent
        wait_for(lambda: len(player.numbers) >= sent * PACKETS, "the stream by UDP")
    for got in (player.numbers, packets_of(watching)):
        assert all(after - before == 1 for before, after in pairwise(got))
    assert not relay.events("bug")


FLOOD = 250
"""Requests a second, which would take most of a core."""

OWN = 0.2
"""Of a core: what the stream takes, and saying no to the rest."""


def test_the_past_of_one_address_costs_a_share() -> None:
    """However often it asks for MP4 of some seconds ago; others get theirs."""
    options = ("--http", "127.0.0.1:0", "--timeshift", "20", "--trusted-proxy", "127.0.0.1")
    with RelayProcess(*options) as relay:
        port, words = http_port(relay), ("tools/fake_vlc.py", "--loop", "127.0.0.1")
        with ChildProcess(sys.executable, *words, str(relay.ingest_port)):
            wait_for(lambda: status(port, "/live.mp4?back=5") == 200, "the past")
            spent, began = cpu_seconds(relay.pid), time.monotonic()
            statuses = Counter[int]()
            for tick in range(FLOOD * 6):
                time.sleep(max(0.0, began + tick / FLOOD - time.monotonic()))
                statuses[status(port, "/live.mp4?back=20", X_Forwarded_For="198.51.100.7")] += 1
            took = time.monotonic() - began
            worked = cpu_seconds(relay.pid) - spent
            assert status(port, "/live.mp4?back=5", X_Forwarded_For="198.51.100.8") == 200
    print(f"{worked / took:.2f} of a core, {dict(statuses)}")
    assert set(statuses) <= {200, 429}
    assert worked < AT_ONCE + (SHARE + OWN) * took
    assert not relay.events("bug")


def status(port: int, target: str, **headers: str) -> int:
    """Ask, and go."""
    with HttpViewer(port) as browser:
        browser.send(request(target, **headers))
        return browser.head()[0]


def packets_of(watching: Watching) -> list[int]:
    """The numbers of all packets so far."""
    return list(numbers(bytes(watching.data)))
