"""When a datagram arrived, by the kernel's own stamp: reading it late does not look like latency.

SO_TIMESTAMPNS, socket(7); Python's socket module does not name it. The clock is CLOCK_REALTIME.
"""

import socket
import struct

_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("qq")


def stamp(sock: socket.socket) -> None:
    """Have every datagram from now on stamped; the socket does not block."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.setblocking(False)


def receive(sock: socket.socket, size: int) -> tuple[bytes, int]:
    """Return the first `size` bytes of a datagram, and its stamp in nanoseconds.

    Raises:
        BlockingIOError: there is none.
    """
    data, control, _, _ = sock.recvmsg(size, 64)
    seconds, nanoseconds = _TIMESPEC.unpack(control[0][2])
    return data, seconds * 10**9 + nanoseconds
