"""The control side's front: accepts viewers, and turns away those that cannot be served.

A client that is turned away is told why in one line. To make sure that the line arrives, its
connection lingers (see `net/connection`), up to `LEAVING` of them at once; in a storm the others
are told and closed in the same moment, and the line may be lost.
"""

import contextlib
import socket
from collections import Counter
from collections.abc import Iterator
from functools import partial

import structlog

from relaylib.channel import Channel
from relaylib.config import Config
from relaylib.errors import DeclinedError, FatalPeerError, PeerError
from relaylib.log import Throttle
from relaylib.net.acceptor import Acceptor, error_name
from relaylib.net.access import Access
from relaylib.net.address import Address, show, unmapped
from relaylib.net.connection import Connection, tune
from relaylib.net.descriptors import adopt, descriptor
from relaylib.net.lookup import is_own
from relaylib.net.loop import Loop
from relaylib.net.peer_log import PeerLog
from relaylib.outputs.output import Output
from relaylib.outputs.viewer_row import ViewerRow
from relaylib.protocol import commands
from relaylib.protocol.lines import Telnet
from relaylib.protocol.session import State
from relaylib.protocol.words import stream_pairs
from relaylib.viewers.destinations import Destinations
from relaylib.viewers.egress import SAMPLE_PERIOD, Egress
from relaylib.viewers.viewer import Services, Viewer, ViewerState

LEAVING = 64
"""Connections that were turned away and may linger, each holding a descriptor."""

NO_ROOM = "el relay no admite mas conexiones: pruebe mas tarde"

GIVE_WAY = "relay lleno: deja su sitio quien mas lleva sin CONECTAR"

log = structlog.get_logger()


class _Leaving:
    """Owns a connection that was turned away: what it sends is ignored."""

    def __init__(
        self,
        server: "ControlServer",
        sock: socket.socket,
        peer: Address,
        unsent: bytes,
        reason: str,
    ) -> None:
        """Write `unsent` and close.

        Raises:
            OSError: the system cannot watch the socket.
        """
        self._server = server
        self._peer = peer
        self._connection = Connection(server._loop, sock, self, unsent)
        self._connection.close(reason)

    def export(self) -> ViewerState:
        """Return what the next program needs to go on closing."""
        return ViewerState(
            sock=descriptor(self._connection.sock),
            peer=self._peer,
            state=State.CLOSED,
            pending=b"",
            telnet=Telnet.TEXT,
            unsent=bytes(self._connection.unsent),
            closing=self._connection.reason,
            output=None,
            declined=True,
        )

    def received(self, data: bytes) -> None:
        """Ignore what it sends."""

    def finished(self) -> None:
        """Ignore that it will send no more; the connection is closing already."""

    def gone(self, _reason: str) -> None:
        """Make room for another connection to linger."""
        self._server._leaving.discard(self)


