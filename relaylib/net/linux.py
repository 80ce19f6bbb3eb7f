"""What the Linux kernel offers beyond the portable socket API, and how to do without it.

Python 3.11 names few of these options, so their numbers stand here, from <linux/udp.h> and
<asm-generic/socket.h>. On another system a function returns what a system without the feature
would; `set_segment` raises OSError.
"""

import contextlib
import socket
import struct
import sys
from array import array

LINUX = sys.platform == "linux"

_SOL_UDP, _UDP_SEGMENT = 17, 103
_SO_RCVBUFFORCE = 33
_SO_MEMINFO, _MEMINFO = 55, struct.Struct("9I")
_DROPS = 8
_IP_MTU_DISCOVER, _IP_PMTUDISC_DONT = 10, 0
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_SOCK_FILTER, _SOCK_FPROG = 8, struct.Struct("HP")
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29  # <linux/in.h>, <linux/in6.h>


def can_segment() -> bool:
    """Tell whether the kernel cuts one send into datagrams (UDP_SEGMENT, udp(7), Linux 4.18)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            set_segment(probe, 0)
        except OSError:
            return False
    return LINUX


def set_segment(sock: socket.socket, size: int) -> None:
    """Cut every later send into datagrams of `size` bytes; 0: do not."""
    sock.setsockopt(_SOL_UDP, _UDP_SEGMENT, size)


def report_drops(sock: socket.socket) -> None:
    """Let a send fail with ENOBUFS when the device's queue drops it (IP_RECVERR, ip(7)).

    Otherwise the kernel reports success. Some queues drop later, or a part of a send, and never
    report it: fq_codel, which most systems use; tbf, when the send is larger than its burst.
    The price: ICMP errors that are otherwise ignored, as for an unanswered ARP request, make a send
    fail, too. They are also queued for `MSG_ERRQUEUE`, within the receive buffer, and need not be
    read.
    """
    if not LINUX:
        return
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)


def allow_fragments(sock: socket.socket) -> None:
    """Let routers fragment what is too large for the next link (ip(7), IP_MTU_DISCOVER).

    With the default a datagram larger than some link on the path is lost, at least until the kernel
    has received and accepted the ICMP answer; a viewer behind a tunnel would see gaps or nothing.
    IPv6 has no such routers: there, path MTU discovery is all there is.
    """
    if LINUX and sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)


def grow_receive_buffer(sock: socket.socket, size: int) -> int:
    """Ask for a receive buffer of `size` bytes, by privilege if possible; return the granted size.

    The kernel doubles the number for its own book-keeping and reports the double (socket(7)). A
    larger buffer is left alone: the program that opened the socket may have had more privilege.
    """
    granted = _receive_buffer(sock)
    if granted < size:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        granted = _receive_buffer(sock)
    if LINUX and granted < size:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
        granted = _receive_buffer(sock)
    return granted


def _receive_buffer(sock: socket.socket) -> int:
    size: int = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return size // 2 if LINUX else size


def dropped(sock: socket.socket) -> int:
    """Return how many datagrams were dropped because this socket's buffer was full (SO_MEMINFO)."""
    if not LINUX:
        return 0
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        drops: int = _MEMINFO.unpack(raw)[_DROPS]
    except (OSError, struct.error):
        return 0
    return drops


def set_filter(sock: socket.socket, program: bytes) -> bool:
    """Have the kernel drop what this classic BPF program rejects; return whether it does.

    The program replaces the former one. b"", or a program that the system does not take, leaves the
    socket without any. Datagrams that are queued already stay, and those that are dropped count in
    `dropped` (SO_ATTACH_FILTER, socket(7)).
    """
    if not LINUX:
        return False
    code = array("B", program)
    with contextlib.suppress(OSError):
        if program:
            argument = _SOCK_FPROG.pack(len(code) // _SOCK_FILTER, code.buffer_info()[0])
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, argument)
            return True
    with contextlib.suppress(OSError):  # ENOENT: there was none
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    return False


def hear_joined_groups_only(sock: socket.socket) -> None:
    """Receive no groups that only other programs have joined (IP_MULTICAST_ALL, ip(7)).

    Otherwise any program of the machine that joins a group lets it in at this port, and lets in
    every source of a source-specific group. An IPv6 socket may receive IPv4, too, and has both
    options (Linux 4.20).
    """
    if not LINUX:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
    if sock.family == socket.AF_INET6:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
