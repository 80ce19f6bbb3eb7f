"""What tests of single parts share: a loop that is run until something is true, and TCP pairs."""

import contextlib
import errno
import os
import selectors
import socket
from collections.abc import Callable, Iterator
from typing import NoReturn
from unittest import mock

from relaylib.net.loop import Loop
from tools.lab.process import PATIENCE, LabError


def unexpected(error: Exception) -> NoReturn:
    """Take a bug's exception where there must be none."""
    raise error


def turn_until(loop: Loop, condition: Callable[[], object], what: str) -> None:
    """Run the loop until `condition` is true.

    Raises:
        LabError: it was not within `PATIENCE` seconds.
    """
    deadline = loop.time() + PATIENCE

    def look() -> None:
        if condition() or loop.time() > deadline:
            loop.stop()
        else:
            loop.call_later(0.001, look)

    loop.call_soon(look)
    loop.run()
    if not condition():
        raise LabError(f"timed out waiting for {what}")


def turn_for(loop: Loop, seconds: float) -> None:
    loop.call_later(seconds, loop.stop)
    loop.run()


@contextlib.contextmanager
def running_loop(selector: selectors.BaseSelector | None = None) -> Iterator[Loop]:
    """A loop in which no bug may happen, closed at the end."""
    loop = Loop(unexpected, selector)
    try:
        yield loop
    finally:
        loop.close()


@contextlib.contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection: an accepted non-blocking one, and a blocking peer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with accepted, peer:
        accepted.setblocking(False)
        peer.settimeout(PATIENCE)
        yield accepted, peer


def no_descriptors() -> contextlib.AbstractContextManager[object]:
    """Inside this context the process has no descriptor for a new socket."""
    error = OSError(errno.EMFILE, "Too many open files")
    return mock.patch.object(socket, "socket", side_effect=error)


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe, both ends of which may be closed by the test."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)
