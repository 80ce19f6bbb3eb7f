"""The way to the relay: connecting, and connecting again.

Without `--reconnect` there is one attempt, made before anything else (`connect`). With it every
attempt is made inside the loop (`Link.seek`), so that the person is heard meanwhile; only looking
up a name blocks, for a few seconds at worst.
"""

import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from relaylib.client.messages import say, text
from relaylib.errors import SetupError
from relaylib.net.address import show
from relaylib.net.connection import Connection, tune
from relaylib.net.loop import Loop, Timer, reraise

CONNECT_TIMEOUT = 5.0
"""Seconds for each address of the relay's name: one lost SYN is sent again after 1 s, then 3 s."""

STEADY = 5.0
"""Seconds after which a connection has been a good one."""

SHORTEST, LONGEST = 0.5, 15.0
"""Seconds between two attempts. A relay that restarts is back within the first; one that is down is
left in peace."""

_DEAD = text("that host does not answer: see that it is on, or correct HOST")
_REASONS = {
    errno.ECONNREFUSED: text("nothing listens there: start the relay, or correct PORT"),
    errno.EHOSTUNREACH: _DEAD,
    errno.ENETUNREACH: text("this machine has no way to that network"),
    errno.ETIMEDOUT: _DEAD,
}


class Unreachable(Exception):  # noqa: N818 -- a fact about the moment, as BlockingIOError
    """There is no relay at present; `str()` says why."""


def connect(host: str, port: int) -> socket.socket:
    """Connect to the first address of the relay's name that answers; waits for it.

    Raises:
        SetupError: none does, or the name has no address.
    """
    try:
        sock = socket.create_connection((host, port), CONNECT_TIMEOUT)
        sock.setblocking(False)
        tune(sock)
    except (socket.gaierror, UnicodeError):
        raise SetupError(_unknown(host)) from None
    except OSError as error:
        raise SetupError(no_connection(host, port, _why(error, host))) from None
    return sock


def no_connection(host: str, port: int, reason: str) -> str:
    return say("cannot connect to {relay}: {reason}", relay=show((host, port)), reason=reason)


def _unknown(host: str) -> str:
    return say("unknown host: {host}", host=host)


def _no_answer() -> str:
    return say("no answer in {seconds:g} s", seconds=CONNECT_TIMEOUT)


def _why(error: OSError, host: str) -> str:
    if isinstance(error, TimeoutError) and error.errno is None:
        return _no_answer()
    if _lacks_interface(host):
        ours = [name for _, name in socket.if_nameindex() if name != "lo"] or ["eth0"]
        example = f"{host}%{ours[0]}"
        return say(
            "a link-local address needs the interface that leads there: {example}", example=example
        )
    known = _REASONS.get(error.errno or 0)
    return say(known) if known else str(error.strerror)


def _lacks_interface(host: str) -> bool:
    """Tell whether an address means nothing without a zone (RFC 4007, section 6)."""
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return address.is_link_local and address.scope_id is None


class Backoff:
    """Waits that double. `dice` gives numbers from 0 to 1, so that the viewers of a relay that went
    down do not all come back in the same moment.
    """

    def __init__(self, dice: Callable[[], float]) -> None:
        self._dice = dice
        self._next = SHORTEST

    def wait(self) -> float:
        """Return the seconds until the next attempt: half of them are left to the dice."""
        longest, self._next = self._next, min(2 * self._next, LONGEST)
        return longest * (1 + self._dice()) / 2

    def reset(self) -> None:
        """Begin again with the shortest."""
        self._next = SHORTEST


class LinkOwner(Protocol):
    """Talks to the relay over a link."""

    def connected(self) -> None:
        """Note that there is a connection now."""

    def unreachable(self, reason: str) -> None:
        """Note that an attempt failed; the next will be made."""

    def hopeless(self, reason: str) -> None:
        """Note that no attempt will do: what was asked for is wrong."""

    def received(self, data: bytes) -> None:
        """Take bytes from the relay."""

    def finished(self) -> None:
        """Note that the relay will send no more."""

    def gone(self, reason: str) -> None:
        """Note that the connection broke."""


