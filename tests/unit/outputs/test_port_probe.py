"""Closed ports: probes, coming back, giving up. Real sockets, and a clock that the test moves."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from relaylib.outputs.output import Output
from relaylib.outputs.port_probe import ANSWERED_TURNS
from tools.lab.fanout_bench import Bench, make_fanout, received
from tools.lab.sockets import udp_socket, unused_port

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STEP = 0.01
MINUTE = 60.0
PAIR = (b"x" * 1316, b"y" * 1316)


@pytest.fixture(params=[True, False], ids=["segments", "plain"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A bench on each of the two paths."""
    with contextlib.ExitStack() as stack:
        yield Bench(make_fanout(segmentation=request.param), stack)


def stream(bench: Bench, seconds: float, step: float = STEP) -> None:
    """Forward two datagrams every `step` seconds for a while."""
    for _ in range(round(seconds / step)):
        bench.send(*PAIR, after=step)


class Path(socket.socket):
    """A socket whose ICMP errors are the test's: `pending` fails the next send, as in the kernel.

    `answer` is asked of each datagram that leaves whether it is answered by one.
    """

    def __init__(self, player: socket.socket) -> None:
        super().__init__(player.family, player.type)
        self.setblocking(False)
        self.connect(player.getsockname())
        self.pending = False
        self.answer: Callable[[], bool] = lambda: False

    def take_error(self) -> int:
        """Return the error that is pending, and clear it."""
        error, self.pending = self.pending * errno.ECONNREFUSED, False
        return error

    def send(self, data: "ReadableBuffer", flags: int = 0, /) -> int:
        """Report the error that is pending, or send."""
        if error := self.take_error():
            raise OSError(error, os.strerror(error))
        sent = super().send(data, flags)
        self.pending = self.answer()
        return sent

    def getsockopt(self, level: int, option: int, *size: int) -> int:  # type: ignore[override]
        """Report and clear the error with SO_ERROR."""
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            return self.take_error()
        return super().getsockopt(level, option, *size)


def count_sends(output: Output) -> list[int]:
    """Note the size of everything that is sent to an output from now on."""
    sizes: list[int] = []
    send = output.send

    def counted(data: memoryview, flags: int = 0) -> int:
        sizes.append(len(data))
        return send(data, flags)

    output.send = counted  # type: ignore[assignment]
    return sizes


def test_a_closed_port_is_only_probed(bench: Bench) -> None:
    """A closed port gets one datagram every 250 ms, and costs the others nothing."""
    closed, (well, player) = bench.output(unused_port()), bench.pair()
    stream(bench, 1)
    probes = count_sends(closed)
    stream(bench, 10)
    assert 35 <= len(probes) <= 40  # one every 250 ms
    assert set(probes) == {1316}
    assert received(player) == bench.offered
    assert bench.counters(well) == (len(bench.offered), 0, 0)
    sent, dropped, unreachable = bench.counters(closed)
    assert (dropped, closed.last_error) == (0, "Connection refused")
    assert sent <= (ANSWERED_TURNS + 1) * len(PAIR)
    assert unreachable == len(bench.offered) - sent


@pytest.mark.parametrize("closed", [1, 1.05, 1.1, 1.15, 1.2, 10])
def test_a_player_that_opens_gets_the_stream_within_300_ms(bench: Bench, closed: float) -> None:
    """Whenever the port opens, the full stream is back as soon as a probe found it open."""
    port = unused_port()
    output = bench.output(port)
    stream(bench, closed)
    with udp_socket(port=port) as player:
        player.setblocking(False)
        stream(bench, 0.3)
        received(player)
        before = bench.counters(output)
        stream(bench, 1)
        assert received(player) == list(PAIR) * 100
        sent, dropped, unreachable = bench.counters(output)
        assert (sent - before[0], dropped, unreachable) == (200, 0, before[2])


def test_a_player_may_close_and_open_again(bench: Bench) -> None:
    """A port counts as closed while it is: each opening brings the stream back."""
    port = unused_port()
    bench.output(port)
    for _ in range(3):
        stream(bench, 2)
        with udp_socket(port=port) as player:
            player.setblocking(False)
            stream(bench, 0.3)
            received(player)
            stream(bench, 0.5)
            assert len(received(player)) == 100


def test_what_was_received_is_what_was_counted_as_sent(bench: Bench) -> None:
    """From the opening on the counter of what was sent agrees with what the player got."""
    port = unused_port()
    output = bench.output(port)
    stream(bench, 1)
    already_sent = bench.counters(output)[0]
    with udp_socket(port=port) as player:
        player.setblocking(False)
        stream(bench, 1)
        assert bench.counters(output)[0] - already_sent == len(received(player))


