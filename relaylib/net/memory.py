"""Memory that outlives an exec: it has no name, and is handed over as a descriptor.

Pages are taken when they are written first (memfd_create(2)). Where the system has no such memory,
there is memory that ends with the program.
"""

import contextlib
import errno
import mmap
import os

from relaylib.net.descriptors import Descriptor

PAGE = mmap.ALLOCATIONGRANULARITY
"""Bytes to which parts of a memory are aligned."""


class SharedMemory:
    """So many bytes: `file` leads to them, None where they cannot be handed over."""

    def __init__(self, size: int, name: str, file: Descriptor | None = None) -> None:
        """Take new memory, or what a descriptor leads to.

        Raises:
            OSError: there is none.
        """
        if file is None:
            _check_memory(size)
            file = _create(size, name)
        else:
            os.set_inheritable(file, False)
        self.file = file
        try:
            self._map = mmap.mmap(-1 if file is None else file, size)
        except (OSError, ValueError) as error:
            if file is not None:
                os.close(file)
            raise OSError(errno.ENOMEM, str(error)) from None
        self.view = memoryview(self._map)

    def close(self) -> None:
        """Let the memory go."""
        with contextlib.suppress(BufferError):  # somebody still has a view
            self.view.release()
            self._map.close()
        if self.file is not None:
            os.close(self.file)
            self.file = None


def _check_memory(size: int) -> None:
    """Find out now what would show when the memory has filled: the system would kill somebody.

    Raises:
        OSError: the machine has less memory than that.
    """
    with contextlib.suppress(AttributeError, ValueError):  # not told
        if size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
            raise OSError(errno.ENOMEM, "it is more than the machine has")


def _create(size: int, name: str) -> Descriptor | None:
    if not hasattr(os, "memfd_create"):
        return None
    try:
        file = os.memfd_create(name)
    except OSError:  # forbidden (seccomp(2)), or missing in the kernel
        return None
    try:
        os.ftruncate(file, size)
    except OSError:
        os.close(file)
        raise
    return Descriptor(file)
