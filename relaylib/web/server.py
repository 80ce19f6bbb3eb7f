"""The web's front: accepts connections, knows them all, and finds the resource for a request.

A client that is turned away gets a response, as in `viewers/server`: some linger so that it
arrives. When all places are taken, the connection that has waited for longest without a request
under way gives its place up. An idle browser connects again unnoticed, and a client cannot keep
places just by holding connections.
"""

import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import cast

import h11
import structlog

from relaylib.config import Config
from relaylib.errors import DeclinedError, HttpError
from relaylib.net.acceptor import Acceptor, error_name
from relaylib.net.access import Access
from relaylib.net.address import Address, show, unmapped
from relaylib.net.descriptors import adopt, descriptor
from relaylib.net.lookup import is_own
from relaylib.net.loop import Loop
from relaylib.net.peer_log import PeerLog
from relaylib.outputs.viewer_row import HTTP, PAUSED, STREAMING, ViewerRow
from relaylib.web import reply
from relaylib.web.budget import Budget, Places
from relaylib.web.connection import Answer, HttpConnection
from relaylib.web.pace import Pace
from relaylib.web.reply import (
    MediaStream,
    NotYetError,
    Resource,
    Response,
    StreamBody,
    StreamResource,
)
from relaylib.web.request import (
    HttpRequest,
    Names,
    client_of,
    read_headers,
    read_method,
    read_target,
)
from relaylib.web.shared import Shared
from relaylib.web.state import ConnectionState, WebState

LEAVING = 64
"""Connections that were turned away and may linger, each holding a descriptor."""

NO_ROOM = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
"""The answer to a connection that the system has no room for."""

SWEEP = 1.0
"""Seconds between two looks at the deadlines."""

HANDED_OVER = 4 << 20
"""Bytes of responses under way that a reload hands over in all: more would take its time."""

PENDING = 64
"""Requests that may wait for an answer that is not known yet, each a timer."""

PENDING_TIME = 2.0
"""Seconds that such a request may wait: as long as `Retry-After` tells a client to stay away."""

log = structlog.get_logger()


