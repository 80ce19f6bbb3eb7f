"""Just enough of systemd's service protocol: sd_notify(3), sd_listen_fds(3). Without systemd: none.

Written out because it is forty lines, and the libraries for it are either bindings that need a C
compiler or have not been touched for years.
"""

import contextlib
import functools
import os
import socket

from relaylib.errors import SetupError
from relaylib.net.loop import Loop

_FIRST_FD = 3
"""SD_LISTEN_FDS_START: inherited sockets are numbered from here."""

_INFINITY = (1 << 64) - 1
"""USEC_INFINITY: what systemd writes for a time without an end."""

_SHORTEST_PERIOD, _LONGEST_PERIOD = 0.01, 3600.0
"""Seconds between two beats: a hundred a second cost nothing yet, and a timer has an end."""


def notify(state: str) -> None:
    """Tell the service manager, if there is one, e.g. "READY=1"; errors are ignored."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError):
        _notifier().sendto(state.encode(), address)


@functools.cache
def _notifier() -> socket.socket:
    """Return the socket to notify from, opened once: a beat may be due with no descriptor left."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock


def watchdog_period() -> float | None:
    """Return how often to send "WATCHDOG=1", in seconds: half of what the manager allows.

    No more often than `_SHORTEST_PERIOD`, and once in `_LONGEST_PERIOD` at least.
    """
    mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    allowed = _number("WATCHDOG_USEC") if mine else 0
    if allowed in (0, _INFINITY):
        return None
    return min(max(_SHORTEST_PERIOD, allowed / 2e6), _LONGEST_PERIOD)


def start_watchdog(loop: Loop) -> None:
    """Let the manager know, from within the loop, that the loop still turns, if it wants to."""
    if (period := watchdog_period()) is not None:
        loop.call_every(period, lambda: notify("WATCHDOG=1"))


def take_listen_sockets() -> dict[socket.SocketKind, socket.socket]:
    """Return the sockets that the manager opened for us: at most one TCP and one UDP socket.

    The variables are removed, so that neither a child nor a reloaded relay takes them again.

    Raises:
        SetupError: there are others among them.
    """
    count = _number("LISTEN_FDS") if _number("LISTEN_PID") == os.getpid() else 0
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    sockets: dict[socket.SocketKind, socket.socket] = {}
    for fd in range(_FIRST_FD, _FIRST_FD + count):
        sock = _given(fd)
        if sock.type in sockets:
            kind = "TCP" if sock.type == socket.SOCK_STREAM else "UDP"
            raise SetupError(f"more than one {kind} socket from the service manager: name one")
        sockets[socket.SocketKind(sock.type)] = sock
    return sockets


def _given(fd: int) -> socket.socket:
    """Make a non-blocking socket object of a descriptor from the manager."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise SetupError(f"no socket from the service manager: {error.strerror}") from None
    if not _serves(sock):
        raise SetupError("not a listening TCP socket nor a bound UDP one from the service manager")
    os.set_inheritable(fd, False)
    sock.setblocking(False)
    return sock


def _serves(sock: socket.socket) -> bool:
    """Tell whether it is a TCP socket that listens, or a UDP socket that has a port."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    if sock.type == socket.SOCK_STREAM:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    return sock.type == socket.SOCK_DGRAM and bool(sock.getsockname()[1])


def _number(name: str) -> int:
    """Return a number of 64 bits from the environment; 0 if it is not there, or none."""
    text = os.environ.get(name, "")
    value = int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else 0
    return value if value <= _INFINITY else 0
