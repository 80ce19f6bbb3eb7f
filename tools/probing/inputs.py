"""What probe looks at: a UDP port, a transport stream file, a capture. Each feeds a monitor.

A port is shared by who sends there. As in the relay, a stream that has been recognised keeps the
monitor until it is silent; what others send meanwhile is counted, and not mixed into it.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

from relaylib.media.form import Form
from relaylib.media.health import Monitor
from relaylib.media.mpegts import PACKET_SIZE, Framer
from relaylib.net.mrl import Mrl, parse
from tools.probing.table import View
from tools.replay.captures import is_capture
from tools.replay.flows import choose, replay_capture, survey_capture
from tools.replay.pacing import Timed, datagrams, paced
from tools.replay.program import Interruption, ReplayError, say
from tools.replay.tap import Arrival, Tap

SOURCE_TIMEOUT = 2.0
"""Seconds of silence after which somebody else may be the source, as in the relay."""

TURN = 256
"""Datagrams taken in a row before signals and the screen are looked at again."""

REFRESH = 0.5
"""Seconds between two pictures of the table."""

_CHUNK = 64 * PACKET_SIZE


def mrl(text: str) -> Mrl:
    """Argument type: where to listen.

    Raises:
        argparse.ArgumentTypeError: it is no MRL, is for sending, or chooses among what is no group.
    """
    try:
        found = parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if found.ttl is not None or (not found.is_group and (found.source or found.iface)):
        raise argparse.ArgumentTypeError(
            f"a source and iface are for groups, ttl for none: {text!r}"
        )
    return found


class LiveInput:
    """A port, watched until a signal or the end of a time."""

    def __init__(self, tap: Tap, monitor: Monitor) -> None:
        self._tap = tap
        self._monitor = monitor
        self.source = ""
        """Who sends, as people write it."""
        self.others = 0
        """Datagrams of somebody else, meanwhile."""
        self._latest = -SOURCE_TIMEOUT

    @property
    def unread(self) -> int:
        """Datagrams that arrived and were not read in time: no fault of the stream."""
        return self._tap.lost

    def silent(self) -> float:
        """Seconds since the last datagram."""
        return max(0.0, time.time() - self._latest) if self.source else 0.0

    def watch(
        self, interruption: Interruption, seconds: float | None, show: Callable[[], None]
    ) -> None:
        """Feed the monitor; call `show` when it is time for a new picture."""
        begun = shown = time.monotonic()
        while interruption.signum is None:
            now = time.monotonic()
            if seconds is not None and now - begun >= seconds:
                return
            if now >= shown:
                shown = now + REFRESH
                show()
            if not self.take():
                left = shown if seconds is None else min(shown, begun + seconds)
                interruption.wait(max(0.0, left - now), self._tap.socket)

    def take(self) -> bool:
        for _ in range(TURN):
            arrival = self._tap.receive()
            if arrival is None:
                return False
            self._feed(arrival)
        return True

    def _feed(self, arrival: Arrival) -> None:
        now, source = arrival.time / 1e9, arrival.datagram.flow.ends[0]
        if source != self.source:
            recognised = self._monitor.form in (Form.RTP, Form.TS)
            if recognised and now - self._latest < SOURCE_TIMEOUT:
                self.others += 1
                return
            self.source = source
            if recognised:
                self._monitor.begin_anew()
        self._latest = now
        self._monitor.feed(arrival.datagram.payload, now)


def watch_file(
    file: BinaryIO, name: str, flow: str | None, seconds: float, monitor: Monitor
) -> View:
    """Feed a monitor with a file, in the time that the file tells; return how to show it.

    Raises:
        ReplayError: it is neither a transport stream nor a capture, or has no clock.
    """
    head = file.read(4)
    file.seek(0)
    if not head:
        raise ReplayError("the file is empty")
    if is_capture(head):
        return _watch_capture(file, name, flow, seconds, monitor)
    if flow is not None:
        raise ReplayError("--flow chooses from a capture (pcap, pcapng), and this is none")
    _feed(datagrams(paced(_packets(file))), seconds, monitor)
    if not monitor.datagrams:
        raise ReplayError("neither MPEG-TS nor a capture (pcap, pcapng)")
    return View(name, timed=False)


def _feed(timed: Iterator[Timed], seconds: float, monitor: Monitor) -> None:
    for due, datagram in itertools.takewhile(lambda each: each[0] / 1e9 < seconds, timed):
        monitor.feed(datagram, due / 1e9)


def _watch_capture(
    file: BinaryIO, name: str, wanted: str | None, seconds: float, monitor: Monitor
) -> View:
    survey = survey_capture(file)
    flow = choose(survey, wanted)
    for warning in survey.warnings():
        say(f"{name}: {warning}")
    _feed(replay_capture(file, flow, survey.flows[flow], loop=False), seconds, monitor)
    many = f" (one of {len(survey.flows)} flows)" if len(survey.flows) > 1 else ""
    return View(name, f"{flow.ends[0]} to {flow.ends[1]}{many}")


def _packets(file: BinaryIO) -> Iterator[bytes]:
    """Yield the packets of a file; in the place of damage, as much that is no packet."""
    framer, skipped = Framer(), None
    while chunk := file.read(_CHUNK):
        packets = framer.feed(chunk)
        if skipped is not None:
            yield from [bytes(PACKET_SIZE)] * math.ceil((framer.skipped - skipped) / PACKET_SIZE)
        if packets:  # before the first packet, nothing is missed
            skipped = framer.skipped
        yield from packets
    yield from framer.finish()