class HttpServer:
    """Serves the resources; `table` has them by path, or by its first part: "/hls/*".

    Since the start, `accepted` counts connections, `declined` what was declined, by kind, and
    `requests` responses, by status. `byte_count` and `skipped` count what ended streams were
    written, segments of HLS included, and how often they left something out; `streams` are the
    present ones, which count for themselves. `admit` raises DeclinedError if there is no room for
    another viewer.
    """

    def __init__(
        self,
        loop: Loop,
        config: Config,
        byte_count: Callable[[], int],
        table: Mapping[str, Resource],
        *,
        admit: Callable[[], None] = lambda: None,
        budget: Budget | None = None,
    ) -> None:
        self.asked = config.http
        self.connections: dict[HttpConnection, None] = {}
        self.streams: dict[HttpConnection, None] = {}
        self.accepted = 0
        self.declined: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.byte_count = self.skipped = 0
        self._admit_stream = admit
        self._loop = loop
        self._acceptor: Acceptor | None = None
        self._config = config
        self._table = table
        self._names = Names(socket.gethostname(), config.http_host)
        self._access = Access(config.http_limits())
        self._behind_proxies: Counter[str] = Counter()
        self._waiting: dict[HttpConnection, None] = {}
        self._pending = dict[HttpConnection, tuple[float, str]]()  # deadline and client
        self._budget = budget or Budget(config.trusted_proxy)
        self._pending_places = Places(PENDING, self._budget.is_exempt)
        self._resting = dict[HttpConnection, float]()  # since when each has had to wait
        self._leaving: set[HttpConnection] = set()
        self._pace = Pace(loop, config.http_coalesce, byte_count)
        self._events = PeerLog(loop)
        loop.call_every(SWEEP, self._sweep)

    @property
    def listener(self) -> socket.socket | None:
        """The listener, while connections may come in."""
        return None if self._acceptor is None else self._acceptor.listener

    # --- accepting

    def listen(self, listener: socket.socket, saved: WebState | None = None) -> None:
        """Accept connections there, and go on with those of the previous program."""
        if saved is not None:
            self._restore_all(saved)
        self._acceptor = Acceptor(self._loop, listener, self._admit, self._no_room)
        host, port = listener.getsockname()[:2]
        log.info("http_listening", host=host, port=port)

    def _admit(self, sock: socket.socket, peer: Address) -> None:
        address = unmapped(peer)
        try:
            connection = HttpConnection(self._loop, self, sock, address)
        except OSError as error:  # the system watches no more sockets (ENOSPC, epoll_ctl(2))
            self._no_room(sock, peer, error_name(error))
            return
        try:
            own = partial(is_own, address)
            self._access.admit(address[0], self._loop.now, own, self._make_room)
        except DeclinedError as error:
            self._decline(connection, error)
            return
        self._add(connection)
        self.accepted += 1

    def _add(self, connection: HttpConnection) -> None:
        self._access.arrived(connection.peer[0])
        self.connections[connection] = self._waiting[connection] = None

    def _make_room(self) -> bool:
        for connection in self._waiting:
            connection.abort("gave_way")
            return True
        return False

    def _decline(self, connection: HttpConnection, error: DeclinedError) -> None:
        self._note_declined(connection.peer, error.kind)
        self._leaving.add(connection)
        connection.decline(HttpError(403 if error.kind == "not_allowed" else 503, str(error)))
        if len(self._leaving) > LEAVING:
            connection.abort("declined")

    def _no_room(self, sock: socket.socket, peer: Address, reason: str = "descriptors") -> None:
        with sock, contextlib.suppress(OSError):
            sock.send(NO_ROOM)
        self._note_declined(unmapped(peer), reason)

    def _note_declined(self, client: Address, kind: str, **detail: str) -> None:
        self.declined[kind] += 1
        self._events.log(
            log.warning, "http_declined", client[0], client=show(client), reason=kind, **detail
        )

    # --- answering

    def must_rest(self, connection: HttpConnection) -> float:
        """Return the seconds that it must wait; see `HttpConnectionOwner`."""
        address, now = connection.peer[0], self._loop.time()
        wait = self._budget.wait(address, now)
        if not wait:
            self._resting.pop(connection, None)
            return 0.0
        left = self._resting.setdefault(connection, now) + PENDING_TIME - now
        if left > 0:
            return min(wait, left)
        del self._resting[connection]
        raise self._too_much(connection.peer)

    def _too_much(self, client: Address) -> HttpError:
        self._note_declined(client, "work")
        return HttpError(429, f"demasiado trabajo para {client[0]}: espere un poco")

    def charge(self, connection: HttpConnection, seconds: float) -> None:
        """Charge the work to the client's address; see `HttpConnectionOwner`."""
        self._budget.spend(connection.client, seconds, self._loop.time())

    def answer(
        self, connection: HttpConnection, event: h11.Request, respond: Answer | None = None
    ) -> tuple[HttpRequest, Response]:
        """Find the resource and have it answer; see `HttpConnectionOwner`."""
        read_method(event.method)
        headers = read_headers(list(event.headers))
        path, query = read_target(event.target)
        try:
            self._names.check(headers.get("host"))
        except HttpError as wrong:
            self._note_declined(connection.peer, wrong.kind, detail=wrong.detail)
            raise
        forwarded = headers.get("x-forwarded-for")
        client = client_of(connection.peer[0], forwarded, self._config.trusted_proxy)
        connection.client = client
        request = HttpRequest(path, query, headers, client)
        resource = self._resource(path)
        self._check_work(connection, client, resource)
        response = self._ask(connection, request, respond or resource.respond)
        is_live = not isinstance(response.body, bytes) and response.length is None
        if is_live and event.method == b"GET":
            self._check_proxied(connection, client)
            if response.is_media:
                self._check_egress(connection, client)
        return request, response

    def _ask(self, connection: HttpConnection, request: HttpRequest, respond: Answer) -> Response:
        """Have a request answered; one that has waited for too long gets an error."""
        now, client = self._loop.time(), request.client
        until = self._forget_pending(connection) or now + PENDING_TIME
        try:
            return respond(request, now)
        except NotYetError as wrong:
            if now >= until or not self._pending_places.may_take(client):
                raise HttpError(wrong.status, str(wrong)) from None
            self._pending[connection] = until, client
            self._pending_places.take(client)
            raise

    def _forget_pending(self, connection: HttpConnection) -> float | None:
        """Return the deadline of its waiting request, if it had one."""
        until, client = self._pending.pop(connection, (None, ""))
        if until is not None:
            self._pending_places.leave(client)
        return until

    def _resource(self, path: str) -> Resource:
        asked, found = path, self._table.get(path)
        while found is None and path:
            path = path.rpartition("/")[0]
            found = self._table.get(f"{path}/*")
        if found is None:
            raise HttpError(404, f"aqui no hay '{asked[:80]}': la pagina esta en /")
        return found

    def _check_work(self, connection: HttpConnection, client: str, resource: Resource) -> None:
        """Hold a client behind a proxy to its share of work, without delay for the proxy's others.

        Answers that a cache may keep are not held back: they are for all of them.
        """
        if client == connection.peer[0] or isinstance(resource, Shared):
            return
        if self._budget.wait(client, self._loop.time()):
            raise self._too_much((client, 0))

    def _check_proxied(self, connection: HttpConnection, client: str) -> None:
        """Hold the limit per address for streams that a proxy passes on."""
        if client == connection.peer[0]:
            return
        if self._behind_proxies[client] >= self._config.max_http_clients_per_ip:
            self._note_declined((client, 0), "per_ip")
            raise HttpError(503, f"demasiadas conexiones desde {client}: cierre otras")

    def _check_egress(self, connection: HttpConnection, client: str) -> None:
        """Make sure that the way out has room for one more stream."""
        try:
            self._admit_stream()
        except DeclinedError as error:
            peer = connection.peer if client == connection.peer[0] else (client, 0)
            self._note_declined(peer, error.kind, detail=error.detail)
            raise HttpError(503, str(error)) from None

    def complete(
        self, response: Response, request: HttpRequest | None
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Add the headers of all responses, and count this one."""
        wall_time, cors = self._loop.wall_time(), self._config.cors
        status, headers, body = reply.complete(response, request, wall_time, cors)
        self.requests[str(status)] += 1
        return status, headers, body

    # --- connections

    def is_waiting(self, connection: HttpConnection, *, waiting: bool) -> None:
        """Note which connections may give way."""
        if not waiting:
            self._waiting.pop(connection, None)
        elif connection in self.connections:
            self._waiting[connection] = None

    def carries_stream(self, connection: HttpConnection, *, begin: bool) -> None:
        """Write its stream."""
        self._waiting.pop(connection, None)
        self.streams[connection] = None
        if connection.client != connection.peer[0]:
            self._behind_proxies[connection.client] += 1
        self._pace.add(connection)
        if begin:
            connection.write_on(self._loop.time(), self._pace.most)

    def gone(self, connection: HttpConnection, reason: str) -> None:
        """Forget the connection."""
        self._leaving.discard(connection)
        self._waiting.pop(connection, None)
        self._forget_pending(connection)
        self._resting.pop(connection, None)
        if connection in self.connections:
            del self.connections[connection]
            self._access.left(connection.peer[0])
        if connection in self.streams:
            self._stream_gone(connection, reason)

    def _stream_gone(self, connection: HttpConnection, reason: str) -> None:
        del self.streams[connection]
        self._pace.remove(connection)
        assert connection.stream is not None
        skipped = connection.stream.skipped
        self.byte_count += connection.byte_count
        self.skipped += skipped
        client = connection.client
        if client != connection.peer[0]:
            self._behind_proxies[client] -= 1
            self._behind_proxies += Counter()  # without those that are 0
        self._events.log(
            log.info,
            "http_client_gone",
            client,
            client=show(connection.peer) if client == connection.peer[0] else client,
            path=connection.path,
            reason=reason,
            octets=connection.byte_count,
            skipped=skipped,
        )

    def _sweep(self) -> None:
        now = self._loop.now
        for connection in [*self.connections, *self._leaving]:
            if connection.deadline < now:
                connection.overdue()
                self._loop.read_priority()

    def viewer_rows(self) -> Iterator[ViewerRow]:
        """Tell how the viewers fare that are sent the stream."""
        now = self._loop.time()
        for each in self.streams:
            if not hasattr(each.stream, "delay"):  # not isinstance: that takes ten times as long
                continue
            stream = cast(MediaStream, each.stream)
            proxied = each.client != each.peer[0]
            client = (each.client, 0) if proxied else each.peer
            state = PAUSED if each.is_stuck(now) else STREAMING
            delay = stream.delay(now)
            sent, lost = each.byte_count, stream.skipped
            yield ViewerRow(each, HTTP, state, client, each.path, delay, sent, lost, each.since)

    @property
    def watching(self) -> int:
        """The number of viewers that are sent the stream."""
        return sum(hasattr(each.stream, "delay") for each in self.streams)

    @property
    def bytes_in_all(self) -> int:
        """Bytes that streams were written, segments included, in the past and now."""
        return self.byte_count + sum(each.byte_count for each in self.streams)

    @property
    def skipped_in_all(self) -> int:
        """How often streams had to leave something out, in the past and now."""
        return self.skipped + sum(each.stream.skipped for each in self.streams if each.stream)

    def close(self) -> None:
        """Accept no more connections; the open ones end with the program."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None

    # --- reloading

    def export(self) -> WebState | None:
        """Return what the next program needs to go on; see `WebState`."""
        listener = self.listener
        if listener is None or self.asked is None:
            return None
        room, connections = HANDED_OVER, []
        for connection in self.connections:
            saved = connection.export()
            if saved is not None and len(saved.unsent) <= room:
                room -= len(saved.unsent)
                connections.append(saved)
        return WebState(
            descriptor(listener), self.asked, connections, self.accepted,
            dict(self.declined), dict(self.requests), self.byte_count, self.skipped,
        )  # fmt: skip

    def _restore_all(self, saved: WebState) -> None:
        self.asked = saved.asked
        self.accepted, self.byte_count, self.skipped = saved.accepted, saved.octets, saved.skipped
        self.declined.update(saved.declined)
        self.requests.update(saved.requests)
        for each in saved.connections:
            self._restore(each)

    def _restore(self, saved: ConnectionState) -> None:
        sock = adopt(saved.sock)
        try:
            self._access.check_allowed(saved.peer[0], partial(is_own, saved.peer))
            stream = self._restore_stream(saved)
            connection = HttpConnection(self._loop, self, sock, saved.peer)
        except (DeclinedError, ValueError, OSError):  # the configuration may have changed
            sock.close()
            return
        self._add(connection)
        connection.restore(saved, stream)

    def _restore_stream(self, saved: ConnectionState) -> StreamBody | None:
        if saved.stream is None:
            return None
        with contextlib.suppress(HttpError):
            resource = self._resource(saved.resource)
            if isinstance(resource, StreamResource):
                return resource.restore(saved.stream)
        raise ValueError("no such stream")
