"""One viewer: a TCP connection, the lines that arrive on it, the session's state, a output.

It is called client where its connection is meant (the log's `client` is its address), session where
its state is. A command moves the session to its next state only after its effect succeeded, so a
command that fails changes nothing.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import structlog

from relaylib.errors import DeclinedError, LineTooLongError, PeerError
from relaylib.net.address import Address, show, unmapped
from relaylib.net.connection import Connection
from relaylib.net.descriptors import Descriptor, adopt, descriptor
from relaylib.protocol import commands
from relaylib.protocol.commands import Request, Verb
from relaylib.protocol.lines import LineReader, Telnet
from relaylib.protocol.session import Effect, State, step
from relaylib.stream.output import Output, OutputState

if TYPE_CHECKING:
    from relaylib.viewers.server import Server

log = structlog.get_logger()


@dataclass(slots=True)
class ViewerState:
    """What a restart hands over of a viewer; `closing`: why its connection is being closed."""

    sock: Descriptor
    peer: Address
    state: State
    pending: bytes
    telnet: Telnet
    unsent: bytes
    closing: str
    output: OutputState | None


class Viewer:
    """One viewer. `output` is where the stream goes, or would go if it were not paused."""

    __slots__ = ("_idle", "_server", "connection", "lines", "name", "output", "peer", "state")

    def __init__(
        self, server: "Server", sock: socket.socket, peer: Address, output: bytes = b""
    ) -> None:
        self._server = server
        self.peer = unmapped(peer)
        self.name = show(peer)
        self.lines = LineReader()
        self.state = State.IDLE
        self.output: Output | None = None
        self.connection = Connection(server.loop, sock, self, output)
        self._idle = server.loop.call_later(server.idle_timeout, self._check_idle)

    # --- restarting

    def export(self) -> ViewerState:
        """Return what the next program needs to go on with this viewer."""
        output = self.output
        return ViewerState(
            sock=descriptor(self.connection.sock),
            peer=self.peer,
            state=self.state,
            pending=self.lines.pending,
            telnet=self.lines.telnet,
            unsent=bytes(self.connection.unsent),
            closing=self.connection.reason,
            output=None if output is None else self._server.fanout.export(output),
        )

    @classmethod
    def restore(cls, server: "Server", saved: ViewerState) -> "Viewer":
        """Make the viewer that `export` described."""
        viewer = cls(server, adopt(saved.sock), saved.peer, saved.unsent)
        viewer.lines = LineReader(saved.pending, saved.telnet)
        viewer.state = saved.state
        if saved.output is not None:
            viewer.output = server.destinations.restore(viewer, saved.output)
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
            error = DeclinedError("demasiado tiempo sin CONECTAR", "idle")
            self._server.protocol_error(self, error)
            self.farewell(str(error), "idle")

    def farewell(self, message: str, reason: str) -> None:
        """Say why in one line, then close."""
        self.connection.write(commands.error(message))
        self.end(reason)

    def end(self, reason: str) -> None:
        """Stop the stream at once, and close when what is left to write has been written."""
        self._unsubscribe()
        self.state = State.CLOSED
        self.connection.close(reason)

    # --- commands

    def _answer(self, line: bytes) -> None:
        try:
            if not commands.is_blank(line):
                self._server.access.command(self.peer[0], self._server.loop.now)
            request = commands.parse(line)
            if request is not None:
                self.connection.write(self._execute(request))
                if self.state is State.CLOSED:
                    self.connection.close("disconnected")
        except PeerError as error:
            self._server.protocol_error(self, error)
            self.connection.write(commands.error(str(error)))

    def _execute(self, request: Request) -> bytes:
        transition = step(self.state, request.verb)
        reply = self._EFFECTS[transition.effect](self, request)
        self.state = transition.state
        return reply

    def _subscribe(self, request: Request) -> bytes:
        assert request.port is not None
        previous = self.output
        self.output = self._server.destinations.subscribe(self, request.port)
        if previous is not None and previous is not self.output:
            self._server.destinations.unsubscribe(self, previous)
        return commands.ok()

    def _pause(self, _request: Request) -> bytes:
        assert self.output is not None
        self._server.fanout.pause(self.output)
        log.info("paused", client=self.name, destination=show(self.output.destination))
        return commands.ok()

    def _resume(self, _request: Request) -> bytes:
        assert self.output is not None
        self._server.fanout.resume(self.output)
        log.info("resumed", client=self.name, destination=show(self.output.destination))
        return commands.ok()

    def _defer(self, _request: Request) -> bytes:
        message = "CONTINUAR DIFERIDO no esta disponible: este relay no guarda memoria"
        raise DeclinedError(message, "no_history")

    def _close(self, _request: Request) -> bytes:
        self._unsubscribe()
        return commands.ok()

    def _report(self, _request: Request) -> bytes:
        destination, sent, lost = "-", 0, 0
        if self.output is not None:
            self._server.fanout.update_counters(self.output)
            destination = show(self.output.destination)
            sent, lost = self.output.sent, self.output.lost
        return commands.ok(
            f"estado={self.state.value} destino={destination} enviados={sent} perdidos={lost}"
        )

    def _help(self, _request: Request) -> bytes:
        return commands.HELP

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
        output, self.output = self.output, None
        if output is not None:
            self._server.destinations.unsubscribe(self, output)

    def player_refused(self) -> None:
        """Pause a session whose player stayed closed, as if the viewer had said so."""
        self.state = step(self.state, Verb.INTERRUPT).state
        assert self.output is not None
        where = show(self.output.destination)
        log.warning("paused", client=self.name, destination=where, reason=self.output.last_error)
