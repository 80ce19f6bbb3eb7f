"""Just enough of systemd's service protocol: sd_notify(3), sd_listen_fds(3). Without systemd: none.

Written out because it is twenty lines, and the libraries for it are either bindings that need a C
compiler or have not been touched for years.
"""

import os
import socket

_FIRST_FD = 3
"""SD_LISTEN_FDS_START: inherited sockets are numbered from here."""


def notify(state: str) -> None:
    """Tell the service manager, if there is one, e.g. "READY=1"; errors are its problem."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(state.encode(), address)
    except OSError:
        pass


def watchdog_period() -> float | None:
    """Return how often to send "WATCHDOG=1", in seconds: half of what the manager allows."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or not _mine("WATCHDOG_PID"):
        return None
    return int(usec) / 2e6


def take_listen_sockets() -> dict[socket.SocketKind, socket.socket]:
    """Return the sockets the manager opened for us, by kind; of each kind the first.

    The variables are removed, so that neither a child nor a restarted relay takes them again.
    """
    mine = _mine("LISTEN_PID")
    count = os.environ.get("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    sockets: dict[socket.SocketKind, socket.socket] = {}
    if mine and count.isdecimal():
        for fd in range(_FIRST_FD, _FIRST_FD + int(count)):
            os.set_inheritable(fd, False)
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
            sockets.setdefault(socket.SocketKind(sock.type), sock)
    return sockets


def _mine(name: str) -> bool:
    return os.environ.get(name, str(os.getpid())) == str(os.getpid())
