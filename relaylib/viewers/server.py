"""The control side's front: accepts viewers, and turns away those that cannot be served.

Whoever is turned away is told why in one line. To be sure that it arrives, such a connection
lingers (see `net/connection`), up to `LEAVING` of them at once; in a storm the rest is told and
closed in the same moment, which may cost the line.
"""

import contextlib
import errno
import os
import socket
from collections import Counter
from functools import partial

import structlog

from relaylib.config import Config
from relaylib.errors import DeclinedError, FatalPeerError, PeerError
from relaylib.log import Throttle
from relaylib.net.address import Address, show, unmapped
from relaylib.net.connection import Connection, tune
from relaylib.net.descriptors import NO_DESCRIPTOR
from relaylib.net.lookup import is_local
from relaylib.net.loop import Loop
from relaylib.protocol import commands
from relaylib.stream.fanout import Fanout
from relaylib.viewers.access import Access
from relaylib.viewers.destinations import Destinations
from relaylib.viewers.viewer import Services, Viewer, ViewerState

ACCEPTS = 16
"""Connections accepted in one turn: a storm of them shares the loop with everything else."""

REST = 0.1
"""Seconds without accepting when the system cannot: tried again at once, it would fail again."""

LEAVING = 64
"""Connections that were turned away and may linger, each holding a descriptor."""

NO_ROOM = "el relay no admite mas conexiones"

_LEFT = {errno.ECONNABORTED, errno.EPROTO}
"""What accept(2) says of a connection that ended while it waited: the next one may be well. Any
other error would come again at once."""

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
        self._server._leaving -= 1


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
        self.listener = listener
        self.clients: set[Viewer] = set()
        self.accepted = 0
        self.declined: Counter[str] = Counter()
        self._loop = loop
        self._access = Access(config.limits())
        self._services = Services(
            loop=loop,
            fanout=fanout,
            destinations=Destinations(loop, fanout, ingest),
            access=self._access,
            idle_timeout=config.idle_timeout,
            declined=self.declined,
            on_error=self._note_error,
            on_gone=self._remove,
        )
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY)
        self._leaving = 0
        self._closed = False
        self._error_log = Throttle(loop.call_later)
        self._declined_log = Throttle(loop.call_later)
        self._accept_log = Throttle(loop.call_later)
        loop.watch(listener, self._accept, broken=lambda _error: None)

    # --- accepting

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            self._loop.read_priority()
            try:
                sock, peer = self.listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _LEFT:
                    continue
                if error.errno not in NO_DESCRIPTOR or not self._accept_with_spare():
                    self._rest(error)
                return
            self._welcome(sock, peer)

    def _accept_with_spare(self) -> bool:
        """Out of descriptors: lend the spare one to a farewell, so that the queue gets shorter.

        Returns whether that worked, and will work again. It does not if another process takes the
        spare one, or the system lacks more than descriptors.
        """
        accepted = False
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        with contextlib.suppress(OSError):
            sock, peer = self.listener.accept()
            accepted = True
            self._decline_at_once(sock, peer, DeclinedError(NO_ROOM, "descriptors"))
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)
        return accepted and self._spare is not None

    def _rest(self, error: OSError) -> None:
        """Let the listener rest: it stays readable, and the loop would spin on it."""
        self._accept_log.log(
            log.warning, "accept_failed", reason=_name(error), detail=error.strerror
        )
        self._loop.interest(self.listener, read=False)
        self._loop.call_later(REST, self._wake_listener)

    def _wake_listener(self) -> None:
        if not self._closed:
            self._loop.interest(self.listener)

    def _welcome(self, sock: socket.socket, peer: Address) -> None:
        address = unmapped(peer)
        sock.setblocking(False)
        try:
            self._access.admit(address[0], self._loop.now, partial(_is_own, address))
            tune(sock)
            client = Viewer(self._services, sock, peer)
        except DeclinedError as error:
            self._decline(sock, peer, error)
        except OSError as error:  # the system watches no more sockets (ENOSPC, epoll_ctl(2))
            self._decline_at_once(sock, peer, DeclinedError(NO_ROOM, _name(error)))
        else:
            self._add(client)
            self.accepted += 1
            log.info("client_connected", client=client.name, clients=len(self.clients))

    # --- turning away

    def _decline(self, sock: socket.socket, peer: Address, error: DeclinedError) -> None:
        """Say why and close, in order while few are leaving."""
        if self._leaving >= LEAVING:
            self._decline_at_once(sock, peer, error)
            return
        try:
            connection = Connection(self._loop, sock, _Leaving(self))
        except OSError:  # as in `_welcome`
            self._decline_at_once(sock, peer, error)
            return
        self._leaving += 1
        connection.write(commands.error(str(error)))
        connection.close(error.kind)
        self._log_declined(peer, error)

    def _decline_at_once(self, sock: socket.socket, peer: Address, error: DeclinedError) -> None:
        with sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.send(commands.error(str(error)))
        self._log_declined(peer, error)

    # --- the viewers

    def _add(self, client: Viewer) -> None:
        self.clients.add(client)
        self._access.arrived(client.peer[0])

    def _remove(self, client: Viewer, reason: str) -> None:
        self.clients.remove(client)
        self._access.left(client.peer[0])
        log.info("client_gone", client=client.name, reason=reason, clients=len(self.clients))

    def close(self, farewell: str) -> None:
        """Accept nobody any more, and send everyone away with one line."""
        self._closed = True
        self._loop.discard(self.listener)
        for client in list(self.clients):
            client.end("shutdown", farewell)

    # --- restarting

    def export(self) -> list[ViewerState]:
        """Return what the next program needs to go on with every viewer, leaving ones included."""
        return [each.export() for each in self.clients]

    def restore(self, viewers: list[ViewerState], accepted: int, declined: dict[str, int]) -> None:
        """Go on with the viewers and the counters of the previous program."""
        self.accepted = accepted
        self.declined.update(declined)
        for saved in viewers:
            viewer = Viewer.restore(self._services, saved)
            self._add(viewer)
            try:
                self._access.check_allowed(viewer.peer[0], partial(_is_own, viewer.peer))
            except DeclinedError as error:  # the configuration may have changed
                viewer.dismiss(error)

    # --- the log

    def _log_declined(self, peer: Address, error: DeclinedError) -> None:
        self.declined[error.kind] += 1
        self._declined_log.log(log.warning, "client_declined", client=show(peer), reason=error.kind)

    def _note_error(self, client: Viewer, error: PeerError) -> None:
        """Count what was declined, but no mere mistake; log it unless there was much of that."""
        if isinstance(error, DeclinedError | FatalPeerError):
            self.declined[error.kind] += 1
        event = "command_declined" if isinstance(error, DeclinedError) else "protocol_error"
        detail = {"detail": error.detail} if error.detail else {}
        self._error_log.log(log.info, event, client=client.name, reason=error.kind, **detail)


def _is_own(address: Address) -> bool:
    try:
        return is_local(address)
    except OSError:  # no descriptor to find out with
        return False


def _name(error: OSError) -> str:
    """Name an error in the log's way: descriptors, enobufs."""
    if error.errno in NO_DESCRIPTOR:
        return "descriptors"
    return errno.errorcode.get(error.errno or 0, "system").lower()
