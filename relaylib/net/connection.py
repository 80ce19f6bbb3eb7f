"""A non-blocking TCP connection with a capped unsent buffer and an orderly end.

Output is collected during a turn and written once at its end, so that all replies of a turn cost
one system call. What the kernel does not take waits here, up to `UNSENT_CAP`; a peer that lets more
pile up does not read, and is closed.

The end has an order because TCP destroys data otherwise: closing a socket whose receive buffer is
not empty sends a reset, and a reset makes the peer throw away replies that it has not read yet. So
the last bytes are flushed, the write side is shut down, and what still comes is read and thrown
away until the peer closes too, for at most `LINGER` seconds (nginx calls this a lingering close).
"""

import contextlib
import errno
import socket
from typing import Protocol

from relaylib.net.loop import Loop, Timer

READ_SIZE = 64
"""Bytes read in one turn: a few commands. The stream waits while they are carried out, and the most
expensive, CONECTAR, takes 0.2 ms. What a peer sends beyond that is read in the next turns."""

DISCARD_SIZE = 8 * 1024
"""Bytes thrown away in one turn while closing: little work; the peer's FIN is behind them."""

KERNEL_BUFFER = 16 * 1024
"""Bytes asked of the kernel, which doubles them, each way: otherwise its buffers for a peer that
floods the relay or never reads would grow to megabytes."""

UNSENT_CAP = 64 * 1024
"""Bytes of replies kept for a peer beyond the kernel's buffers: over 1,000 unread replies."""

LINGER = 2.0
"""Seconds that a closing connection may take to flush and to be closed by its peer."""

KEEPALIVE = {"TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 9}
"""A silent peer is probed after 4 s and given up after 9 probes: gone 13 s after it vanished, and
up to a second later, because the kernel rounds such waits up. Nine, so that a path which loses one
packet in five does not look like a vanished peer."""

USER_TIMEOUT = 12_500
"""Milliseconds that sent data may stay unacknowledged (RFC 5482): the same while replying. It also
outranks TCP_KEEPCNT (tcp(7)), so it must have run out when the probes have."""


class ConnectionOwner(Protocol):
    """The object that a connection reports to. After `gone` no other method is called."""

    def received(self, data: bytes) -> None:
        """Take bytes from the peer."""

    def finished(self) -> None:
        """Note that the peer will send no more (FIN); its replies can still be written."""

    def gone(self, reason: str) -> None:
        """Note that the connection is over; `reason` is for the log."""


def tune(sock: socket.socket, send_buffer: int = KERNEL_BUFFER) -> None:
    """Set the options: notice a vanished peer within 15 s, send at once, keep buffers small."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    options = {**KEEPALIVE, "TCP_USER_TIMEOUT": USER_TIMEOUT, "TCP_NODELAY": 1}
    for name, value in options.items():
        if hasattr(socket, name):
            with contextlib.suppress(OSError):  # already reset: reading will tell
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Connection:
    """One accepted TCP connection.

    `unsent` has the bytes still to be written. `reason` says why the connection is being closed,
    "" if it is not.
    """

    __slots__ = ("_closing", "_eof", "_linger", "_loop", "_owner", "reason", "sock", "unsent")

    def __init__(
        self, loop: Loop, sock: socket.socket, owner: ConnectionOwner, unsent: bytes = b""
    ) -> None:
        self.sock = sock
        self.unsent = bytearray(unsent)
        self._loop = loop
        self._owner: ConnectionOwner | None = owner
        self._closing = False
        self._eof = False
        self.reason = ""
        self._linger: Timer | None = None
        loop.watch(sock, self._readable, writable=self._flush, broken=self._broken)
        if unsent:
            loop.call_soon(self._flush)

    def write(self, data: bytes) -> None:
        """Queue bytes for the end of this turn. A connection that is closing drops them."""
        if self._closing or self._owner is None:
            return
        if not self.unsent:
            self._loop.call_soon(self._flush)
        self.unsent += data

    def close(self, reason: str) -> None:
        """Write what is queued, then close in order; the owner's `gone` gets `reason`."""
        if self._closing or self._owner is None:
            return
        self._closing = True
        self.reason = reason
        self._linger = self._loop.call_later(LINGER, self._linger_over)
        self._loop.call_soon(self._flush)

    def abort(self, reason: str) -> None:
        """Close at once; queued bytes are lost."""
        owner, self._owner = self._owner, None
        if owner is None:
            return
        if self._linger is not None:
            self._linger.cancel()
        self.unsent.clear()
        self._loop.discard(self.sock)
        owner.gone(self.reason or reason)

    def _linger_over(self) -> None:
        self.abort(self.reason)

    def _broken(self, _error: Exception) -> None:
        self.abort("bug")

    def _readable(self) -> None:
        try:
            data = self.sock.recv(DISCARD_SIZE if self._closing else READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self.abort(why(error))
            return
        if not data:
            self._end_of_input()
        elif not self._closing and self._owner is not None:
            self._owner.received(data)
            if len(self.unsent) > UNSENT_CAP:
                self._flush()  # or the cap is not looked at while the socket is not writable

    def _end_of_input(self) -> None:
        self._eof = True
        self._loop.interest(self.sock, read=False, write=bool(self.unsent))
        if not self._closing and self._owner is not None:
            self._owner.finished()
        if self._closing and not self.unsent:
            self.abort(self.reason)

    def _flush(self) -> None:
        if self._owner is None:
            return
        try:
            while self.unsent:
                del self.unsent[: self.sock.send(self.unsent)]
        except BlockingIOError:
            if len(self.unsent) > UNSENT_CAP:
                self.abort("unread_replies")
                return
        except OSError as error:
            self.abort(why(error))
            return
        self._loop.interest(self.sock, read=not self._eof, write=bool(self.unsent))
        if self._closing and not self.unsent:
            self._shut_down()

    def _shut_down(self) -> None:
        if self._eof:
            self.abort(self.reason)
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.abort(why(error))


def why(error: OSError) -> str:
    """Return the log's name for the error that ended a connection."""
    match error.errno:
        case errno.ECONNRESET | errno.EPIPE:
            return "reset"
        case errno.ETIMEDOUT | errno.EHOSTUNREACH | errno.ENETUNREACH:
            return "vanished"
        case _:
            return error.strerror or type(error).__name__
