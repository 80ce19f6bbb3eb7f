"""One HTTP connection: h11 and a non-blocking socket, requests in, responses out, in order.

h11 reads heads, and knows when a connection may be used again: 0.05 ms a request. Writing our
responses with it, which cannot be wrong, took twice that. So each request is read by an h11 of its
own, and the response does not pass through it. A live stream has neither a length nor chunks and
ends with its connection: every player takes that, and a proxy passes it on. A stream with a length
is written as fast as its reader takes it, some of it in each turn, and another request may follow.
Between reading, answering and writing the ingest is read, if it is time to.

One request is answered at a time, and nothing is read while a response is under way: so a peer can
make the relay keep one head and one response, and no more. A peer that does nothing has a deadline,
and so has one that takes too long (slowloris). The end has an order, as in `net/connection`, or the
last response might be lost.
"""

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import h11

from relaylib.errors import HttpError
from relaylib.net.address import Address
from relaylib.net.connection import LINGER, tune, why
from relaylib.net.descriptors import descriptor
from relaylib.net.loop import Loop
from relaylib.web import reply
from relaylib.web.reply import NotYetError, Response, StreamBody, StreamEndError
from relaylib.web.request import HttpRequest, announces_body
from relaylib.web.state import ConnectionState

HEAD_CAP = 8 * 1024
"""Bytes of a head that may come without its end, and `READ_SIZE` with it: browsers send 1 KiB."""

TARGET_CAP = 4 * 1024
"""Bytes of a head without the end of its first line above which the target is too long."""

READ_SIZE = 4 * 1024
"""Bytes read in a turn."""

WRITE_SIZE = 128 * 1024
"""Bytes of a response's body written in a turn: 0.05 ms, in which the stream waits."""

SEND_BUFFER = 256 * 1024
"""Bytes asked of the kernel (it doubles them): several writes at the rate of a stream, so that one
slow moment of a viewer is no reason to wait; 0.2 s of 20 Mb/s on the way."""

HEAD_TIME = 10.0
"""Seconds that a request's head may take."""

IDLE_TIME = 30.0
"""Seconds that a connection may wait for the next request."""

PATIENCE = 10.0
"""Seconds for which a peer may take nothing of what waits for it."""

STUCK = 1.5
"""Seconds after which such a peer counts as paused: more than lies between two writes."""

STALLED = "stalled"

AGAIN = 0.05
"""Seconds until a request is tried again if its answer was not known yet."""

Answer = Callable[[HttpRequest, float], Response]
"""Makes the response to a request, now."""


