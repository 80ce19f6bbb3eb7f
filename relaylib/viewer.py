"""One viewer: a TCP connection, the lines that arrive on it, the session's state, a subscriber.

It is called client where its connection is meant (the log's `client` is its address), session where
its state is. A command moves the session to its next state only after its effect succeeded, so a
command that fails changes nothing.
"""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import structlog

from relaylib import control
from relaylib.address import Address, show, unmapped
from relaylib.connection import Connection
from relaylib.control import LineReader, Request, Verb
from relaylib.errors import LineTooLongError, PeerError, RefusedError
from relaylib.handover import ViewerState, adopt
from relaylib.session import Effect, State, step
from relaylib.subscriber import Subscriber

if TYPE_CHECKING:
    from relaylib.server import Server

log = structlog.get_logger()


class Viewer:
    """One viewer. `subscriber` is where the stream goes, or would go if it were not paused."""

    __slots__ = ("_idle", "_server", "connection", "lines", "name", "peer", "state", "subscriber")

    def __init__(
        self, server: "Server", sock: socket.socket, peer: Address, output: bytes = b""
    ) -> None:
        self._server = server
        self.peer = unmapped(peer)
        self.name = show(peer)
        self.lines = LineReader()
        self.state = State.IDLE
        self.subscriber: Subscriber | None = None
        self.connection = Connection(server.loop, sock, self, output)
        self._idle = server.loop.call_later(server.idle_timeout, self._check_idle)

    # --- restarting

    def export(self) -> ViewerState:
        """Return what the next program needs to go on with this viewer."""
        subscriber = self.subscriber
        return ViewerState(
            fd=self.connection.sock.fileno(),
            peer=list(self.peer),
            state=self.state.value,
            pending=self.lines.pending.decode("latin-1"),
            telnet=self.lines.telnet,
            output=self.connection.output.decode("latin-1"),
            closing=self.connection.reason,
            subscriber=None if subscriber is None else self._server.fanout.export(subscriber),
        )

    @classmethod
    def restore(cls, server: "Server", saved: ViewerState) -> "Viewer":
        """Make the viewer that `export` described."""
        output = saved.output.encode("latin-1")
        viewer = cls(server, adopt(saved.fd), tuple(saved.peer), output)
        viewer.lines = LineReader(saved.pending.encode("latin-1"), saved.telnet)
        viewer.state = State(saved.state)
        if saved.subscriber is not None:
            viewer.subscriber = server.destinations.restore(viewer, saved.subscriber)
        if saved.closing:
            viewer.connection.close(saved.closing)
        return viewer

    # --- the connection's owner

    def received(self, data: bytes) -> None:
        """Answer every complete line, in order."""
        self.lines.feed(data)
        try:
            while self.state is not State.CLOSED and (line := self.lines.next_line()) is not None:
                self._answer(line)
        except LineTooLongError as error:
            self._server.protocol_error(self, error)
            self.farewell(str(error), "line too long")

    def finished(self) -> None:
        """End the session of a peer that will send no more."""
        self.end("disconnected")

    def gone(self, reason: str) -> None:
        """Release everything."""
        self._idle.cancel()
        self._unsubscribe()
        self.state = State.CLOSED
        self._server.forget(self, reason)

    # --- ending

    def _check_idle(self) -> None:
        if self.state is State.IDLE:
            error = RefusedError("demasiado tiempo sin CONECTAR", "idle")
            self._server.protocol_error(self, error)
            self.farewell(str(error), "idle")

    def farewell(self, message: str, reason: str) -> None:
        """Say why in one line, then close."""
        self.connection.write(control.error(message))
        self.end(reason)

    def end(self, reason: str) -> None:
        """Stop the stream at once, and close when what is left to write has been written."""
        self._unsubscribe()
        self.state = State.CLOSED
        self.connection.close(reason)

    # --- commands

    def _answer(self, line: bytes) -> None:
        try:
            if not control.is_blank(line):
                self._server.access.command(self.peer[0], self._server.loop.now)
            request = control.parse(line)
            if request is not None:
                self.connection.write(self._execute(request))
                if self.state is State.CLOSED:
                    self.connection.close("disconnected")
        except PeerError as error:
            self._server.protocol_error(self, error)
            self.connection.write(control.error(str(error)))

    def _execute(self, request: Request) -> bytes:
        transition = step(self.state, request.verb)
        reply = self._EFFECTS[transition.effect](self, request)
        self.state = transition.state
        return reply

    def _subscribe(self, request: Request) -> bytes:
        assert request.port is not None
        previous = self.subscriber
        self.subscriber = self._server.destinations.subscribe(self, request.port)
        if previous is not None and previous is not self.subscriber:
            self._server.destinations.unsubscribe(self, previous)
        return control.ok()

    def _pause(self, _request: Request) -> bytes:
        assert self.subscriber is not None
        self._server.fanout.pause(self.subscriber)
        log.info("paused", client=self.name, destination=show(self.subscriber.destination))
        return control.ok()

    def _resume(self, _request: Request) -> bytes:
        assert self.subscriber is not None
        self._server.fanout.resume(self.subscriber)
        log.info("resumed", client=self.name, destination=show(self.subscriber.destination))
        return control.ok()

    def _defer(self, _request: Request) -> bytes:
        message = "CONTINUAR DIFERIDO no esta disponible: este relay no guarda memoria"
        raise RefusedError(message, "no_history")

    def _close(self, _request: Request) -> bytes:
        self._unsubscribe()
        return control.ok()

    def _report(self, _request: Request) -> bytes:
        destination, sent, lost = "-", 0, 0
        if self.subscriber is not None:
            self._server.fanout.settle(self.subscriber)
            destination = show(self.subscriber.destination)
            sent, lost = self.subscriber.sent, self.subscriber.lost
        return control.ok(
            f"estado={self.state.value} destino={destination} enviados={sent} perdidos={lost}"
        )

    def _help(self, _request: Request) -> bytes:
        return control.HELP

    _EFFECTS: ClassVar[dict[Effect, Callable[["Viewer", Request], bytes]]] = {
        Effect.SUBSCRIBE: _subscribe,
        Effect.PAUSE: _pause,
        Effect.RESUME: _resume,
        Effect.DEFER: _defer,
        Effect.CLOSE: _close,
        Effect.REPORT: _report,
        Effect.HELP: _help,
    }

    def _unsubscribe(self) -> None:
        subscriber, self.subscriber = self.subscriber, None
        if subscriber is not None:
            self._server.destinations.unsubscribe(self, subscriber)

    def player_refused(self) -> None:
        """Pause a session whose player stayed closed, as if the viewer had said so."""
        self.state = step(self.state, Verb.INTERRUPT).state
        assert self.subscriber is not None
        where = show(self.subscriber.destination)
        log.warning(
            "paused", client=self.name, destination=where, reason=self.subscriber.last_error
        )
