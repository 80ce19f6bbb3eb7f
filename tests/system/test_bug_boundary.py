"""A bug of ours, put in on purpose: it costs what it touches, is logged once, and the loop goes on.

In a single-threaded program an exception that nobody catches ends everything for everyone, so the
loop has one place where it stops. Here the bugs are put into a connection's owner, into the real
program's commands, and into the way of the stream.
"""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relaylib.net.connection import Connection
from relaylib.net.loop import Loop
from tools.lab.altered import Altered
from tools.lab.inprocess import tcp_pair, turn_until
from tools.lab.relay import RelayProcess
from tools.lab.sockets import source
from tools.lab.viewer import TestViewer


class Faulty:
    """Owns a connection; raises in the methods named in `bugs`, writes down all calls."""

    def __init__(self, *bugs: str) -> None:
        self.bugs = bugs
        self.calls: list[str] = []

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.bugs:
            raise ZeroDivisionError(call)

    def received(self, _data: bytes) -> None:
        """Take bytes."""
        self._note("received")

    def finished(self) -> None:
        """Take the FIN."""
        self._note("finished")

    def gone(self, reason: str) -> None:
        """Take the end."""
        self.calls.append(reason)
        self._note("gone")


@contextlib.contextmanager
def bench(owner: Faulty) -> Iterator[tuple[Loop, socket.socket, list[Exception]]]:
    """A loop with that owner's connection, its peer, and the list of the bugs that were met."""
    bugs: list[Exception] = []
    loop = Loop(bugs.append)
    with tcp_pair() as (near, peer):
        Connection(loop, near, owner)
        yield loop, peer, bugs
        loop.close()


@pytest.mark.parametrize("method", ["received", "finished"])
def test_a_bug_closes_its_connection(method: str) -> None:
    """After a bug the owner is told, the peer sees the end, and the bug is reported once."""
    owner = Faulty(method)
    with bench(owner) as (loop, peer, bugs):
        peer.sendall(b"x")
        peer.shutdown(socket.SHUT_WR)
        turn_until(loop, lambda: "gone" in owner.calls, "the end")
        assert owner.calls[-2:] == ["bug", "gone"]
        assert [str(bug) for bug in bugs] == [method]
        turn_until(loop, lambda: not loop._soon, "the socket to be closed")
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(1) == b""


def test_a_bug_in_the_wake_of_a_bug_is_survived() -> None:
    """If releasing the connection meets a bug too, both are reported and the loop goes on."""
    owner = Faulty("received", "gone")
    with bench(owner) as (loop, peer, bugs):
        peer.sendall(b"x")
        turn_until(loop, lambda: len(bugs) == 2, "both bugs")
        later: list[None] = []
        loop.call_later(0, lambda: later.append(None))
        turn_until(loop, lambda: later, "a timer")
        assert [str(bug) for bug in bugs] == ["received", "gone"]


# --- the real program, with a bug put in before it starts

FAULTS = {
    "ESTADO": """
from relaylib.protocol import commands
parse = commands.parse
def parse_with_a_bug(line):
    return 1 / 0 if line == b"ESTADO" else parse(line)
commands.parse = parse_with_a_bug
""",
    "stream": """
from relaylib.outputs.fanout import Fanout
forward, count = Fanout.forward, 0
def forward_with_a_bug(*words):
    global count
    count += 1
    1 / (count - 3)
    forward(*words)
Fanout.forward = forward_with_a_bug
""",
}


def faulty_relay(directory: Path, fault: str, *options: str) -> RelayProcess:
    """Start a relay with a bug."""
    return RelayProcess(*options, prefix=Altered(directory, FAULTS[fault]).prefix)


def assert_one_traceback(relay: RelayProcess) -> None:
    """Check that the bug was logged once, with its traceback."""
    [event] = relay.events("bug")
    assert event["level"] == "error"
    assert event["exception"].startswith("Traceback (most recent call last)")
    assert event["exception"].endswith("ZeroDivisionError: division by zero")


def test_a_command_that_meets_a_bug(tmp_path: Path) -> None:
    """Its connection ends and its stream stops; the others go on, and so does the stream."""
    with (
        faulty_relay(tmp_path, "ESTADO") as relay,
        TestViewer(relay.port) as victim,
        TestViewer(relay.port) as other,
        source(relay.ingest_port) as sender,
    ):
        for viewer in (victim, other):
            viewer.subscribe()
        assert victim.command("ESTADO") == ""
        sender.send(b"after")
        assert other.receive() == b"after"
        assert victim.nothing_arrives()
        relay.wait_event("client_gone", reason="bug", clients=1)
        with TestViewer(relay.port) as newcomer:
            assert newcomer.command(f"CONECTAR {victim.port}") == "OK"
        assert_one_traceback(relay)
        assert relay.stop() == 0


@pytest.mark.parametrize("milliseconds", ["0", "50"])
def test_a_bug_in_the_way_of_the_stream(tmp_path: Path, milliseconds: str) -> None:
    """The datagrams that meet it are lost; those that follow are not, however they are read."""
    options = ("--coalesce", milliseconds, "--source-timeout", "60")
    with faulty_relay(tmp_path, "stream", *options) as relay, TestViewer(relay.port) as viewer:
        viewer.subscribe()
        with source(relay.ingest_port) as sender:
            for number in range(6):
                sender.send(b"%d" % number)
                if number != 2:
                    assert viewer.receive() == b"%d" % number
                else:
                    relay.wait_event("bug")
        assert_one_traceback(relay)
