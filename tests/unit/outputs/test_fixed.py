"""Fixed outputs in a loop, the way of each on loopback."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from relaylib.errors import SetupError
from relaylib.net.address import Address
from relaylib.net.descriptors import Descriptor
from relaylib.net.loop import Loop
from relaylib.net.mrl import parse_output
from relaylib.outputs import fixed, output
from relaylib.outputs.fanout import Fanout
from relaylib.outputs.fixed import FixedOutputs, FixedState, check_outputs
from tools.lab.fanout_bench import numbered, received, runs_of
from tools.lab.inprocess import running_loop, turn_until
from tools.lab.sockets import udp_socket, unused_port

INGEST = ("127.0.0.1", 1)


class Screens:
    """Fixed outputs that are looked after every millisecond, and their log."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack = stack
        self.loop: Loop = stack.enter_context(running_loop())
        self.fanout = Fanout(self.loop.call_later, segmentation=True)
        self.taken: set[Address] = set()
        self.claimed: set[Address] = set()
        self.log = stack.enter_context(capture_logs())

    def screen(self, port: int = 0) -> tuple[str, socket.socket]:
        """Open a screen; return its MRL, too."""
        sock = self.stack.enter_context(udp_socket(port=port))
        sock.setblocking(False)
        return f"udp://127.0.0.1:{sock.getsockname()[1]}", sock

    def begin(self, *mrls: str, saved: list[FixedState] | None = None) -> FixedOutputs:
        """Open the fixed outputs of a program, which begins with the first turn of its loop."""
        made = FixedOutputs(
            self.loop,
            self.fanout,
            INGEST,
            [parse_output(each) for each in mrls],
            saved or [],
            taken=self.taken,
            claimed=self.claimed,
        )
        self.stack.callback(made.close)
        self.fanout.go_on()
        self.turn()
        return made

    def turn(self) -> None:
        """Run one turn of the loop."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run()

    def send(self, count: int = 3) -> list[bytes]:
        """Forward some datagrams."""
        self.fanout.forward(runs_of(numbered(count)), self.loop.time())
        return numbered(count)

    def stream_until(self, condition: Callable[[], object], what: str) -> None:
        """Stream, a datagram at a time, until it is true."""
        turn_until(self.loop, lambda: self.send(1) and condition(), what)

    def events(self, name: str) -> list[Any]:
        return [each for each in self.log if each["event"] == name]


@pytest.fixture
def screens(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screens]:
    """Nothing configured yet; no time is waited for."""
    monkeypatch.setattr(fixed, "LOOK_PERIOD", 0.001)
    monkeypatch.setattr(fixed, "CALM", 0.01)
    with contextlib.ExitStack() as stack:
        yield Screens(stack)


def hand_over(outputs: FixedOutputs) -> list[FixedState]:
    """Export, as a successor that has the same descriptors would get it."""
    states = outputs.export()
    for each in states:
        each.output.sock = Descriptor(os.dup(each.output.sock))
    return states


def test_a_reload_keeps_adds_and_removes(screens: Screens) -> None:
    """What stays keeps socket and counters, with another ttl; what goes is closed and summed up."""
    (goes, goes_sock), (comes, comes_sock) = screens.screen(), screens.screen()
    group = f"udp://239.255.0.7:{unused_port()}?iface=lo&ttl="
    first = screens.begin(goes, group + "0")
    assert screens.fanout.active == len(first.outputs) == 2  # so --max-egress counts them
    sent = screens.send(5)
    former = first.outputs[1].sock
    saved = hand_over(first)
    screens.fanout = Fanout(screens.loop.call_later, segmentation=True)
    screens.claimed.clear()
    second = screens.begin(group + "7", comes, saved=saved)
    kept, added = second.outputs
    assert kept.sock.getsockname() == former.getsockname()
    assert kept.sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 7
    assert screens.claimed == {kept.destination, added.destination}
    assert received(goes_sock) == sent
    screens.send(2)
    assert received(goes_sock) == []
    assert received(comes_sock) == numbered(2)
    second.close()
    assert screens.claimed == set()
    ended = [(each["destination"], each["sent"]) for each in screens.events("output_removed")]
    assert ended == [(goes[6:], 5), (group[6:].partition("?")[0], 7), (comes[6:], 2)]


def test_a_screen_may_be_switched_off_and_on(screens: Screens) -> None:
    """A closed port is logged once, and once when it is back, and then gets everything again."""
    port = unused_port()
    outputs = screens.begin(f"udp://127.0.0.1:{port}")
    screens.stream_until(lambda: screens.events("output_unreachable"), "the closed port")
    assert screens.events("output_unreachable")[0]["reason"] == "Connection refused"
    saved = hand_over(outputs)
    outputs.close()
    screens.fanout = Fanout(screens.loop.call_later, segmentation=True)
    screens.begin(f"rtp://127.0.0.1:{port}", saved=saved)  # a reload is no reason to say it again
    screens.stream_until(lambda: screens.fanout._closed.first, "it to be found closed again")
    _, sock = screens.screen(port)
    screens.stream_until(lambda: screens.events("output_reachable"), "the open port")
    received(sock)
    assert screens.send(20) == received(sock)
    assert len(screens.events("output_unreachable")) == 1


def test_without_a_way_it_is_tried_again(screens: Screens, monkeypatch: pytest.MonkeyPatch) -> None:
    """No route when the relay begins is a warning, once; the stream goes there as there is one."""
    mrl, sock = screens.screen()
    way = output.open_socket

    def no_way(*_words: object) -> socket.socket:
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    monkeypatch.setattr(fixed, "open_socket", no_way)
    outputs = screens.begin(mrl)
    for _ in range(3):
        outputs._look()
    assert (outputs.outputs, outputs.export(), screens.claimed) == ([], [], set())
    monkeypatch.setattr(fixed, "open_socket", way)
    turn_until(screens.loop, lambda: outputs.outputs, "the way")
    assert screens.send() == received(sock)
    names = [each["event"] for each in screens.log]
    assert names == ["output_unreachable", "output_added"]
    assert screens.log[0]["reason"] == "Network is unreachable"


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EINVAL, errno.ENETUNREACH])
def test_a_way_that_is_gone_is_looked_for_anew(screens: Screens, number: int) -> None:
    """If no send leaves a socket any more (another interface, another address), another one may."""
    mrl, sock = screens.screen()
    (screen,) = screens.begin(mrl).outputs

    def gone(_data: object, _flags: int = 0) -> int:
        raise OSError(number, os.strerror(number))

    screen.send = gone
    former = screen.sock
    screens.stream_until(lambda: screen.sock is not former, "another socket")
    assert former.fileno() == -1
    received(sock)
    assert screens.send() == received(sock)
    assert screens.events("output_unreachable")[0]["reason"] == os.strerror(number)


def test_what_a_viewer_has_must_wait(screens: Screens) -> None:
    """Where the stream goes already, nothing is sent twice; when the viewer is gone, it is."""
    mrl, sock = screens.screen()
    screens.taken.add(sock.getsockname())
    outputs = screens.begin(mrl)
    assert outputs.outputs == []
    assert screens.events("output_unreachable")[0]["reason"] == "a viewer has it"
    screens.taken.clear()
    turn_until(screens.loop, lambda: outputs.outputs, "the destination")
    assert screens.send() == received(sock)


@pytest.mark.parametrize(
    ("mrl", "ingest", "status"),
    [
        ("udp://127.0.0.1:5000", ("0.0.0.0", 5000), 2),
        ("udp://127.0.0.9:5000", ("127.0.0.1", 5000), 2),
        ("udp://127.0.0.1:5000", ("::", 5000, 0, 0), 2),
        ("udp://239.2.2.2:5000", ("239.2.2.2", 5000), 2),
        ("udp://239.2.2.2:5000?iface=nowhere", INGEST, 1),
        ("udp://239.2.2.2:5000?iface=192.0.2.1", INGEST, 1),
        ("udp://[fe80::1%nowhere]:5000", INGEST, 1),
    ],
)
def test_what_cannot_be_an_output(mrl: str, ingest: Address, status: int) -> None:
    """One that leads back in is wrong; an interface that does not exist is the system's answer."""
    with pytest.raises(SetupError, match=r"^cannot send to ") as found:
        check_outputs([parse_output(mrl)], ingest)
    assert found.value.status == status


@pytest.mark.parametrize(
    ("mrl", "ingest"),
    [
        ("udp://239.2.2.2:5000", ("0.0.0.0", 5000)),
        ("udp://239.2.2.2:5000", ("239.2.2.3", 5000)),
        ("udp://239.2.2.2:5000?iface=127.0.0.1&ttl=255", INGEST),
        ("udp://192.0.2.1:5000?ttl=9", ("0.0.0.0", 5000)),
    ],
)
def test_what_only_looks_like_a_loop(mrl: str, ingest: Address) -> None:
    """A group at the ingest's port is none: nobody there has joined it. Nor is another host."""
    check_outputs([parse_output(mrl)], ingest)
