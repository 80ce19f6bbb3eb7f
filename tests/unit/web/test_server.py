"""What an address may ask for, over sockets: beyond its share of work it waits, and nobody else."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from relaylib.config import parse
from relaylib.net.loop import Loop
from relaylib.web import server as module
from relaylib.web.budget import AT_ONCE, SHARE, Budget
from relaylib.web.reply import NotYetError, Resource, Response
from relaylib.web.request import HttpRequest
from relaylib.web.server import PENDING, HttpServer
from tools.lab.inprocess import running_loop, turn_until
from tools.lab.web import request

ONE, OTHER, PROXY = "127.0.0.2", "127.0.0.3", "127.0.0.1"


class Shares(Budget):
    """A budget in which a share holds for the loopback, too, but for the proxy."""

    def is_exempt(self, address: str) -> bool:
        return address == PROXY


class Dear:
    """A resource that takes all that may be had at once, and a bit more."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.work = AT_ONCE + 0.1 * SHARE

    def respond(self, request: HttpRequest, now: float) -> Response:
        """Answer."""
        self._budget.spend(request.client, self.work, now)
        return Response(b"dear")


class Cheap:
    """A resource that takes nothing."""

    def respond(self, _request: HttpRequest, _now: float) -> Response:
        """Answer."""
        return Response(b"cheap")


class Never:
    """A resource whose answer is never known."""

    def respond(self, _request: HttpRequest, _now: float) -> Response:
        """Say so."""
        raise NotYetError("todavia no", self.respond)


class Stage:
    """A server, and who asks it."""

    def __init__(self, loop: Loop, stack: contextlib.ExitStack) -> None:
        self._loop, self._stack = loop, stack
        budget = Shares()
        self.dear = Dear(budget)
        table: dict[str, Resource] = {"/dear": self.dear, "/cheap": Cheap(), "/never": Never()}
        words = ["--http", "127.0.0.1:0", "--trusted-proxy", PROXY]
        self.server = HttpServer(loop, parse(words), lambda: 0, table, budget=budget)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.setblocking(False)
        self._address = listener.getsockname()
        self.server.listen(listener)

    def ask(self, address: str, *targets: str, **headers: str) -> "Asking":
        """Ask from an address, one request behind the other."""
        sock = socket.create_connection(self._address, source_address=(address, 0))
        self._stack.enter_context(sock)
        sock.sendall(b"".join(request(each, **headers) for each in targets))
        sock.setblocking(False)
        return Asking(self._loop, sock)


class Asking:
    """One who has asked."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self._loop, self._sock = loop, sock
        self._data = b""

    @property
    def statuses(self) -> list[int]:
        """What has been answered so far."""
        with contextlib.suppress(BlockingIOError):
            self._data += self._sock.recv(1 << 16)
        return [int(each[:3]) for each in self._data.split(b"HTTP/1.1 ")[1:]]

    def wait(self, *statuses: int) -> None:
        """Run the loop until so much has been answered."""
        turn_until(self._loop, lambda: len(self.statuses) >= len(statuses), "answers")
        assert self.statuses == list(statuses)


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Make one; no bug may happen in it."""
    with running_loop() as loop, contextlib.ExitStack() as stack:
        stage = Stage(loop, stack)
        yield stage
        for connection in [*stage.server.connections, *stage.server._leaving]:
            connection.abort("end")
        stage.server.close()


def test_who_has_had_its_share_waits(stage: Stage) -> None:
    """Its next request is answered when its work is paid for, and others at once."""
    one = stage.ask(ONE, "/dear", "/cheap", "/dear")
    one.wait(200)
    stage.ask(OTHER, "/cheap", "/cheap").wait(200, 200)
    assert one.statuses == [200]
    one.wait(200, 200, 200)


def test_who_has_waited_for_long_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """429, counted, and the connection ends; one that goes meanwhile leaves nothing behind."""
    monkeypatch.setattr(module, "PENDING_TIME", 0.1)
    stage.dear.work = 100.0
    one = stage.ask(ONE, "/dear", "/cheap", "/cheap")
    one.wait(200, 429)
    assert b"Retry-After" in one._data
    assert stage.server.declined == {"work": 1}
    gone = stage.ask(ONE, "/cheap")
    turn_until(stage.server._loop, lambda: stage.server._resting, "somebody who waits")
    gone._sock.close()
    turn_until(stage.server._loop, lambda: len(stage.server.connections) < 2, "the end")
    assert not stage.server._resting


def test_who_comes_by_a_proxy_is_told_at_once(stage: Stage) -> None:
    """The connection belongs to the proxy, which goes on with what others ask."""
    header = {"X_Forwarded_For": "198.51.100.7"}
    stage.ask(PROXY, "/dear", "/cheap", **header).wait(200, 429)
    stage.ask(PROXY, "/cheap", "/cheap", X_Forwarded_For="198.51.100.8").wait(200, 200)
    stage.ask(PROXY, "/dear", "/dear", "/cheap").wait(200, 200, 200)


def test_an_address_leaves_others_room_to_wait(stage: Stage) -> None:
    """Half of those who may wait for an answer, at most, are of one address."""
    for _ in range(PENDING):
        stage.ask(ONE, "/never")
    turn_until(stage.server._loop, lambda: len(stage.server.connections) == PENDING, "all")
    assert len(stage.server._pending) == PENDING // 2
    stage.ask(OTHER, "/never")
    waiting = PENDING // 2 + 1
    turn_until(stage.server._loop, lambda: len(stage.server._pending) == waiting, "another one")
