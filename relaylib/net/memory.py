"""Memory that outlives an exec: it has no name, and is handed over as a descriptor.

The system allocates a page when it is first written (memfd_create(2)). A system without such memory
gives memory that ends with the program.
"""

import contextlib
import errno
import mmap
import os

from relaylib.net.descriptors import Descriptor

PAGE = mmap.ALLOCATIONGRANULARITY
"""Alignment of the parts of a memory, in bytes."""


class SharedMemory:
    """`size` bytes of memory. `file` is their descriptor, None where they cannot be handed over."""

    def __init__(self, size: int, name: str, file: Descriptor | None = None) -> None:
        """Allocate new memory, or map the memory of an inherited descriptor.

        Raises:
            OSError: there is not enough memory, or it cannot be mapped.
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
        """Release the memory."""
        with contextlib.suppress(BufferError):  # a view of it is still in use
            self.view.release()
            self._map.close()
        if self.file is not None:
            os.close(self.file)
            self.file = None


def _check_memory(size: int) -> None:
    """Find out now what would otherwise show later: the system would kill a process when it fills.

    Raises:
        OSError: the machine has less memory than that.
    """
    with contextlib.suppress(AttributeError, ValueError):  # the system does not tell
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
