"""File descriptors: how many there may be, and taking over those of a previous program."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import Annotated, NewType

from relaylib.errors import SetupError

try:
    import resource
except ImportError:  # not a Unix system
    resource = None  # type: ignore[assignment]

Descriptor = NewType("Descriptor", Annotated[int, range(1 << 31).__contains__])
"""A file descriptor's number, told apart from other numbers: it has to survive a reload."""

NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}
"""Errors of a call when the process, or the machine, has no descriptor left."""


@contextlib.contextmanager
def enough_descriptors() -> Iterator[None]:
    """Turn a lack of descriptors while a program starts into one line on stderr.

    Raises:
        SetupError: no descriptor was left.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_DESCRIPTOR:
            raise
        reason = f"{error.strerror}: raise the limit (ulimit -n); each viewer takes two"
        raise SetupError(reason) from None


def adopt(fd: Descriptor) -> socket.socket:
    """Make a non-blocking socket object of an inherited descriptor."""
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def descriptor(sock: socket.socket) -> Descriptor:
    return Descriptor(sock.fileno())


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open descriptors to the hard one; each viewer takes two."""
    if resource is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int | None:
    """Return how many descriptors a process may have open; None: there is no limit."""
    if resource is None:
        return None
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard == resource.RLIM_INFINITY else hard


def occupy_standard_descriptors() -> None:
    """Open stdin, stdout and stderr on the null device where the parent has closed them.

    Otherwise the first socket would get the number 2, and the log would be sent to a viewer.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
