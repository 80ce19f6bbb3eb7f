"""A stream's parts, joined, in this process: which process reads it, and what a reload keeps."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from relaylib.channel import Channel, ChannelState
from relaylib.config import Config
from relaylib.media.form import Form
from relaylib.net.descriptors import Descriptor, adopt
from relaylib.net.loop import PRIORITY_EVERY, Loop
from relaylib.outputs.output import Output, open_socket
from relaylib.source.batch import Run
from relaylib.source.gate import Presence
from relaylib.source.ingest import NotReadingError
from relaylib.web.parts import ControlPort
from relaylib.web.site import Site
from tests.unit.media.streams import Camera
from tools.lab.inprocess import running_loop, turn_for, turn_until
from tools.lab.sockets import source, udp_socket

CONFIG = Config(coalesce=0.0, timeshift=10.0, timeshift_mib=4)


class Place:
    """A channel in its loop, a source that sends to it, and a viewer's player."""

    def __init__(self, stack: contextlib.ExitStack, loop: Loop) -> None:
        self.loop = loop
        self.outputs: list[Output] = []
        self.channel = self.open(udp_socket("127.0.0.1"))
        self.source = stack.enter_context(source(self.channel.address[1]))
        self.player = stack.enter_context(udp_socket("127.0.0.1"))
        self.player.setblocking(False)

    def open(self, sock: socket.socket, saved: ChannelState | None = None) -> Channel:
        """Make a channel at this socket."""
        sock.setblocking(False)
        return Channel(self.loop, CONFIG, sock, viewers=lambda: self.outputs, saved=saved)

    def watch(self) -> None:
        """Send the stream to the player."""
        to = self.player.getsockname()
        output = Output(to, open_socket(to, ("127.0.0.1", 0)), None)
        self.outputs.append(output)
        self.channel.fanout.resume(output)

    def played(self) -> list[bytes]:
        """Return what the player has got since the last time."""
        got: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                got.append(self.player.recv(2048))
        return got

    def kept(self) -> int:
        """Count the datagrams in the history."""
        history = self.channel.history
        assert history is not None
        return sum(history[number].datagrams for number in range(history.oldest, history.end))

    def read_whenever_possible(self) -> None:
        """Do what a handler does that has much to do."""
        until = self.loop.time() + 2 * PRIORITY_EVERY
        while self.loop.time() < until:
            time.sleep(0)
        self.loop.read_priority()


@pytest.fixture
def place() -> Iterator[Place]:
    """A place whose channel has not begun."""
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(running_loop())
        made = Place(stack, loop)
        yield made
        made.channel.close()
        for output in made.outputs:
            output.sock.close()


def test_a_datagram_meets_the_outputs_and_then_the_history(place: Place) -> None:
    """What is read goes to the live outputs and is kept; how long that took is counted."""
    place.watch()
    place.channel.begin()
    for number in range(10):
        place.source.send(b"%d" % number)
    turn_until(place.loop, lambda: place.channel.ingest.received == 10, "the stream")
    assert place.played() == [b"%d" % number for number in range(10)]
    assert place.kept() == place.channel.fanout.forwarded == 10
    assert sum(place.channel.forwarding.counts) > 0
    told = place.channel.snapshot()
    assert (told.source.presence, told.source.form) == (Presence.ACTIVE, Form.OPAQUE)
    assert told.totals.received == 10


def test_nothing_is_read_before_it_begins(place: Place) -> None:
    """Until then another process may read: neither a turn nor a handler with much to do reads."""
    place.watch()
    place.source.send(b"early")
    turn_for(place.loop, 0.01)
    place.read_whenever_possible()
    assert (place.channel.ingest.received, place.kept(), place.played()) == (0, 0, [])
    place.channel.begin()
    turn_until(place.loop, lambda: place.channel.ingest.received, "the stream")
    assert place.played() == [b"early"]


def test_to_read_before_it_begins_is_an_error(place: Place) -> None:
    """So is to send what somebody else has read, or to write it to the history."""
    run = Run(memoryview(b"x"), 1, 1)
    for attempt in (
        place.channel.ingest._pump,
        place.channel.ingest._read_standby,
        lambda: place.channel._forward([run], place.loop.now),
    ):
        with pytest.raises(NotReadingError):
            attempt()
    assert (place.kept(), place.channel.fanout.forwarded) == (0, 0)