class HttpConnectionOwner(Protocol):
    """The owner of connections; `byte_count` counts the bytes of streams with an end."""

    byte_count: int

    def must_rest(self, connection: "HttpConnection") -> float:
        """Return the seconds its next request has to wait because its address has used its share.

        Raises:
            HttpError: it has waited for too long.
        """

    def charge(self, connection: "HttpConnection", seconds: float) -> None:
        """Note how much work was done for it."""

    def answer(
        self, connection: "HttpConnection", event: h11.Request, respond: Answer | None = None
    ) -> tuple[HttpRequest, Response]:
        """Answer a request, at a further attempt with `respond`.

        Raises:
            HttpError: the answer is an error.
            NotYetError: the answer is not known yet; see there.
        """

    def complete(
        self, response: Response, request: HttpRequest | None
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return status, headers, and body, as `reply.complete` does; count the response."""

    def is_waiting(self, connection: "HttpConnection", *, waiting: bool) -> None:
        """Note whether it waits for a request, or has one under way."""

    def carries_stream(self, connection: "HttpConnection", *, begin: bool) -> None:
        """Have the pace write its stream from now on; `begin` it at once."""

    def gone(self, connection: "HttpConnection", reason: str) -> None:
        """Note that the connection is over."""


class HttpConnection:
    """An accepted connection.

    `deadline` is when its time is over, in seconds of the loop's clock; `stream` is the stream that
    it carries from `path` to `client`, and `byte_count` how much of it was written. It began at
    `since`.
    """

    __slots__ = (
        "_body", "_closing", "_eof", "_h11", "_left", "_loop", "_pending", "_resting", "_server",
        "_taken_at", "_unsent", "byte_count", "client", "deadline", "path", "peer", "since", "sock",
        "stream",
    )  # fmt: skip

    def __init__(
        self, loop: Loop, server: HttpConnectionOwner, sock: socket.socket, peer: Address
    ) -> None:
        """Take an accepted socket.

        Raises:
            OSError: the system cannot watch it.
        """
        self.sock = sock
        self.peer = peer
        self.client = peer[0]
        self.path = ""
        self.stream: StreamBody | None = None
        self.byte_count = 0
        self.since = self._taken_at = loop.now
        self.deadline = loop.now + HEAD_TIME
        self._loop = loop
        self._server: HttpConnectionOwner | None = server
        self._h11 = _reader()
        self._unsent: list[memoryview] = []
        self._body: StreamBody | None = None  # has an end; bytes left of it
        self._left = 0
        self._closing = self._eof = False
        self._pending = False  # a request will be tried again
        self._resting = False  # the bytes received will be read again
        tune(sock, SEND_BUFFER)
        loop.watch(sock, self._readable, writable=self._flush, broken=self._broken)

    # --- reading

    def _readable(self) -> None:
        try:
            data = self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self.abort(why(error))
            return
        if not data:
            self._end_of_input()
        elif self.stream is not None:  # behind a stream nothing is answered: what comes waits
            self._loop.interest(self.sock, read=False)
        elif not self._closing:
            self._h11.receive_data(data)
            self._advance()

    def _end_of_input(self) -> None:
        """The peer sends no more; its requests are answered, but a stream to it ends."""
        self._eof = True
        if self._closing or self.stream is not None:
            self.abort("disconnected")
            return
        self._loop.interest(self.sock, read=False)
        self._h11.receive_data(b"")
        self._advance()

    def _advance(self) -> None:
        """Answer the next request, if all of it is there."""
        server = self._server
        if server is None or self._closing or self._owes or self.stream is not None:
            return
        if self._pending or self._resting:
            return
        try:
            rest = server.must_rest(self)
        except HttpError as wrong:
            self._respond(reply.error(wrong), None)
            return
        if rest:
            self._rest(rest)
            return
        began = self._loop.worked()
        self._read_request()
        server.charge(self, self._loop.worked() - began)

    def _rest(self, seconds: float) -> None:
        """Read no more for a while; the request waits, and so does its peer."""
        self._resting = True
        self.deadline = self._loop.time() + PATIENCE
        self._loop.interest(self.sock, read=False)
        self._loop.call_later(max(AGAIN, seconds), self._rested)

    def _rested(self) -> None:
        self._resting = False
        if self._server is not None:
            self._loop.interest(self.sock, read=not self._eof)
            self._advance()

    def _read_request(self) -> None:
        try:
            event = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            error.__traceback__ = None  # h11 raises it from a frame that keeps it: a cycle
            self._refuse(error.error_status_hint)
            return
        self._loop.read_priority()
        if isinstance(event, h11.Request):
            self._answer(event)
        elif isinstance(event, h11.ConnectionClosed):
            self.abort("disconnected")

    def _refuse(self, status: int) -> None:
        """Answer bytes that are no request with the reason."""
        if self._eof:
            self.abort("disconnected")
        elif status == 431 and b"\n" not in self._h11.trailing_data[0][:TARGET_CAP]:
            text = f"la direccion pasa de {TARGET_CAP} bytes"
            self._respond(reply.error(HttpError(414, text)), None)
        elif status == 431:
            text = f"las cabeceras pasan de {HEAD_CAP} bytes"
            self._respond(reply.error(HttpError(431, text)), None)
        else:  # h11 has 501 for an unknown coding, and the relay takes none
            self._respond(reply.error(HttpError(400, "eso no es HTTP/1.1")), None)

    def _answer(self, event: h11.Request, respond: Answer | None = None) -> None:
        if self._server is None:  # it was closed meanwhile
            return
        self._server.is_waiting(self, waiting=False)
        self._pending, request = False, None
        try:
            request, response = self._server.answer(self, event, respond)
        except NotYetError as wrong:
            self._wait(partial(self._try_again, event, wrong.again))
            return
        except HttpError as wrong:
            response = reply.error(wrong)
        self._loop.read_priority()
        is_head, has_body = event.method == b"HEAD", announces_body(event.headers)
        self._respond(response, request, is_head=is_head, has_body=has_body)

    def _try_again(self, event: h11.Request, respond: Answer) -> None:
        server, began = self._server, self._loop.worked()
        self._answer(event, respond)
        if server is not None:
            server.charge(self, self._loop.worked() - began)

    def _wait(self, again: Callable[[], None]) -> None:
        self._pending = True
        self.deadline = self._loop.time() + PATIENCE
        self._loop.interest(self.sock, read=False)
        self._loop.call_later(AGAIN, again)

    # --- writing

    def _respond(
        self,
        response: Response,
        request: HttpRequest | None,
        *,
        is_head: bool = False,
        has_body: bool = False,
    ) -> None:
        assert self._server is not None
        status, headers, body = self._server.complete(response, request)
        self._taken_at = self._loop.time()
        self.deadline = self._taken_at + PATIENCE
        if request is not None:
            self.client, self.path = request.client, request.path
        if isinstance(response.body, bytes) or response.length is not None:
            if not isinstance(response.body, bytes) and not is_head and status != 304:
                self._body, self._left = response.body, response.length or 0
            self._respond_whole(status, headers, b"" if is_head else body, has_body=has_body)
            return
        head = reply.head(status, headers)
        if is_head:
            self.close(head)
            return
        self._unsent = [memoryview(head)]
        self._carry(response.body, begin=True)

    def _respond_whole(
        self, status: int, headers: list[tuple[str, str]], body: bytes, *, has_body: bool
    ) -> None:
        """Write the head and the body, if there is one. Another request may follow if h11 has read
        this one to its end without an error.
        """
        if not has_body and self._h11.their_state is h11.SEND_BODY:
            self._h11.next_event()  # the end of the request
        self._closing = self._h11.their_state is not h11.DONE
        head = reply.head(status, headers, closes=self._closing)
        self._unsent = [memoryview(head + body)]
        self._loop.read_priority()
        self._flush()

    def _flush(self) -> None:
        """Write the rest of a response, some of it in each turn."""
        if self._server is None:
            return
        try:
            self._write_some()
        except BlockingIOError:
            pass
        except (OSError, StreamEndError) as error:
            self._fail(error)
            return
        if self._owes:
            self.deadline = self._taken_at + PATIENCE
            self._loop.interest(self.sock, read=False, write=True)
        elif self._closing:
            self._shut_down()
        elif self.stream is None:
            self._next()

    def _write_some(self) -> None:
        room = WRITE_SIZE
        while self._unsent and room > 0:
            sent = self.sock.send(self._unsent[0][:room])
            room -= sent
            self._unsent[0] = self._unsent[0][sent:]
            if not self._unsent[0]:
                del self._unsent[0]
            self._taken_at = self._loop.time()
        if self._body is not None and room > 0:
            self._write_body(self._body, room)

    def _write_body(self, body: StreamBody, room: int) -> None:
        """Write the next part of a stream with an end."""
        pieces = body.look(self._loop.time(), min(room, self._left))
        if not pieces and self._left:
            raise StreamEndError("incomplete")
        sent = self.sock.sendmsg(pieces)
        body.taken(sent)
        self._taken_at = self._loop.time()
        self._left -= sent
        if self._server is not None:
            self._server.byte_count += sent
        if not self._left:
            self._body = None

    @property
    def _owes(self) -> bool:
        """Whether some of a response is still to be written."""
        return bool(self._unsent) or self._body is not None

    def _next(self) -> None:
        """The response is on its way: answer the next request if it is there, or wait for it."""
        assert self._server is not None
        read = self._h11.trailing_data[0]
        if self._h11.their_state is h11.DONE:  # else the previous program responded
            self._h11 = _reader(read)
            if self._eof:
                self._h11.receive_data(b"")
        self.deadline = self._loop.time() + IDLE_TIME
        self._server.is_waiting(self, waiting=True)
        self._loop.interest(self.sock, read=not self._eof)
        if self._eof or read:
            self._loop.call_soon(self._advance)

    # --- streams

    def _carry(self, stream: StreamBody, *, begin: bool) -> None:
        assert self._server is not None
        self.stream = stream
        self.since = self._taken_at = self._loop.time()
        self.deadline = float("inf")  # the pace watches it
        self._loop.interest(self.sock, read=not self._eof)
        self._server.carries_stream(self, begin=begin)

    def is_stuck(self, now: float) -> bool:
        """Tell whether the peer takes nothing of its stream: its player is paused, or gone."""
        return now - self._taken_at > STUCK

    def write_on(self, until: float, most: int) -> None:
        """Write the next part of the stream."""
        stream = self.stream
        if stream is None or self._server is None:
            return
        try:
            pieces: Sequence[reply.Piece] = self._unsent or stream.look(until, most)
            if not pieces:
                self._taken_at = until
                return
            sent = self.sock.send(pieces[0]) if len(pieces) == 1 else self.sock.sendmsg(pieces)
        except BlockingIOError:
            if until - self._taken_at > PATIENCE:
                self.abort(STALLED)
            return
        except (OSError, StreamEndError) as error:
            self._fail(error)
            return
        self._taken_at = until
        if self._unsent:
            self._unsent = [rest] if (rest := self._unsent[0][sent:]) else []
            if not self._unsent:
                self.write_on(until, most)
            return
        self.byte_count += sent
        stream.taken(sent)

    # --- the end

    def _fail(self, error: OSError | StreamEndError) -> None:
        """End, because nothing can be written any more, or the stream has ended."""
        self.abort(why(error) if isinstance(error, OSError) else str(error))

    def _shut_down(self) -> None:
        """Tell the peer that no more comes, and read on until it says so, too."""
        if self._eof:
            self.abort("done")
            return
        self.deadline = self._loop.time() + LINGER
        try:
            self.sock.shutdown(socket.SHUT_WR)
            self._loop.interest(self.sock)
        except OSError as error:
            self.abort(why(error))

    def close(self, data: bytes = b"") -> None:
        """Write the data, then end in order."""
        self._closing = True
        self._body = None
        self._unsent = [memoryview(data)] if data else []
        self._flush()

    def decline(self, wrong: HttpError) -> None:
        """Answer any request with this error, and end."""
        self._respond(reply.error(wrong), None)

    def overdue(self) -> None:
        """The deadline has passed."""
        if self._closing or self._owes or not self._h11.trailing_data[0]:
            self.abort(STALLED if self._owes else "idle")
        else:
            text = f"la peticion tarda mas de {HEAD_TIME:g} s"
            self._respond(reply.error(HttpError(408, text)), None)

    def abort(self, reason: str) -> None:
        """End at once."""
        server, self._server = self._server, None
        if server is None:
            return
        self._unsent.clear()
        self._body = None
        self._loop.discard(self.sock)
        server.gone(self, reason)

    def _broken(self, _error: Exception) -> None:
        self.abort("bug")

    # --- reloading

    def export(self) -> ConnectionState | None:
        """Return what the next program needs to go on; None: it cannot."""
        carried = self.stream or self._body
        saved = None if carried is None else carried.export()
        if self._server is None or self._pending or (carried is not None and saved is None):
            return None
        return ConnectionState(
            descriptor(self.sock),
            self.peer,
            b"" if self.stream else self._h11.trailing_data[0],
            b"".join(self._unsent),
            self._closing,
            self.client,
            self.path if carried else "",
            saved,
            self.byte_count,
            self._left if self._body else None,
        )

    def restore(self, saved: ConnectionState, stream: StreamBody | None) -> None:
        """Go on where the previous program stopped."""
        self.client, self.path, self.byte_count = saved.client, saved.resource, saved.octets
        self._unsent = [memoryview(saved.unsent)] if saved.unsent else []
        if stream is not None and saved.left is None:
            self._carry(stream, begin=False)
            return
        self._body, self._left = stream, saved.left or 0
        if saved.received:
            self._h11.receive_data(saved.received)
        self._closing = saved.closing
        if self._closing or self._owes:
            self._loop.call_soon(self._flush)
        else:
            self._loop.call_soon(self._advance)


def _reader(data: bytes = b"") -> h11.Connection:
    """Make a reader of one request, of which the first bytes may be there."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_CAP)
    if data:
        reader.receive_data(data)
    return reader
