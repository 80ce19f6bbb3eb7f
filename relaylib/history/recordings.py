"""The flight recorder's files: their names, their size in all, and deleting the oldest for room.

Only files with a recording's name are counted and deleted. A file gets its name when it is
complete; until then the name ends in `.part`. So the files that a killed relay left are recognised,
and deleted at the next start. A directory serves one relay.

The directory is not trusted, since other users may write there. A name counts only if it is that of
a regular file of the user that runs the relay. A FIFO, a folder, a link or another user's file is
passed over, and no file is opened in a way that may wait. Where a name is taken, the new file's
name gets some random digits more. Other users can still delete recordings, where the directory lets
them; so there is a warning if it is not the user's own (`why_not_private`).

Deleting a file of 94 MB takes 8 ms on ext4 and 15 ms on tmpfs, at most one in a turn: the receive
buffer of an unprivileged relay holds 85 ms of 20 Mb/s.

Rejected: a file without a name until it is complete (O_TMPFILE, open(2)). Several file systems do
not have it, so that files with a name would be needed, too. Rejected, too: declining a directory in
which other users may write. The relay would not start any more where it has long worked.
"""

import contextlib
import itertools
import os
import re
import secrets
import stat
from collections import deque

_NAME = re.compile(r"fault-\d{8}T\d{6}Z-[a-z]+(-[0-9a-f]{8})?\.pcapng")
_PART = ".part"

MOST_ENTRIES = 100_000
"""Most entries of the directory that are looked at, in a tenth of a second. One recording a minute
makes as many in two months."""

_WITHOUT_WAITING = (
    getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
)
"""Flags for opening a name that may be no file by now: a FIFO without a reader is an error."""


def file_name(date: str, reason: str) -> str:
    """Name the file of a fault by when it was noticed (`Loop.date`), and by a reason in a word."""
    return f"fault-{date}-{reason}.pcapng"


def why_not_private(directory: str) -> str:
    """Return why other users may change the files in a directory; "" if they may not.

    They may write to it, or own it, or put another directory in its place.
    """
    try:
        path = os.path.realpath(directory)
        if reason := _open_to_others(path, os.stat(path).st_mode & ~stat.S_ISVTX):
            return reason
        while (above := os.path.dirname(path)) != path:
            path = above
            if reason := _open_to_others(path, os.stat(path).st_mode):
                return reason
    except OSError:
        return "cannot be looked at"
    return ""


def _open_to_others(path: str, mode: int) -> str:
    """Return why other users may replace entries of a folder, "" if not: it may be sticky."""
    if not hasattr(os, "geteuid"):
        return ""
    if os.stat(path).st_uid not in (os.geteuid(), 0):
        return f"{path} is another user's"
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        return f"others may write to {path}"
    return ""


def _is_own(status: os.stat_result) -> bool:
    """Tell whether this is a regular file of the user that runs the relay."""
    return stat.S_ISREG(status.st_mode) and (
        not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    )


def complete(path: str) -> tuple[str, int]:
    """Give a file that has been written its name; return that, and its size.

    Raises:
        OSError: that did not work, and the file is gone.
    """
    final = _another(path) if os.path.lexists(path) else path
    try:
        os.rename(path + _PART, final)
        return final, os.lstat(final).st_size
    except OSError:
        _unlink(path + _PART)
        raise


def _another(path: str) -> str:
    """Return a similar name that other users cannot guess."""
    return f"{path.removesuffix('.pcapng')}-{secrets.token_hex(4)}.pcapng"


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


class Recordings:
    """The files in `directory`, which may take `limit` bytes in all."""

    def __init__(self, directory: str, limit: int) -> None:
        """Count the recordings that are there, and delete those that were never completed."""
        self._limit = limit
        self._total = 0
        self._kept = deque[tuple[str, int]]()
        for path in sorted(_named(directory)):
            with contextlib.suppress(OSError):
                self._find(path)

    def _find(self, path: str) -> None:
        status = os.lstat(path)
        if not _is_own(status):
            return
        if path.endswith(_PART):
            os.unlink(path)
        else:
            self._keep(path, status.st_size)

    def _keep(self, path: str, byte_count: int) -> None:
        self._kept.append((path, byte_count))
        self._total += byte_count

    def create(self, path: str) -> tuple[int, str]:
        """Begin a file of that name, or a similar one if it is taken; return descriptor and name.

        Both are to be given to `complete` or `discard`.

        Raises:
            OSError: it cannot be created.
        """
        with contextlib.suppress(FileExistsError):
            if not os.path.lexists(path):
                return _create(path), path
        path = _another(path)
        return _create(path), path

    def complete(self, file: int, path: str) -> tuple[str, int]:
        """Close a file that has been written, and give it its name; return that, and its size.

        Raises:
            OSError: that did not work, and the file is gone.
        """
        try:
            os.close(file)
        except OSError:  # what was written is not there after all: NFS, quotas (close(2))
            _unlink(path + _PART)
            raise
        path, byte_count = complete(path)
        self._keep(path, byte_count)
        return path, byte_count

    def discard(self, file: int, path: str) -> None:
        """Delete a file that will not be completed."""
        _unlink(path + _PART)
        os.close(file)

    def has_room(self, byte_count: int) -> bool:
        """Tell whether a file may grow to this size beside the recordings that are kept."""
        return self._total + byte_count <= self._limit

    def make_room(self, byte_count: int) -> bool:
        """Delete the oldest file if there is no room for one of this size; tell whether it did.

        Raises:
            OSError: a file cannot be deleted.
        """
        if not self._kept or self.has_room(byte_count):
            return False
        self._delete(*self._kept.popleft())
        return True

    def _delete(self, path: str, byte_count: int) -> None:
        """Delete a file, unless its name is that of something else by now."""
        self._total -= byte_count
        with contextlib.suppress(FileNotFoundError):  # another program has deleted it
            if _is_own(os.lstat(path)):
                os.unlink(path)


def _create(path: str) -> int:
    return os.open(path + _PART, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _named(directory: str) -> list[str]:
    """Return the paths of all files with a recording's name, complete or not."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        return [
            entry.path
            for entry in itertools.islice(entries, MOST_ENTRIES)
            if _NAME.fullmatch(entry.name.removesuffix(_PART))
        ]
    return []
