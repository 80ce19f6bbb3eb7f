"""Sending to outputs: real sockets on loopback, and a clock that the test moves."""

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from relaylib.net import linux
from relaylib.net.descriptors import Descriptor
from relaylib.outputs.output import Output
from tools.lab.fanout_bench import Bench, make_fanout, numbered, received

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SO_NO_CHECK = 11
"""A socket that sends no checksums cannot send segments either: EINVAL, as some devices do."""

SOL_UDP, UDP_GRO = 17, 104
IP_RECVERR = 11

needs_no_check = pytest.mark.skipif(sys.platform != "linux", reason="needs SO_NO_CHECK")


@pytest.fixture(params=[True, False], ids=["segments", "plain"])
def segmentation(request: pytest.FixtureRequest) -> bool:
    """Each of the two paths."""
    return bool(request.param)


@pytest.fixture(params=[False, True], ids=["live", "behind"])
def behind(request: pytest.FixtureRequest) -> bool:
    """Both kinds of outputs: those that are live and those that are behind."""
    return bool(request.param)


@pytest.fixture
def bench(segmentation: bool, behind: bool) -> Iterator[Bench]:
    """A bench on each of the two paths, for each kind of outputs."""
    with contextlib.ExitStack() as stack:
        yield Bench(make_fanout(segmentation=segmentation), stack, behind)


@pytest.fixture
def segments(behind: bool) -> Iterator[Bench]:
    """A bench that sends segments, where the kernel can."""
    if not linux.can_segment():
        pytest.skip("needs UDP_SEGMENT")
    with contextlib.ExitStack() as stack:
        yield Bench(make_fanout(segmentation=True), stack, behind)


# --- everyone gets everything


def test_everyone_gets_every_datagram_in_order(bench: Bench) -> None:
    """Each output gets each datagram as it is, whatever the sizes and their changes."""
    pairs = [bench.pair() for _ in range(3)]
    bench.send(*numbered(40))
    bench.send(b"x" * 1316, b"y" * 100, b"z" * 1328, b"1", b"22")
    bench.send(b"w" * 65507)
    bench.send(b"a" * 50)
    bench.send(*numbered(30, 1328), b"tail")
    for output, player in pairs:
        assert received(player) == bench.offered
        assert bench.counters(output) == (len(bench.offered), 0, 0)


def test_a_paused_output_gets_nothing_and_goes_on_live(bench: Bench) -> None:
    """Between pause and resume nothing is sent, nor later; the counters stand still."""
    output, player = bench.pair()
    bench.send(*numbered(3))
    bench.fanout.pause(output)
    bench.send(b"missed", b"missed")
    assert received(player) == numbered(3)
    bench.fanout.resume(output)
    bench.send(*numbered(5, 1328))
    assert received(player) == numbered(5, 1328)
    assert bench.counters(output) == (8, 0, 0)


def test_a_late_output_gets_runs_cut_right(bench: Bench) -> None:
    """Who comes while the stream is on gets datagrams of the right size at once."""
    bench.pair()
    bench.send(*numbered(10))
    output, player = bench.pair()
    bench.send(*numbered(10), b"short")
    assert received(player) == [*numbered(10), b"short"]
    assert bench.counters(output) == (11, 0, 0)


# --- one that blocks


class Blocked:
    """A `send` that finds the buffer full; loopback's never is."""

    def __init__(self, error: int = errno.EAGAIN) -> None:
        self.error = error
        self.calls = 0

    def __call__(self, _data: "ReadableBuffer", _flags: int = 0) -> int:
        """Fail as the kernel does."""
        self.calls += 1
        raise OSError(self.error, os.strerror(self.error))


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.ENOBUFS])
def test_a_full_send_buffer_drops_for_that_one_alone(segments: Bench, error: int) -> None:
    """What does not fit now is dropped and counted, once and for nobody else."""
    (stuck, stuck_player), (well, player) = segments.pair(), segments.pair()
    send = stuck.send
    stuck.send = blocked = Blocked(error)
    segments.send(*numbered(20))
    assert blocked.calls == 1
    stuck.send = send
    segments.send(b"after")
    assert segments.counters(stuck) == (1, 20, 0)
    assert segments.counters(well) == (21, 0, 0)
    assert received(stuck_player) == [b"after"]
    assert received(player) == segments.offered