def test_nothing_is_read_after_it_was_left_to_another_process(place: Place) -> None:
    """After the fork of a stand-in this process exports and reads nothing, unless it goes on."""
    place.channel.begin()
    place.source.send(b"before")
    turn_until(place.loop, lambda: place.channel.ingest.received, "the stream")
    place.channel.stop_reading()
    place.source.send(b"meanwhile")
    place.read_whenever_possible()
    with pytest.raises(NotReadingError):
        place.channel.ingest._pump()
    assert place.channel.export().ingest.received == place.kept() == 1
    place.channel.begin()  # the reload has failed
    place.read_whenever_possible()
    assert place.channel.ingest.received == place.kept() == 2


def test_begun_twice_it_reads_once(place: Place) -> None:
    """A reload that fails calls `begin` again: nothing is watched, read or counted twice."""
    place.channel.begin()
    place.channel.begin()
    place.channel.stop_reading()
    place.source.send(b"once")
    place.read_whenever_possible()
    assert place.channel.ingest.received == 0
    place.channel.begin()
    turn_until(place.loop, lambda: place.channel.ingest.received, "the stream")
    assert place.kept() == 1


def as_after_exec(saved: ChannelState) -> ChannelState:
    """Give what was handed over descriptors of its own."""
    sockets, history, track = saved.ingest.sockets, saved.history, saved.track
    assert history is not None
    assert track is not None
    standby = None if sockets.standby is None else Descriptor(os.dup(sockets.standby))
    sockets = replace(sockets, stream=Descriptor(os.dup(sockets.stream)), standby=standby)
    history = replace(history, memory=Descriptor(os.dup(history.memory)))
    track = replace(track, ring=replace(track.ring, memory=Descriptor(os.dup(track.ring.memory))))
    ingest = replace(saved.ingest, sockets=sockets)
    return replace(saved, ingest=ingest, history=history, track=track)


def test_a_reload_makes_everything_and_reads_nothing(place: Place) -> None:
    """A channel and a site made from what was handed over leave all datagrams to the stand-in."""
    camera = Camera()
    place.channel.begin()
    for _ in range(100):
        place.source.send(camera.datagram())
        place.read_whenever_possible()
    assert place.channel.ingest.gate.undisputed is not None
    place.channel.stop_reading()
    received, kept = place.channel.ingest.received, place.kept()
    saved = as_after_exec(place.channel.export())
    place.source.send(b"for the stand-in")
    with contextlib.closing(place.channel), running_loop() as place.loop:
        place.channel = place.open(adopt(saved.ingest.sockets.stream), saved)
        site = Site(
            place.loop,
            CONFIG,
            socket.create_server(("127.0.0.1", 0)),
            place.channel,
            door=lambda: ControlPort(("127.0.0.1", 9000), 0, {}),
            admit=lambda: None,
        )
        place.read_whenever_possible()
        turn_for(place.loop, 0.01)
        assert (place.channel.ingest.received, place.kept()) == (received, kept)
        place.channel.begin()
        turn_until(place.loop, lambda: place.channel.ingest.received > received, "the stream")
        assert (place.channel.ingest.received, place.kept()) == (received + 1, kept + 1)
        site.close()


def test_two_streams_are_two_channels(place: Place) -> None:
    """A second one in the same loop reads, keeps and counts its own source alone."""
    second = place.open(udp_socket("127.0.0.1"))
    with contextlib.closing(second), source(second.address[1]) as other:
        place.channel.begin()
        second.begin()
        place.source.send(b"one")
        for _ in range(2):
            other.send(b"two")
        place.read_whenever_possible()
        assert (place.channel.ingest.received, second.ingest.received) == (1, 2)
        second.stop_reading()
        place.source.send(b"one")
        other.send(b"two")
        place.read_whenever_possible()
        assert (place.channel.ingest.received, second.ingest.received) == (2, 2)
