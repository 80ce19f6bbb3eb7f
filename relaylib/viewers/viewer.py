"""One viewer: a TCP connection, the session on it, and an output for the stream.

`protocol.session` decides what the bytes mean and which commands are valid now. Commands take
effect here, and only here a viewer's replies are written and its connection is closed.
"""

import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import structlog

from relaylib.errors import DeclinedError, PeerError
from relaylib.net.access import Access
from relaylib.net.address import Address, show, unmapped
from relaylib.net.connection import Connection
from relaylib.net.descriptors import Descriptor, adopt, descriptor
from relaylib.net.loop import Loop
from relaylib.net.peer_log import PeerLog
from relaylib.outputs.behind import Deferred
from relaylib.outputs.fanout import Fanout
from relaylib.outputs.output import Output, OutputState
from relaylib.outputs.viewer_row import UDP, ViewerRow
from relaylib.protocol import commands
from relaylib.protocol.commands import Command, Verb
from relaylib.protocol.lines import LineReader, Telnet
from relaylib.protocol.session import Session, State
from relaylib.viewers.destinations import Destinations
from relaylib.viewers.egress import Egress

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Services:
    """What every viewer uses of the relay.

    `declined` counts by kind. `facts` returns the pairs that ESTADO tells of the stream. `on_error`
    is called with a viewer's mistake, `on_gone` when its connection is over, with the reason.
    """

    loop: Loop
    fanout: Fanout
    deferred: Deferred
    destinations: Destinations
    access: Access
    egress: Egress
    events: PeerLog
    idle_timeout: float
    declined: Counter[str]
    facts: Callable[[Output | None], str]
    on_error: Callable[["Viewer", PeerError], None]
    on_gone: Callable[["Viewer", str], None]


@dataclass(slots=True)
class ViewerState:
    """What a reload hands over of a viewer.

    `closing`: why its connection is being closed. `silent_for`: seconds since it last sent a byte.
    `declined`: it was turned away and is only being told so. `since`: when it came, by the
    monotonic clock, None if an older program did not know.
    """

    sock: Descriptor
    peer: Address
    state: State
    pending: bytes
    telnet: Telnet
    unsent: bytes
    closing: str
    output: OutputState | None
    silent_for: float = 0.0
    declined: bool = False
    since: float | None = None