def test_a_full_send_buffer_drops_datagram_by_datagram_on_plain_sends() -> None:
    """Without segments each datagram is tried, and each that does not fit is counted."""
    with contextlib.ExitStack() as stack:
        bench = Bench(make_fanout(segmentation=False), stack)
        output, _ = bench.pair()
        output.send = blocked = Blocked()
        bench.send(*numbered(20))
        assert blocked.calls == 20
        assert bench.counters(output) == (0, 20, 0)


class Link:
    """A link that takes so many sends of a turn, whoever they are for; its queue drops the rest."""

    def __init__(self, room: int) -> None:
        self.room = self.left = room

    def attach(self, output: Output) -> None:
        """Let an output send through here, to nowhere."""

        def through(data: "ReadableBuffer", _flags: int = 0) -> int:
            if not self.left:
                raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
            self.left -= 1
            return memoryview(data).nbytes

        output.send = through


def test_no_host_starves_another_on_a_full_link(bench: Bench) -> None:
    """However many outputs a host had first, another's gets all of it; they share what is left."""
    link = Link(11)
    greedy = [bench.output(bench.player().getsockname()[1]) for _ in range(64)]
    late = bench.output(bench.player().getsockname()[1], host="127.0.0.2")
    for output in (*greedy, late):
        link.attach(output)
    for _ in range(630):
        link.left = link.room
        bench.send(b"x" * 1316)
    assert bench.counters(late) == (630, 0, 0)
    sent = sorted(bench.counters(output)[0] for output in greedy)
    assert sent[-1] == 630  # the first one of the host
    assert sent[0] >= sent[-2] - 1 >= 80
    assert sum(sent) == 630 * 10


# --- one whose path takes no segments


def refuse_segments(output: Output, *, refuse: bool = True) -> None:
    """Let the kernel refuse this socket's segments from now on, or take them."""
    output.sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, refuse)


def receive_runs(player: socket.socket) -> None:
    """Let a player receive runs as they were sent: whole, if they were."""
    player.setsockopt(SOL_UDP, UDP_GRO, 1)


def refuse_large(bench: Bench) -> tuple[Output, socket.socket]:
    """Return a pair whose path has refused a run of 1480s, and takes every run from now on."""
    output, player = bench.pair()
    refuse_segments(output)
    bench.send(*numbered(20, 1480))
    assert received(player) == numbered(20, 1480)
    refuse_segments(output, refuse=False)
    receive_runs(player)
    return output, player


@needs_no_check
def test_a_path_without_segments_falls_back_and_loses_nothing(segments: Bench) -> None:
    """EINVAL puts that one on plain sends, this run included; the others keep their batches."""
    (plain, plain_player), (well, player) = segments.pair(), segments.pair()
    refuse_segments(plain)
    segments.send(*numbered(20), b"tail")
    segments.send(*numbered(20))
    segments.send(*numbered(20, 400))
    assert (plain.unsegmentable, well.unsegmentable) == (True, False)
    for output, sock in ((plain, plain_player), (well, player)):
        assert received(sock) == segments.offered
        assert segments.counters(output) == (61, 0, 0)


@needs_no_check
def test_a_few_large_datagrams_cost_the_others_no_batches(segments: Bench) -> None:
    """Only runs as large as the one that was refused are sent one by one."""
    output, player = refuse_large(segments)
    for _ in range(2):
        segments.send(*numbered(10))
        assert received(player) == [b"".join(numbered(10))]
        segments.send(*numbered(10, 1480))
        assert received(player) == numbered(10, 1480)
    assert segments.counters(output) == (60, 0, 0)


