"""A fan-out with players on loopback and a clock that the test moves."""

import contextlib
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from relaylib.history.history import Place
from relaylib.outputs.fanout import Fanout
from relaylib.outputs.output import Behind, Output, open_socket
from relaylib.source.batch import Batch, Run
from tools.lab.sockets import udp_socket

LOCAL = ("127.0.0.1", 0)


def runs_of(datagrams: Iterable[bytes]) -> list[Run]:
    """Lay datagrams out as the ingest does."""
    batch = Batch()
    for each in datagrams:
        batch.room()[: len(each)] = each
        batch.add(len(each))
    return batch.finish()


def make_fanout(*, segmentation: bool) -> Fanout:
    """A fan-out without a loop: nothing that it would log later is logged."""
    return Fanout(lambda _delay, _callback: None, segmentation=segmentation)


@dataclass
class Bench:
    """A fan-out, its players, what they were offered, and the outputs whose port stayed closed.

    `behind`: its outputs are not live, but are sent everything one by one.
    """

    fanout: Fanout
    stack: contextlib.ExitStack
    behind: bool = False
    now: float = 1000.0
    offered: list[bytes] = field(default_factory=list)
    given_up: list[Output] = field(default_factory=list)

    def player(self) -> socket.socket:
        player = self.stack.enter_context(udp_socket())
        player.setblocking(False)
        return player

    def output(
        self,
        port: int,
        host: str = LOCAL[0],
        sock: socket.socket | None = None,
        *,
        lasting: bool = False,
    ) -> Output:
        """Add an output for this port, with a socket of its own or a given one."""
        destination = (host, port)
        sock = self.stack.enter_context(sock or open_socket(destination, LOCAL))
        output = Output(
            destination, sock, None if lasting else lambda: self.given_up.append(output)
        )
        output.behind = Behind(Place(0)) if self.behind else None
        self.fanout.resume(output)
        return output

    def pair(self) -> tuple[Output, socket.socket]:
        """Open a player and add its output."""
        player = self.player()
        return self.output(player.getsockname()[1]), player

    def send(self, *datagrams: bytes, after: float = 0.0) -> None:
        """Forward these datagrams, some seconds later."""
        self.now += after
        self.offered += datagrams
        runs = runs_of(datagrams)
        self.fanout.forward(runs, self.now)
        for output in self.fanout.deferred():
            for run in runs:
                if not output.paused:
                    self.fanout.send(output, run, self.now)

    def counters(self, output: Output) -> tuple[int, int, int]:
        """Return what was sent, dropped and unreachable; their sum is what was offered."""
        self.fanout.update_counters(output)
        counters = output.counters
        counted = counters.sent, counters.dropped, counters.unreachable
        assert sum(counted) == counters.offered
        assert min(counted) >= 0
        return counted


def received(player: socket.socket) -> list[bytes]:
    """Return what has arrived: loopback delivers before `send` returns."""
    datagrams: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            datagrams.append(player.recv(65536))
    return datagrams


def numbered(count: int, size: int = 1316) -> list[bytes]:
    """Make datagrams that differ."""
    return [index.to_bytes(4, "big") + bytes(size - 4) for index in range(count)]
