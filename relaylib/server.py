"""The control side's front: accepts viewers, and turns away those that cannot be served."""

import contextlib
import os
import socket

import structlog

from relaylib import control
from relaylib.address import Address, show
from relaylib.connection import tune
from relaylib.destinations import Destinations
from relaylib.errors import PeerError
from relaylib.fanout import Fanout
from relaylib.kernel import NO_DESCRIPTOR
from relaylib.log import Throttle
from relaylib.loop import Loop
from relaylib.viewer import Viewer

ACCEPTS = 16
"""Connections accepted in one turn: a storm of them shares the loop with everything else."""

log = structlog.get_logger()


class Server:
    """Accepts viewers and knows them all; `accepted` counts them since the start."""

    def __init__(
        self, loop: Loop, listener: socket.socket, fanout: Fanout, ingest: Address
    ) -> None:
        self.loop = loop
        self.fanout = fanout
        self.destinations = Destinations(loop, fanout, ingest)
        self.clients: set[Viewer] = set()
        self.accepted = 0
        self._listener = listener
        self._spare = os.open(os.devnull, os.O_RDONLY)
        self._error_log = Throttle()
        self._full_log = Throttle(limit=1)
        loop.watch(listener, self._accept, broken=lambda _error: None)

    # --- connections

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, peer = self._listener.accept()
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
            sock.setblocking(False)
            tune(sock)
            client = Viewer(self, sock, peer)
        except OSError as error:
            sock.close()
            log.warning("client_gone", client=show(peer), reason=error.strerror)
            return
        self.clients.add(client)
        self.accepted += 1
        log.info("client_connected", client=client.name, clients=len(self.clients))

    def _refuse_one(self) -> None:
        """Out of descriptors: lend the spare one to a farewell, so that the queue gets shorter.

        Otherwise the listener would stay readable, and the loop would spin on it.
        """
        os.close(self._spare)
        with contextlib.suppress(OSError):
            sock, peer = self._listener.accept()
            with sock:
                sock.setblocking(False)
                sock.send(control.error("el relay no admite mas conexiones"))
                sock.shutdown(socket.SHUT_WR)
            if (fields := self._full_log.admit(self.loop.now)) is not None:
                log.warning("client_refused", client=show(peer), reason="no descriptors", **fields)
        self._spare = os.open(os.devnull, os.O_RDONLY)

    def forget(self, client: Viewer, reason: str) -> None:
        """Drop a client whose connection is over."""
        self.clients.discard(client)
        log.info("client_gone", client=client.name, reason=reason, clients=len(self.clients))

    def protocol_error(self, client: Viewer, error: PeerError) -> None:
        """Log what a peer did wrong, unless too much of that has been logged lately."""
        fields = self._error_log.admit(self.loop.now)
        if fields is not None:
            log.info("protocol_error", client=client.name, reason=str(error), **fields)

    def close(self, farewell: str) -> None:
        """Accept nobody any more, and send everyone away with one line."""
        self.loop.discard(self._listener)
        for client in list(self.clients):
            client.farewell(farewell, "shutdown")