@needs_no_check
@pytest.mark.parametrize("way", ["time", "source", "pause", "reload"])
def test_a_refusal_is_forgotten(segments: Bench, way: str) -> None:
    """After a minute, with another source, a pause or a reload, runs of that size are tried."""
    output, player = refuse_large(segments)
    if way == "source":
        segments.fanout.forget_limits()
    elif way == "pause":
        segments.fanout.pause(output)
        segments.fanout.resume(output)
    elif way == "reload":
        saved = segments.fanout.export(output)
        saved.sock = Descriptor(os.dup(saved.sock))
        successor = make_fanout(segmentation=True)
        segments.stack.enter_context(successor.restore(saved, lambda: None).sock)
        successor.go_on()
        segments.fanout = successor
    segments.send(*numbered(10, 1480), after=61 if way == "time" else 0)
    segments.send(*numbered(10, 1480))
    assert received(player) == [b"".join(numbered(10, 1480))] * 2


def test_two_programs_take_turns_at_a_socket(segments: Bench) -> None:
    """Who restores an output leaves its socket as it is; who goes on cuts runs right at once."""
    output, player = segments.pair()
    segments.send(*numbered(20))
    saved = segments.fanout.export(output)
    saved.sock = Descriptor(os.dup(saved.sock))
    before, successor = segments.fanout, make_fanout(segmentation=True)
    segments.stack.enter_context(successor.restore(saved, None).sock)
    segments.send(*numbered(20))
    for fanout in (successor, before, successor):
        fanout.go_on()
        segments.fanout = fanout
        segments.send(*numbered(20, 400 if fanout is successor else 1316), b"x" * 1400)
    assert received(player) == segments.offered


@pytest.mark.skipif(sys.platform != "linux", reason="needs IP_RECVERR")
def test_an_older_programs_output_counts_what_the_link_drops(bench: Bench) -> None:
    """The kernel is asked to tell of drops for an output that is handed over without that, too."""
    output, _ = bench.pair()
    output.sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 0)
    saved = bench.fanout.export(output)
    saved.sock = Descriptor(os.dup(saved.sock))
    restored = bench.stack.enter_context(bench.fanout.restore(saved, lambda: None).sock)
    bench.fanout.go_on()
    assert restored.getsockopt(socket.IPPROTO_IP, IP_RECVERR)


def test_a_segment_larger_than_the_mtu_falls_back(segments: Bench) -> None:
    """EMSGSIZE does the same, and pausing loses nothing either."""
    output, player = segments.pair()
    send = output.send

    def send_below_mtu(data: "ReadableBuffer", _flags: int = 0) -> int:
        if memoryview(data).nbytes > 1400:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        return send(data)

    output.send = send_below_mtu
    segments.send(*numbered(20))
    segments.fanout.pause(output)
    segments.fanout.resume(output)
    segments.send(*numbered(20))
    assert received(player) == segments.offered
    assert segments.counters(output) == (40, 0, 0)


def test_a_datagram_too_large_for_udp_is_dropped(bench: Bench) -> None:
    """What no packet can carry (it came over IPv6) is counted, and the stream goes on."""
    output, player = bench.pair()
    bench.send(b"x" * 65527)
    bench.send(b"y" * 1316, b"z" * 1316)
    assert received(player) == bench.offered[1:]
    assert bench.counters(output) == (2, 1, 0)


def test_a_datagram_for_ipv6_alone(bench: Bench) -> None:
    """What no IPv4 packet can hold is dropped for IPv4 viewers, who keep their batches."""
    output, player = bench.pair()
    bench.send(b"x" * 65_520)
    bench.send(*numbered(3))
    assert received(player) == numbered(3)
    assert bench.counters(output) == (3, 1, 0)
    assert not output.unsegmentable
