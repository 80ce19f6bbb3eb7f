"""What a relay tells is about the source that sends now, and about what comes out."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from relaylib.media import rtp
from tools.lab.process import ROOT, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import Work
from tools.lab.viewer import TestViewer
from tools.lab.web import HttpViewer, http_port

SAMPLE = (ROOT / "tools" / "sample" / "sample.ts").read_bytes()
SIZE = 7 * 188
DATAGRAMS = [
    rtp.header(number, 1200 * number, 7) + SAMPLE[at : at + SIZE]
    for number, at in enumerate(range(0, len(SAMPLE) - SIZE, SIZE))
]
RATE = 250
"""Datagrams a second."""


class Encoder(Work):
    """Sends the sample from a host at `RATE`, over and over; from another port each `change` s.

    Of each `cycle` datagrams it leaves the last one out.
    """

    def __init__(
        self,
        relay: RelayProcess,
        host: str = "127.0.0.1",
        *,
        change: float = float("inf"),
        cycle: int = 1 << 30,
    ) -> None:
        super().__init__()
        self._port, self._host, self._change, self._cycle = relay.ingest_port, host, change, cycle

    def run(self) -> None:
        """Send."""
        started, number = time.monotonic(), 0
        while not self.stopped():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((self._host, 0))
                sock.connect(("127.0.0.1", self._port))
                until = time.monotonic() + self._change
                while time.monotonic() < until:
                    if self.stopped(max(0.0, started + number / RATE - time.monotonic())):
                        return
                    number += 1
                    if number % self._cycle:
                        sock.send(self._datagram(number))

    def _datagram(self, number: int) -> bytes:
        payload = DATAGRAMS[number % len(DATAGRAMS)][rtp.HEADER_SIZE :]
        return rtp.header(number, 1200 * number, int(self._host[-1])) + payload


@pytest.fixture
def relay() -> Iterator[RelayProcess]:
    """A relay that tells everything."""
    with RelayProcess("--http", "127.0.0.1:0", "--source-timeout", "1.2") as relay:
        yield relay


def status(browser: HttpViewer) -> dict[str, Any]:
    """Ask for the object."""
    found: dict[str, Any] = json.loads(browser.get("/status.json").body)
    return found


def test_a_source_that_changes_its_port_is_never_called_healthy(relay: RelayProcess) -> None:
    """Viewers miss most of it: no look says that all is well, and what helps is named."""
    with contextlib.ExitStack() as stack:
        browser = stack.enter_context(HttpViewer(http_port(relay)))
        viewer = stack.enter_context(TestViewer(relay.port))
        stack.enter_context(Encoder(relay, change=0.9))
        told = relay.wait_event("health_changed", verdict="source")
        looks = []
        while len(relay.events("source_takeover", reason="silence")) < 3:
            looks.append(status(browser)["verdict"]["word"])
            assert " salud=sano " not in viewer.command("ESTADO")
        wait_for(lambda: status(browser)["verdict"]["word"] == "source", "the verdict")
        found = status(browser)
    assert "another port of the source's host" in told["evidence"]
    assert "--source-timeout" in told["remedy"]
    assert "source" in looks
    assert "healthy" not in looks  # between two ports it may be silence
    assert found["source"]["turned_away"] > 0


def test_nothing_is_told_of_a_source_that_is_silent(relay: RelayProcess) -> None:
    """Rates are 0, and the stream has no programs, no jitter and no entry points any more."""
    with HttpViewer(http_port(relay)) as browser:
        with Encoder(relay):
            wait_for(lambda: status(browser)["stream"]["random_access_s"], "an entry point")
            wait_for(lambda: status(browser)["stream"]["bitrate"], "a rate")
        relay.wait_event("ingest_silent")
        found = status(browser)
    assert found["stream"] == {
        "bitrate": 0, "bitrate_10s": 0, "datagrams_s": 0.0, "programs": [], "unplayable": None,
        "random_access_s": None, "rtp_jitter_ms": None, "pcr_jitter_ms": None,
    }  # fmt: skip
    assert found["source"]["presence"] == "silent"
    assert not any(found["errors"]["tr_101_290"].values())


def test_another_source_is_not_blamed_for_the_former_one(relay: RelayProcess) -> None:
    """Its errors, verdict and intervals are its own; the totals have both."""
    with HttpViewer(http_port(relay)) as browser:
        with Encoder(relay, cycle=40):
            relay.wait_event("health_changed", verdict="source")
            wait_for(lambda: status(browser)["errors"]["lost"] > 5, "losses")
        with Encoder(relay, "127.0.0.2"):
            relay.wait_event("source_takeover", reason="silence")
            wait_for(lambda: status(browser)["stream"]["random_access_s"], "two entry points")
            found = status(browser)
            assert relay.events("health_changed")[-1]["verdict"] == "healthy"
    assert found["verdict"]["word"] == "healthy"
    assert found["errors"]["lost"] == 0
    assert found["errors"]["tr_101_290"]["Continuity_count_error"] == 0
    assert found["totals"]["lost"] > 3
    assert found["stream"]["random_access_s"] < 3
