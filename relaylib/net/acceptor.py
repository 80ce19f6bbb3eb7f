"""Accepting connections: a bounded number a turn, with a pause when the system cannot accept."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable

import structlog

from relaylib.log import Throttle
from relaylib.net.address import Address
from relaylib.net.descriptors import NO_DESCRIPTOR
from relaylib.net.loop import Loop

ACCEPTS = 16
"""Most connections accepted in one turn, so that a storm of them leaves time for other work."""

ACCEPT_PAUSE = 0.1
"""Seconds between a failed accept and the next try: at once, it would fail again."""

_GONE = {errno.ECONNABORTED, errno.EPROTO}
"""Errors of accept(2) for a connection that ended while it waited: the next one may be well. Any
other error would come again at once."""

log = structlog.get_logger()


class Acceptor:
    """Accepts the connections of a listening socket.

    `admit` gets each connection with its peer's address. When no descriptor is left, `no_room` gets
    it instead: it tells the peer the reason and closes the connection at once.
    """

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        admit: Callable[[socket.socket, Address], None],
        no_room: Callable[[socket.socket, Address], None],
    ) -> None:
        self.listener = listener
        self._loop = loop
        self._admit = admit
        self._no_room = no_room
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY)
        self._closed = False
        self._log = Throttle(loop.call_later)
        loop.watch(listener, self._accept, broken=lambda _error: None)

    def close(self) -> None:
        """Stop accepting and close the listening socket."""
        if not self._closed:
            self._closed = True
            self._loop.discard(self.listener)
            if self._spare is not None:
                os.close(self._spare)

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            self._loop.read_priority()
            try:
                sock, peer = self.listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                if error.errno not in NO_DESCRIPTOR or not self._accept_with_spare():
                    self._rest(error)
                return
            sock.setblocking(False)
            self._admit(sock, peer)

    def _accept_with_spare(self) -> bool:
        """Use the spare descriptor to decline one connection, so that the queue gets shorter.

        Returns whether that worked, and will work again. It does not if another process takes the
        spare descriptor, or the system lacks more than descriptors.
        """
        accepted = False
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        with contextlib.suppress(OSError):
            sock, peer = self.listener.accept()
            accepted = True
            sock.setblocking(False)
            self._no_room(sock, peer)
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)
        return accepted and self._spare is not None

    def _rest(self, error: OSError) -> None:
        """Stop watching the listener for a while: it stays readable, and the loop would spin."""
        self._log.log(log.warning, "accept_failed", reason=error_name(error), detail=error.strerror)
        self._loop.interest(self.listener, read=False)
        self._loop.call_later(ACCEPT_PAUSE, self._wake)

    def _wake(self) -> None:
        if not self._closed:
            self._loop.interest(self.listener)


def error_name(error: OSError) -> str:
    """Return the log's name for an error: descriptors, enobufs."""
    if error.errno in NO_DESCRIPTOR:
        return "descriptors"
    return errno.errorcode.get(error.errno or 0, "system").lower()