class Link:
    """One connection at a time. `next_at` is when the next attempt will be made, if one will."""

    def __init__(
        self, loop: Loop, host: str, port: int, owner: LinkOwner, backoff: Backoff
    ) -> None:
        self.next_at: float | None = None
        self.ipv6 = False
        self._loop = loop
        self._host = host
        self._port = port
        self._owner = owner
        self._backoff = backoff
        self._known = False  # the name has had an address
        self._addresses: Iterator[Any] = iter(())
        self._connection: Connection | None = None
        self._since: float | None = None  # when this connection began
        self._trying: socket.socket | None = None
        self._timer: Timer | None = None

    @property
    def up(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    @property
    def unsent(self) -> bool:
        return self._connection is not None and bool(self._connection.unsent)

    def write(self, data: bytes) -> None:
        """Send, if there is a connection."""
        if self._connection is not None:
            self._connection.write(data)

    def adopt(self, sock: socket.socket) -> None:
        """Use a socket that is connected."""
        self.ipv6, self._since, self._known = sock.family == socket.AF_INET6, self._loop.now, True
        self._connection = Connection(self._loop, sock, self)
        self._owner.connected()

    def seek(self) -> None:
        """Try the addresses of the relay's name, one after another."""
        self.next_at = None
        os.environ.setdefault("RES_OPTIONS", "timeout:2 attempts:1")  # resolv.conf(5); it blocks
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            temporary = getattr(error, "errno", None) == socket.EAI_AGAIN
            if self._known or temporary:
                self._fail(say("the name {host} cannot be looked up at present", host=self._host))
            else:
                self._owner.hopeless(_unknown(self._host))
            return
        self._known = True
        self._addresses = iter(found)
        self._try_next(say("it has no address"))

    def again(self) -> None:
        """Drop the connection, if there is one, and seek the relay after a while.

        The waits get longer until a connection has lasted: a relay that lets everyone in only to
        throw them out is left alone more and more, too.
        """
        self._drop()
        if self._since is not None and self._loop.now - self._since >= STEADY:
            self._backoff.reset()
        wait = self._backoff.wait()
        self._since, self.next_at = None, self._loop.now + wait
        self._timer = self._loop.call_later(wait, self.seek)

    def close(self) -> None:
        """Give up: no connection, and no attempt any more."""
        self._drop()
        self.next_at = None

    def _drop(self) -> None:
        self._stop_timer()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort("")
        self._forget_trying()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget_trying(self) -> None:
        sock, self._trying = self._trying, None
        if sock is not None:
            self._loop.discard(sock)

    # --- one attempt

    def _try_next(self, reason: str) -> None:
        """Try the next address; `reason` is why the one before did not do."""
        self._stop_timer()
        self._forget_trying()
        for family, kind, protocol, _, address in self._addresses:
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:
                reason = _why(error, self._host)
                continue
            sock.setblocking(False)
            try:
                sock.connect(address)
            except BlockingIOError:
                pass
            except OSError as error:
                sock.close()
                if _lacks_interface(self._host):
                    self._owner.hopeless(
                        no_connection(self._host, self._port, _why(error, self._host))
                    )
                    return
                reason = _why(error, self._host)
                continue
            self._trying = sock
            self._loop.watch(sock, self._answered, writable=self._answered, broken=reraise)
            self._loop.interest(sock, read=False, write=True)
            self._timer = self._loop.call_later(CONNECT_TIMEOUT, self._silent)
            return
        self._fail(reason)

    def _silent(self) -> None:
        self._try_next(_no_answer())

    def _answered(self) -> None:
        sock = self._trying
        if sock is None:
            return
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._try_next(_why(OSError(code, os.strerror(code)), self._host))
            return
        self._stop_timer()
        self._trying = None
        self._loop.unwatch(sock)
        tune(sock)
        self.adopt(sock)

    def _fail(self, reason: str) -> None:
        self._owner.unreachable(no_connection(self._host, self._port, reason))

    # --- the connection's owner

    def received(self, data: bytes) -> None:
        """Pass on what comes."""
        if self._connection is not None:
            self._owner.received(data)

    def finished(self) -> None:
        """Pass on that no more comes."""
        if self._connection is not None:
            self._owner.finished()

    def gone(self, reason: str) -> None:
        """Pass on how the connection broke, unless it was dropped here."""
        if self._connection is not None:
            self._connection = None
            self._owner.gone(reason)