class Viewer:
    """One viewer. `output` is where the stream goes, or would go without a pause."""

    __slots__ = (
        "_commands",
        "_heard",
        "_idle",
        "_services",
        "connection",
        "name",
        "output",
        "peer",
        "session",
        "since",
    )

    def __init__(
        self,
        services: Services,
        sock: socket.socket,
        peer: Address,
        session: Session | None = None,
        unsent: bytes = b"",
        *,
        silent_for: float = 0.0,
    ) -> None:
        """Serve a connection from now on; its peer has been silent for so many seconds.

        Raises:
            OSError: the system cannot watch the socket.
        """
        self._services = services
        self.peer = unmapped(peer)
        self.name = show(peer)
        self.since = services.loop.now
        self.session = session or Session()
        self.output: Output | None = None
        self.connection = Connection(services.loop, sock, self, unsent)
        self._commands = services.access.own_commands(services.loop.now)
        self._heard = services.loop.now - silent_for
        self._idle = services.loop.call_later(services.idle_timeout - silent_for, self._check_idle)

    # --- reloading

    def export(self) -> ViewerState:
        """Return what the next program needs to go on with this viewer."""
        output, lines = self.output, self.session.lines
        return ViewerState(
            sock=descriptor(self.connection.sock),
            peer=self.peer,
            state=self.session.state,
            pending=lines.pending,
            telnet=lines.telnet,
            unsent=bytes(self.connection.unsent),
            closing=self.connection.reason,
            output=None if output is None else self._services.fanout.export(output),
            silent_for=self._services.loop.now - self._heard,
            since=self.since,
        )

    @classmethod
    def restore(cls, services: Services, saved: ViewerState) -> "Viewer":
        """Make the viewer that `export` described; if it can no longer be deferred, it is live."""
        lost = saved.state is State.DEFERRED and not services.deferred.keeps
        session = Session(
            State.STREAMING if lost else saved.state, LineReader(saved.pending, saved.telnet)
        )
        sock = adopt(saved.sock)
        silent = saved.silent_for
        viewer = cls(services, sock, saved.peer, session, saved.unsent, silent_for=silent)
        viewer.since = viewer.since if saved.since is None else saved.since
        if saved.output is not None:
            viewer.output = services.destinations.restore(saved.output, viewer._port_closed)
            services.deferred.put(viewer.output, saved.output.behind)
        if saved.closing:
            viewer.connection.close(saved.closing)
        return viewer

    # --- telling about it

    def row(self) -> ViewerRow:
        """Tell how it fares."""
        output, state = self.output, self.session.state.value
        if output is None:
            return ViewerRow(self, UDP, state, self.peer, since=self.since)
        self._services.fanout.update_counters(output)
        counters, delay = output.counters, self._services.deferred.delay(output)
        return ViewerRow(
            self, UDP, state, self.peer, output.destination, delay, counters.sent, counters.lost,
            self.since,
        )  # fmt: skip

    # --- the connection's owner

    def received(self, data: bytes) -> None:
        """Answer every complete line, in order."""
        self._heard = self._services.loop.now
        self.session.feed(data)
        while (item := self.session.next_item()) is not None:
            self._answer(item)

    def finished(self) -> None:
        """End the session of a peer that will send no more."""
        self.end("disconnected")

    def gone(self, reason: str) -> None:
        """Release everything."""
        self._idle.cancel()
        self._close_output()
        self.session.close()
        self._services.on_gone(self, reason)

    # --- replying and ending

    def _answer(self, item: Command | PeerError) -> None:
        """Write the one reply that a line gets, and end if the session is over."""
        try:
            self._services.access.command(self.peer[0], self._commands, self._services.loop.now)
            # An error that is kept is not raised: its traceback would have the frame that keeps it.
            reply = self._refuse(item) if isinstance(item, PeerError) else self._carry_out(item)
        except PeerError as error:
            reply = self._refuse(error)
        self.connection.write(reply)
        if self.session.state is State.CLOSED:
            self.end(item.kind if isinstance(item, PeerError) else "disconnected")

    def dismiss(self, error: DeclinedError) -> None:
        """End the session by a rule of the relay, and name the rule."""
        self._services.declined[error.kind] += 1
        self.end(error.kind, str(error))

    def end(self, reason: str, farewell: str = "") -> None:
        """Stop the stream at once, and close when the rest has been written."""
        if farewell:
            self.connection.write(commands.error(farewell))
        self._close_output()
        self.session.close()
        self.connection.close(reason)

    def _check_idle(self) -> None:
        """Dismiss a viewer that neither asks for the stream nor types anything."""
        if self.session.state is not State.IDLE:
            return
        left = self._heard + self._services.idle_timeout - self._services.loop.now
        if left > 0:
            self._idle = self._services.loop.call_later(left, self._check_idle)
        else:
            reason = f"demasiado tiempo sin CONECTAR ({self._services.idle_timeout:g} s)"
            self.dismiss(DeclinedError(reason, "idle_timeout"))

    # --- commands

    def _refuse(self, wrong: PeerError) -> bytes:
        """Note what is wrong; return the reply."""
        self._services.on_error(self, wrong)
        return commands.reply_to(wrong)

    def _carry_out(self, command: Command) -> bytes:
        """Let a command have its effect, then move the session on; return the reply.

        Raises:
            PeerError: the effect failed. The session stays as it is.
        """
        reply = self._EFFECTS[command.verb](self, command)
        self.session.advance(command.verb)
        return reply

    def _connect(self, command: Command) -> bytes:
        self._check_egress()
        destination: Address = (self.peer[0], command.port, *self.peer[2:])
        if self.output is None or self.output.destination != destination:
            local = unmapped(self.connection.sock.getsockname())
            opened = self._services.destinations.open(destination, local, self._port_closed)
            self._close_output()
            self.output = opened
            self._log(log.info, "output_added", opened)
        elif self.session.state is not State.STREAMING:
            self._log(log.info, "resumed", self.output)
        self._services.deferred.start(self.output)
        return commands.ok()

    def _interrupt(self, _command: Command) -> bytes:
        assert self.output is not None
        self._services.deferred.pause(self.output)
        self._log(log.info, "paused", self.output)
        return commands.ok()

    def _continue(self, _command: Command) -> bytes:
        assert self.output is not None
        self._check_egress()
        self._services.deferred.start(self.output)
        self._log(log.info, "resumed", self.output)
        return commands.ok()

    def _check_egress(self) -> None:
        """Make sure that the way out has room for this viewer, unless it is being sent to already.

        Raises:
            DeclinedError: there is no room.
        """
        if self.output is None or self.output.paused:
            self._services.egress.admit()

    def _continue_deferred(self, command: Command) -> bytes:
        self._check_history(command)
        self._check_egress()
        assert self.output is not None
        self._services.deferred.go_on(self.output)
        self._log_deferred(self.output)
        return commands.ok()

    def _rewind(self, command: Command) -> bytes:
        self._check_history(command)
        self._check_egress()
        assert self.output is not None
        assert command.seconds is not None
        if not self._services.deferred.rewind(self.output, command.seconds):
            raise DeclinedError("todavia no hay nada a lo que RETROCEDER", "empty_history")
        self._log_deferred(self.output)
        return commands.ok()

    def _check_history(self, command: Command) -> None:
        if not self._services.deferred.keeps:
            name = command.verb.value
            message = f"{name} no esta disponible: este relay no guarda historial (--timeshift)"
            raise DeclinedError(message, "no_history")

    def _log_deferred(self, output: Output) -> None:
        seconds = round(self._services.deferred.delay(output) or 0.0, 1)
        self._log(log.info, "deferred", output, seconds=seconds)

    def _disconnect(self, _command: Command) -> bytes:
        return commands.ok()  # `_answer` ends a session that is closed

    def _status(self, _command: Command) -> bytes:
        destination, sent, lost, delay = "-", 0, 0, None
        if self.output is not None:
            self._services.fanout.update_counters(self.output)
            destination = show(self.output.destination)
            sent, lost = self.output.counters.sent, self.output.counters.lost
            delay = self._services.deferred.delay(self.output)
        pairs = (
            f"estado={self.session.state.word}",
            f"destino={destination}",
            f"enviados={sent}",
            f"perdidos={lost}",
            self._services.facts(self.output),
            f"retraso={'-' if delay is None else f'{delay:.1f}'}",
        )
        return commands.ok(" ".join(filter(None, pairs)))

    def _help(self, _command: Command) -> bytes:
        return commands.HELP

    _EFFECTS: ClassVar[dict[Verb, Callable[["Viewer", Command], bytes]]] = {
        Verb.CONNECT: _connect,
        Verb.INTERRUPT: _interrupt,
        Verb.CONTINUE: _continue,
        Verb.CONTINUE_DEFERRED: _continue_deferred,
        Verb.REWIND: _rewind,
        Verb.DISCONNECT: _disconnect,
        Verb.STATUS: _status,
        Verb.HELP: _help,
    }

    # --- the output

    def _port_closed(self) -> None:
        """Pause, as after a command of the viewer: the player's port is closed."""
        self.session.advance(Verb.INTERRUPT)
        assert self.output is not None
        self._services.deferred.pause(self.output)
        detail = self.output.last_error
        self._log(log.warning, "paused", self.output, reason="port_closed", detail=detail)

    def _close_output(self) -> None:
        output, self.output = self.output, None
        if output is None:
            return
        self._services.destinations.close(output)
        self._log(
            log.info,
            "output_removed",
            output,
            sent=output.counters.sent,
            dropped=output.counters.dropped,
            unreachable=output.counters.unreachable,
        )

    def _log(
        self, method: Callable[..., None], event: str, output: Output, **fields: object
    ) -> None:
        """Log what became of an output."""
        where = show(output.destination)
        self._services.events.log(
            method, event, self.peer[0], client=self.name, destination=where, **fields
        )