def test_a_port_closed_for_a_minute_takes_the_output_out(bench: Bench) -> None:
    """After 60 s nothing is sent, and whoever added it is told, once; `resume` revives it."""
    port = unused_port()
    output = bench.output(port)
    stream(bench, MINUTE - 1, step=0.02)
    assert bench.given_up == []
    stream(bench, 2)
    assert bench.given_up == [output]
    sends = count_sends(output)
    stream(bench, 2)
    assert (bench.given_up, sends) == ([output], [])
    with udp_socket(port=port) as player:
        player.setblocking(False)
        bench.fanout.resume(output)
        stream(bench, 1)
        assert len(received(player)) == 200


def test_a_revived_output_has_another_minute(bench: Bench) -> None:
    """Who is revived while the port is still closed is not taken out again at once."""
    output = bench.output(unused_port())
    stream(bench, MINUTE + 1, step=0.02)
    bench.fanout.resume(output)
    stream(bench, MINUTE / 2, step=0.02)
    assert len(bench.given_up) == 1
    stream(bench, MINUTE / 2 + 1, step=0.02)
    assert len(bench.given_up) == 2


def test_a_lasting_output_is_probed_for_as_long_as_it_takes(bench: Bench) -> None:
    """After a minute it is probed every 1.25 s, an hour later still, and gets the stream back."""
    port = unused_port()
    output = bench.output(port, lasting=True)
    stream(bench, MINUTE + 2, step=0.02)
    bench.now += 60 * MINUTE
    sends = count_sends(output)
    stream(bench, MINUTE, step=0.02)
    assert 40 <= len(sends) <= 50
    with udp_socket(port=port) as player:
        player.setblocking(False)
        stream(bench, 1.3)
        received(player)
        stream(bench, 1)
        assert received(player) == list(PAIR) * 100


def test_a_host_that_seldom_says_so_is_given_up_too(bench: Bench) -> None:
    """An error every second, which is all that a host may send, adds up to a minute as well."""
    player = bench.player()
    path = Path(player)
    output = bench.output(player.getsockname()[1], sock=path)
    answered = bench.now

    def once_a_second() -> bool:
        nonlocal answered
        if bench.now - answered < 1:
            return False
        answered = bench.now
        return True

    path.answer = once_a_second
    stream(bench, MINUTE, step=0.02)
    assert bench.given_up == []
    stream(bench, 6, step=0.02)
    assert bench.given_up == [output]


# --- errors that are forged


def test_an_error_of_what_was_sent_before_costs_nothing(bench: Bench) -> None:
    """An ICMP error that is pending fails a send before it leaves: it is sent once more."""
    port = unused_port()
    output = bench.output(port)
    bench.send(b"met a closed port")
    with udp_socket(port=port) as player:
        player.setblocking(False)
        bench.send(*PAIR)
        assert received(player) == list(PAIR)
    assert bench.counters(output) == (2, 0, 1)


@pytest.mark.parametrize("step", [0.01, 0.05])
@pytest.mark.parametrize("rate", [0.3, 1, 10, 40, 200])
def test_forged_errors_cost_little_and_end_in_no_pause(
    bench: Bench, rate: float, step: float
) -> None:
    """Minutes of forged errors, more than there are sends, cost less than a tenth of the stream."""
    player = bench.player()
    path = Path(player)
    output = bench.output(player.getsockname()[1], sock=path)
    got, forged = 0, 0
    while bench.now < 1000 + 3 * MINUTE:
        if (bench.now - 1000) * rate >= forged:
            forged += 1
            path.pending = True
        bench.send(*PAIR, after=step)
        got += len(received(player))
    assert got >= 0.9 * len(bench.offered)
    assert bench.given_up == []
    assert 0 <= got - bench.counters(output)[0] <= forged


def test_a_closed_port_is_found_out_after_forged_errors(bench: Bench) -> None:
    """Forged errors are believed again some seconds after the last one was caught."""
    player = bench.player()
    path = Path(player)
    output = bench.output(player.getsockname()[1], sock=path)
    for _ in range(100):
        path.pending = True
        bench.send(*PAIR, after=STEP)
    assert len(received(player)) > 100
    path.answer = lambda: True
    stream(bench, 15)
    sends = count_sends(output)
    stream(bench, 5)
    assert len(sends) <= 20


# --- while nothing is sent


@pytest.mark.parametrize("probing", [True, False])
@pytest.mark.parametrize("opens", [True, False])
def test_a_silent_source_closes_no_port(bench: Bench, probing: bool, opens: bool) -> None:
    """The minutes in which nobody streams do not count, whether a probe was out then or not."""
    port = unused_port()
    output = bench.output(port)
    stream(bench, 2)
    probes = count_sends(output)
    while not probes:
        bench.send(b"x" * 1316, after=0.002)
    if not probing:
        stream(bench, 0.1)  # long enough to judge it, too short for the next one
    bench.now += 2 * MINUTE
    with udp_socket(port=port if opens else 0) as player:
        player.setblocking(False)
        stream(bench, 2)
        assert bench.given_up == []
        assert bool(received(player)) is opens