class ControlServer:
    """Accepts viewers and knows them all.

    They watch the `channel`, as far as `egress` has room for them. Since the start, `accepted`
    counts them, and `declined`, by kind, what was declined.
    """

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        channel: Channel,
        config: Config,
        egress: Egress,
    ) -> None:
        self.listener = listener
        self.viewers: dict[Viewer, None] = {}  # in the order of arrival
        self.accepted = 0
        self.declined: Counter[str] = Counter()
        self._loop = loop
        self._channel = channel
        self._fanout = fanout = channel.fanout
        self._events = PeerLog(loop)
        self._access = Access(config.limits())
        self._egress = egress
        self._services = Services(
            loop=loop,
            fanout=fanout,
            deferred=channel.deferred,
            destinations=Destinations(
                loop, fanout, channel.address, in_use=channel.taken, claimed=channel.claimed
            ),
            access=self._access,
            egress=egress,
            events=self._events,
            idle_timeout=config.idle_timeout,
            declined=self.declined,
            facts=self._facts,
            on_error=self._note_error,
            on_gone=self._remove,
        )
        self._without_stream: dict[Viewer, None] = {}  # some have it by now; as `viewers`
        self._leaving: set[_Leaving | Viewer] = set()
        self._error_log = Throttle(loop.call_later)
        self._declined_log = Throttle(loop.call_later)
        self._acceptor = Acceptor(loop, listener, self._admit, self._no_room)
        if config.max_egress is not None:
            loop.call_every(SAMPLE_PERIOD, self._measure)

    def _measure(self) -> None:
        fanout = self._fanout
        self._egress.measure(self._loop.now, fanout.forwarded, fanout.byte_count)

    # --- accepting

    def _admit(self, sock: socket.socket, peer: Address) -> None:
        address = unmapped(peer)
        try:
            own = partial(is_own, address)
            self._access.admit(address[0], self._loop.now, own, self._make_room)
            tune(sock)
            viewer = Viewer(self._services, sock, peer)
        except DeclinedError as error:
            self._decline(sock, peer, error)
        except OSError as error:  # the system watches no more sockets (ENOSPC, epoll_ctl(2))
            self._decline_at_once(sock, peer, DeclinedError(NO_ROOM, error_name(error)))
        else:
            self._add(viewer)
            self.accepted += 1
            self._events.log(
                log.info,
                "client_connected",
                address[0],
                client=viewer.name,
                clients=len(self.viewers),
            )

    # --- turning away

    def _make_room(self) -> bool:
        """Let the viewer that has been without the stream for longest give way, if there is one.

        The one that has been silent for longest would be the wrong choice: a squatter types
        something now and then more cheaply than it connects again, which has limits.
        """
        while self._without_stream:
            viewer = next(iter(self._without_stream))
            del self._without_stream[viewer]
            if viewer.session.state is State.IDLE:
                self._give_way(viewer)
                return True
        return False

    def _give_way(self, viewer: Viewer) -> None:
        """Take a viewer's place, and let its connection linger like those of the turned away."""
        self._vacate(viewer)
        viewer.dismiss(DeclinedError(GIVE_WAY, "gave_way"))
        if len(self._leaving) < LEAVING:
            self._leaving.add(viewer)
        else:
            with contextlib.suppress(OSError):
                viewer.connection.sock.send(viewer.connection.unsent)
            viewer.connection.abort("gave_way")

    def _decline(self, sock: socket.socket, peer: Address, error: DeclinedError) -> None:
        """Say why and close, in order while few are leaving."""
        if len(self._leaving) >= LEAVING:
            self._decline_at_once(sock, peer, error)
            return
        try:
            leaving = _Leaving(self, sock, peer, commands.error(str(error)), error.kind)
        except OSError:  # as in `_admit`
            self._decline_at_once(sock, peer, error)
            return
        self._leaving.add(leaving)
        self._log_declined(peer, error)

    def _decline_at_once(self, sock: socket.socket, peer: Address, error: DeclinedError) -> None:
        with sock, contextlib.suppress(OSError):
            sock.send(commands.error(str(error)))
        self._log_declined(peer, error)

    def _no_room(self, sock: socket.socket, peer: Address) -> None:
        self._decline_at_once(sock, peer, DeclinedError(NO_ROOM, "descriptors"))

    # --- the viewers

    def _add(self, viewer: Viewer) -> None:
        self.viewers[viewer] = self._without_stream[viewer] = None
        self._access.arrived(viewer.peer[0])

    def _vacate(self, viewer: Viewer) -> None:
        del self.viewers[viewer]
        self._without_stream.pop(viewer, None)
        self._access.left(viewer.peer[0])

    def _remove(self, viewer: Viewer, reason: str) -> None:
        if viewer in self.viewers:
            self._vacate(viewer)
        self._leaving.discard(viewer)
        self._events.log(
            log.info,
            "client_gone",
            viewer.peer[0],
            client=viewer.name,
            reason=reason,
            clients=len(self.viewers),
        )

    def close(self, farewell: str) -> None:
        """Accept no more viewers, and send a farewell line to the present ones."""
        self._acceptor.close()
        for viewer in list(self.viewers):
            viewer.end("shutdown", farewell)

    def outputs(self) -> list[Output]:
        """Return their outputs, paused ones included."""
        return [each.output for each in self.viewers if each.output is not None]

    def viewer_rows(self) -> Iterator[ViewerRow]:
        """Tell how each viewer fares."""
        for each in self.viewers:
            if each.session.state is not State.CLOSED:
                yield each.row()

    def _facts(self, output: Output | None) -> str:
        """Return what ESTADO says about the stream that an output gets."""
        source, health = self._channel.snapshot().source, self._channel.health.word_for(output)
        form = source.form or "opaque"
        return stream_pairs(source.presence.value, form, source.payload_type, health)

    # --- reloading

    def export(self) -> list[ViewerState]:
        """Return what the next program needs to go on with everyone, leaving ones included."""
        return [each.export() for each in (*self.viewers, *self._leaving)]

    def restore(self, viewers: list[ViewerState], accepted: int, declined: dict[str, int]) -> None:
        """Go on with the viewers and the counters of the previous program."""
        self.accepted = accepted
        self.declined.update(declined)
        for saved in viewers:
            if saved.declined:
                sock = adopt(saved.sock)
                self._leaving.add(_Leaving(self, sock, saved.peer, saved.unsent, saved.closing))
                continue
            viewer = Viewer.restore(self._services, saved)
            self._add(viewer)
            try:
                self._access.check_allowed(viewer.peer[0], partial(is_own, viewer.peer))
            except DeclinedError as error:  # the configuration may have changed
                viewer.dismiss(error)

    # --- the log

    def _log_declined(self, peer: Address, error: DeclinedError) -> None:
        self.declined[error.kind] += 1
        self._declined_log.log(log.warning, "client_declined", client=show(peer), reason=error.kind)

    def _note_error(self, viewer: Viewer, error: PeerError) -> None:
        """Count what was declined, but no mere mistake; log it unless there was too much of it."""
        if isinstance(error, DeclinedError | FatalPeerError):
            self.declined[error.kind] += 1
        event = "command_declined" if isinstance(error, DeclinedError) else "protocol_error"
        detail = {"detail": error.detail} if error.detail else {}
        self._error_log.log(log.info, event, client=viewer.name, reason=error.kind, **detail)
