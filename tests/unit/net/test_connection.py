"""One TCP connection: collected output, its cap, and the orderly end."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from unittest import mock

import pytest

from relaylib.net import connection
from relaylib.net.connection import UNSENT_CAP, Connection
from relaylib.net.loop import Loop
from tools.lab.inprocess import running_loop, tcp_pair, turn_for, turn_until

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing resets the connection."""

SMALL = 4096
"""Bytes of kernel buffer that block a writer soon."""


@dataclass
class Owner:
    """Writes down what it is told; `answer` is written for every read."""

    answer: bytes = b""
    data: bytes = b""
    events: list[str] = field(default_factory=list)
    connection: Connection | None = None
    close_at_end: bool = True

    def received(self, data: bytes) -> None:
        """Take bytes."""
        assert self.connection is not None
        self.data += data
        self.connection.write(self.answer)

    def finished(self) -> None:
        """Take the FIN, and do as the relay does: end."""
        assert self.connection is not None
        self.events.append("finished")
        if self.close_at_end:
            self.connection.close("disconnected")

    def gone(self, reason: str) -> None:
        """Take the end."""
        self.events.append(f"gone: {reason}")


@dataclass
class Bench:
    """A connection in its loop, and the socket at its other end."""

    loop: Loop
    owner: Owner
    connection: Connection
    peer: socket.socket

    def turn_until_gone(self) -> str:
        """Run until the connection is over; return the reason."""
        turn_until(self.loop, lambda: "gone" in "".join(self.owner.events), "the end")
        return self.owner.events[-1].removeprefix("gone: ")

    def read_all(self) -> bytes:
        """Read at the peer until the connection ends, while the loop turns."""
        self.peer.setblocking(False)
        pieces: list[bytes] = []

        def read() -> bool:
            with contextlib.suppress(BlockingIOError):
                pieces.append(self.peer.recv(1 << 20))
            return pieces[-1:] == [b""]

        turn_until(self.loop, read, "the end of what the peer reads")
        return b"".join(pieces)


@contextlib.contextmanager
def make_bench(answer: bytes = b"", output: bytes = b"", send_buffer: int = 0) -> Iterator[Bench]:
    """Make a connection; a small `send_buffer` makes it block soon."""
    with running_loop() as loop, tcp_pair() as (near, peer):
        if send_buffer:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, send_buffer)
        owner = Owner(answer)
        owner.connection = Connection(loop, near, owner, output)
        yield Bench(loop, owner, owner.connection, peer)


def test_output_of_a_turn_leaves_at_its_end() -> None:
    """What is written during a turn is collected, and sent when the turn ends."""
    with make_bench() as bench:
        bench.peer.setblocking(False)
        for reply in (b"OK\n", b"ERROR x\n", b"OK y\n"):
            bench.connection.write(reply)
            with pytest.raises(BlockingIOError):
                bench.peer.recv(100)
        turn_for(bench.loop, 0)
        assert bench.peer.recv(100) == b"OK\nERROR x\nOK y\n"


def test_output_that_was_handed_over_is_sent() -> None:
    """A connection made with output left over begins by sending it."""
    with make_bench(output=b"OK\n") as bench:
        turn_for(bench.loop, 0)
        assert bench.peer.recv(100) == b"OK\n"


