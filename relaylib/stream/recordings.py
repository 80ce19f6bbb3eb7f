"""The flight recorder's files: their names, how much they take in all, and the oldest giving way.

Only what is named as the recorder names its files is counted and deleted. A file gets its own name
when it is complete; until then `.part` stands behind it. So what a killed relay left is known, and
deleted at the next start. A directory serves one relay.

Deleting a file of 94 MB takes 8 ms on ext4 and 15 ms on tmpfs, because the kernel lets go of its
pages one by one. So the file loses its name first, and then its bytes, some in each turn.

Rejected: a file without a name until it is complete (O_TMPFILE, open(2)). Several file systems do
not have it, and the way with a name would be needed beside it.
"""

import contextlib
import os
import re
from collections import deque

_NAME = re.compile(r"fault-\d{8}T\d{6}Z-[a-z]+\.pcapng")
_PART = ".part"

CUT = 4 << 20
"""Bytes that a deleted file loses in one turn: 0.3 ms on ext4, 0.7 ms on tmpfs."""


def file_name(date: str, reason: str) -> str:
    """Name the file of a fault that was noticed then (`Loop.date`), for a reason of one word."""
    return f"fault-{date}-{reason}.pcapng"


def complete(path: str) -> int:
    """Give a file that has been written its name; return its size.

    Raises:
        OSError: that did not work, and the file is gone.
    """
    try:
        os.rename(path + _PART, path)
        return os.stat(path).st_size
    except OSError:
        _unlink(path + _PART)
        raise


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


class Recordings:
    """The files in `directory`, which may take `limit` bytes in all."""

    def __init__(self, directory: str, limit: int) -> None:
        """Look what is there, and delete what was never completed."""
        self._limit = limit
        self._total = 0
        self._kept = deque[tuple[str, int]]()
        self._deleted = deque[int]()
        """Descriptors of files that have lost their name, and not yet all of their bytes."""
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                self._find(entry)

    def _find(self, entry: "os.DirEntry[str]") -> None:
        if not _NAME.fullmatch(entry.name.removesuffix(_PART)) or entry.is_symlink():
            return
        if entry.name.endswith(_PART):
            os.unlink(entry.path)
        else:
            self._keep(entry.path, entry.stat().st_size)

    def _keep(self, path: str, octets: int) -> None:
        self._kept.append((path, octets))
        self._total += octets

    def create(self, path: str) -> int:
        """Begin a file; return its descriptor, to be given to `complete` or `discard`.

        Raises:
            OSError: it cannot be created.
        """
        return os.open(path + _PART, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def complete(self, file: int, path: str) -> int:
        """Close a file that has been written, and give it its name; return its size.

        Raises:
            OSError: that did not work, and the file is gone.
        """
        try:
            os.close(file)
        except OSError:  # what was written is not there after all: NFS, quotas (close(2))
            _unlink(path + _PART)
            raise
        octets = complete(path)
        self._keep(path, octets)
        return octets

    def discard(self, file: int, path: str) -> None:
        """Delete a file that is not going to be complete."""
        _unlink(path + _PART)
        self._deleted.append(file)

    def has_room(self, octets: int) -> bool:
        """Tell whether a file may grow to that size beside those that are kept."""
        return self._total + octets <= self._limit

    @property
    def tidy(self) -> bool:
        """Whether nothing is left of what was deleted."""
        return not self._deleted

    def make_room(self, octets: int) -> bool:
        """Do a turn's work to have room for a file of that size; return whether there was any.

        Raises:
            OSError: a file cannot be deleted.
        """
        if self._deleted:
            self._shorten(self._deleted[0])
        elif self._kept and not self.has_room(octets):
            self._delete(*self._kept.popleft())
        else:
            return False
        return True

    def _delete(self, path: str, octets: int) -> None:
        self._total -= octets
        with contextlib.suppress(FileNotFoundError):  # somebody else has deleted it
            self._deleted.append(os.open(path, os.O_WRONLY | os.O_NOFOLLOW))
            os.unlink(path)

    def _shorten(self, file: int) -> None:
        """Take the end of a file away; nothing of one to which somebody has given another name."""
        with contextlib.suppress(OSError):
            status = os.fstat(file)
            if status.st_size > CUT and not status.st_nlink:
                os.ftruncate(file, (status.st_size - 1) // CUT * CUT)
                return
        self._deleted.popleft()
        os.close(file)
