"""Writing on stdout and stderr without ever waiting for their readers.

Asking first does not help: select(2) calls a terminal writable when there is any room, and a write
of more than that waits; so does one on a pipe that another program fills in between. O_NONBLOCK
does help, but it belongs to the open file (open(2)), which is shared with the shell and other
programs, and those do not expect it. Therefore the file is opened anew, for the relay alone; a
socket, which cannot be opened anew, has MSG_DONTWAIT (send(2)).

A terminal that may not be opened (of another user, before su) gets O_NONBLOCK for the moment of the
write. A file on a disk ignores the flag, and takes as long as the disk.

Rejected: a thread, or a child process, that writes and may wait. It could get stuck, too, and its
queue would need a policy of its own.
"""

import contextlib
import os
import socket
import stat
from collections.abc import Callable

Put = Callable[[bytes], int]
"""Writes at once what there is room for, and returns how many bytes.

Raises:
    OSError: there is no room, or it cannot be written at all.
"""


class DescriptorWriter:
    """Writes on a descriptor, which stays as it was."""

    def __init__(self, fd: int) -> None:
        self._undo = contextlib.ExitStack()
        self._put = _way(fd, self._undo)
        self._rest = b""

    def write(self, data: bytes) -> bool:
        """Write, or return False if nothing can be written now.

        A line that was written in part is finished at the next call, so that none is cut off.
        """
        with contextlib.suppress(OSError):
            if self._rest:
                self._rest = self._rest[self._put(self._rest) :]
            if not self._rest:
                count = self._put(data)
                self._rest = data[count:] if count else b""
                return count > 0
        return False

    def close(self) -> None:
        """Close what was opened for this."""
        self._undo.close()


def say(text: str, fd: int = 1) -> None:
    """Write a text for a person, as much of it as there is room for."""
    with contextlib.closing(DescriptorWriter(fd)) as writer:
        writer.write(text.encode("utf-8", "backslashreplace"))


def _way(fd: int, undo: contextlib.ExitStack) -> Put:
    """Find the way to write on this descriptor; `undo` is given what has to be closed."""

    def plain(data: bytes) -> int:
        return os.write(fd, data)

    def non_blocking_for_a_moment(data: bytes) -> int:
        before = os.get_blocking(fd)
        os.set_blocking(fd, False)
        try:
            return os.write(fd, data)
        finally:
            os.set_blocking(fd, before)

    try:
        mode = os.fstat(fd).st_mode
        if os.name != "posix" or stat.S_ISREG(mode) or stat.S_ISBLK(mode):
            return plain
        if stat.S_ISSOCK(mode):
            sock = undo.enter_context(socket.socket(fileno=os.dup(fd)))
            return lambda data: sock.send(data, socket.MSG_DONTWAIT)
        fresh = _open_anew(fd)
    except OSError:
        return non_blocking_for_a_moment
    undo.callback(os.close, fresh)
    return lambda data: os.write(fresh, data)


def _open_anew(fd: int) -> int:
    """Open the terminal, pipe or device of a descriptor once more, for non-blocking writing.

    Raises:
        OSError: none of its names, if it has any, leads there, or it may not be opened.
    """
    for name in _names(fd):
        with contextlib.suppress(OSError):
            fresh = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            # On some systems to open /dev/fd/N is to duplicate N. A name may be another's by now.
            if not os.get_blocking(fresh) and os.path.samestat(os.fstat(fd), os.fstat(fresh)):
                return fresh
            os.close(fresh)
    raise OSError(f"descriptor {fd} cannot be opened anew")


def _names(fd: int) -> list[str]:
    """Return what a descriptor's file may be opened by: ttyname(3), and proc(5).

    A pseudo-terminal's master has no name: to open /dev/ptmx makes another one.
    """
    names = [f"/proc/self/fd/{fd}"]
    if os.isatty(fd):
        with contextlib.suppress(OSError):
            names.insert(0, os.ttyname(fd))
    return [name for name in names if not os.path.realpath(name).endswith("/ptmx")]
