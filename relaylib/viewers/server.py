"""The control side's front: accepts viewers, and turns away those that cannot be served."""

import contextlib
import os
import socket
from collections import Counter

import structlog

from relaylib.config import Config
from relaylib.errors import DeclinedError, PeerError
from relaylib.log import Throttle
from relaylib.net.address import Address, show, unmapped
from relaylib.net.connection import Connection, tune
from relaylib.net.descriptors import NO_DESCRIPTOR
from relaylib.net.loop import Loop
from relaylib.protocol import commands
from relaylib.stream.fanout import Fanout
from relaylib.viewers.access import Access
from relaylib.viewers.destinations import Destinations
from relaylib.viewers.viewer import Viewer, ViewerState

ACCEPTS = 16
"""Connections accepted in one turn: a storm of them shares the loop with everything else."""

REST = 0.1
"""Seconds without accepting when there is no descriptor at all, not even for a farewell."""

LEAVING = 64
"""Refused connections that may linger until the peer has read why, each holding a descriptor."""

log = structlog.get_logger()


class _Leaving:
    """Owns a connection that was turned away: nothing it says matters any more."""

    def __init__(self, server: "Server") -> None:
        self._server = server

    def received(self, data: bytes) -> None:
        """Ignore what it sends."""

    def finished(self) -> None:
        """Ignore that it will send no more; the connection is closing already."""

    def gone(self, _reason: str) -> None:
        """Let another one linger."""
        self._server.left()


class Server:
    """Accepts viewers and knows them all.

    Since the start, `accepted` counts them, and `declined`, by kind, what was declined.
    """

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        fanout: Fanout,
        ingest: Address,
        config: Config,
    ) -> None:
        self.loop = loop
        self.fanout = fanout
        self.destinations = Destinations(loop, fanout, ingest)
        self.access = Access(config.limits())
        self.idle_timeout = config.idle_timeout
        self.clients: set[Viewer] = set()
        self.accepted = 0
        self.declined: Counter[str] = Counter()
        self.listener = listener
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY)
        self._error_log = Throttle(loop.call_later)
        self._leaving = 0
        self._closed = False
        self._declined_log = Throttle(loop.call_later)
        loop.watch(listener, self._accept, broken=lambda _error: None)

    # --- connections

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            self.loop.read_priority()
            try:
                sock, peer = self.listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in NO_DESCRIPTOR:
                    self._refuse_one()
                    return
                continue  # the peer left while it waited: accept(2) lists a dozen ways
            self._welcome(sock, peer)

    def _welcome(self, sock: socket.socket, peer: Address) -> None:
        try:
            self.access.enter(unmapped(peer)[0], self.loop.now)
        except DeclinedError as error:
            self._turn_away(sock, peer, error)
            return
        try:
            sock.setblocking(False)
            tune(sock)
            client = Viewer(self, sock, peer)
        except Exception:
            self.access.leave(unmapped(peer)[0])
            sock.close()
            raise
        self.clients.add(client)
        self.accepted += 1
        log.info("client_connected", client=client.name, clients=len(self.clients))

    def _refuse_one(self) -> None:
        """Out of descriptors: lend the spare one to a farewell, so that the queue gets shorter.

        Otherwise the listener would stay readable, and the loop would spin on it. So would it if
        another process took the spare one too: then the listener rests for a while.
        """
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        with contextlib.suppress(OSError):
            sock, peer = self.listener.accept()
            with sock:
                sock.setblocking(False)
                sock.send(commands.error("el relay no admite mas conexiones"))
            self._log_refusal(peer, "descriptors")
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)
        if self._spare is None:
            self.loop.interest(self.listener, read=False)
            self.loop.call_later(REST, self._wake_listener)

    def _wake_listener(self) -> None:
        if not self._closed:
            self.loop.interest(self.listener)

    def _turn_away(self, sock: socket.socket, peer: Address, refusal: DeclinedError) -> None:
        """Say why and close: in order while few are leaving, at once in a storm."""
        sock.setblocking(False)
        farewell = commands.error(str(refusal))
        if self._leaving < LEAVING:
            self._leaving += 1
            connection = Connection(self.loop, sock, _Leaving(self))
            connection.write(farewell)
            connection.close("refused")
        else:
            with sock, contextlib.suppress(OSError):
                sock.send(farewell)
        self._log_refusal(peer, refusal.kind)

    def _log_refusal(self, peer: Address, kind: str) -> None:
        self.declined[kind] += 1
        self._declined_log.log(log.warning, "client_declined", client=show(peer), reason=kind)

    def left(self) -> None:
        """Note that a connection which was turned away is gone."""
        self._leaving -= 1

    def forget(self, client: Viewer, reason: str) -> None:
        """Drop a client whose connection is over."""
        self.clients.discard(client)
        self.access.leave(client.peer[0])
        log.info("client_gone", client=client.name, reason=reason, clients=len(self.clients))

    def protocol_error(self, client: Viewer, error: PeerError) -> None:
        """Log what a peer did wrong, unless too much of that has been logged lately."""
        if error.kind:
            self.declined[error.kind] += 1
        self._error_log.log(log.info, "protocol_error", client=client.name, reason=str(error))

    def export(self) -> list[ViewerState]:
        """Return what the next program needs to go on with every viewer, leaving ones included."""
        return [each.export() for each in self.clients]

    def restore(self, viewers: list[ViewerState], accepted: int, declined: dict[str, int]) -> None:
        """Go on with the viewers and the counters of the previous program."""
        self.accepted = accepted
        self.declined.update(declined)
        for saved in viewers:
            viewer = Viewer.restore(self, saved)
            self.clients.add(viewer)
            self.access.present(viewer.peer[0])
            self._recheck(viewer)

    def _recheck(self, viewer: Viewer) -> None:
        """Send a viewer away whom the restarted relay's configuration no longer allows."""
        try:
            self.access.check_allowed(viewer.peer[0])
        except DeclinedError as error:
            self.protocol_error(viewer, error)
            viewer.farewell(str(error), "not allowed")

    def close(self, farewell: str) -> None:
        """Accept nobody any more, and send everyone away with one line."""
        self._closed = True
        self.loop.discard(self.listener)
        for client in list(self.clients):
            client.farewell(farewell, "shutdown")