def test_partial_sends_continue_when_writable() -> None:
    """Output that the kernel takes bit by bit arrives whole and in order, and then the end."""
    piece, pieces = bytes(range(256)) * (UNSENT_CAP // 512), 0
    with make_bench(send_buffer=SMALL) as bench:
        while not bench.connection.unsent:
            bench.connection.write(piece)
            pieces += 1
            turn_for(bench.loop, 0)
        bench.connection.close("disconnected")
        assert bench.read_all() == piece * pieces


def test_a_peer_that_never_reads_is_closed_at_the_cap() -> None:
    """However slowly replies pile up, no more than the cap and one turn's replies are kept."""
    with make_bench(answer=b"x" * 5000, send_buffer=SMALL) as bench:
        kept = 0

        def ask() -> bool:
            nonlocal kept
            kept = max(kept, len(bench.connection.unsent))
            with contextlib.suppress(OSError):
                bench.peer.send(b"?", socket.MSG_DONTWAIT)
            return bool(bench.owner.events)

        turn_until(bench.loop, ask, "the end")
        assert bench.owner.events == ["gone: unread_replies"]
        assert kept <= UNSENT_CAP + 5000
        assert not bench.connection.unsent


def test_fin_ends_after_what_is_left_to_write() -> None:
    """After the peer's FIN its replies are still written, and then the connection ends."""
    with make_bench(answer=b"reply", send_buffer=SMALL) as bench:
        bench.peer.sendall(b"last words")
        bench.peer.shutdown(socket.SHUT_WR)
        assert bench.read_all() == b"reply"
        assert bench.turn_until_gone() == "disconnected"
        assert bench.owner.data == b"last words"
        assert bench.owner.events[0] == "finished"


def test_a_half_closed_peer_may_stay_for_its_replies() -> None:
    """After a FIN that the owner does not answer with an end, writing goes on as before."""
    with make_bench() as bench:
        bench.owner.close_at_end = False
        bench.peer.shutdown(socket.SHUT_WR)
        turn_until(bench.loop, lambda: bench.owner.events, "the FIN")
        bench.connection.write(b"late")
        turn_for(bench.loop, 0)
        assert bench.peer.recv(100) == b"late"
        bench.connection.close("enough")
        assert bench.turn_until_gone() == "enough"


def test_a_reset_ends_at_once() -> None:
    """The peer's reset ends the connection, and says so."""
    with make_bench() as bench:
        bench.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        bench.peer.close()
        assert bench.turn_until_gone() == "reset"


def test_last_words_survive_a_peer_that_is_still_sending() -> None:
    """Closing loses no reply although unread bytes of the peer's are waiting: no reset is sent."""
    with make_bench() as bench:
        bench.peer.send(b"x" * 10_000)
        bench.connection.write(b"ERROR adios\n")
        bench.connection.close("line_too_long")
        assert bench.read_all() == b"ERROR adios\n"
        bench.peer.send(b"x" * 10_000)
        bench.peer.close()
        assert bench.turn_until_gone() == "line_too_long"
        assert bench.owner.data == b""


def test_a_peer_that_does_not_close_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closing connection waits for its peer for a bounded time only."""
    monkeypatch.setattr(connection, "LINGER", 0.05)
    with make_bench() as bench:
        bench.connection.close("disconnected")
        assert bench.turn_until_gone() == "disconnected"
        assert bench.peer.recv(100) == b""


def test_nothing_happens_after_the_end() -> None:
    """Writing, closing and aborting are harmless once the end has begun, and `gone` comes once."""
    with make_bench() as bench:
        bench.connection.abort("first")
        bench.connection.abort("second")
        bench.connection.close("third")
        bench.connection.write(b"too late")
        turn_for(bench.loop, 0.01)
        assert bench.owner.events == ["gone: first"]
        assert bench.peer.recv(100) == b""


def test_a_bug_costs_its_own_connection_only() -> None:
    """An owner that raises loses this connection; the loop reports it and goes on."""
    bugs: list[Exception] = []
    with make_bench() as bench:
        bench.loop._on_bug = bugs.append
        with mock.patch.object(Owner, "received", side_effect=ValueError("bug")):
            bench.peer.send(b"x")
            assert bench.turn_until_gone() == "bug"
    assert [str(bug) for bug in bugs] == ["bug"]


def test_a_vanished_peer_is_found_within_15_seconds() -> None:
    """The kernel is asked for keepalive probes and a user timeout that end in at most 15 s."""
    with tcp_pair() as (near, _):
        connection.tune(near)
        idle, interval, count = (
            near.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        )
        assert near.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert idle + interval * count <= 15
        assert 0 < near.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 15_000
