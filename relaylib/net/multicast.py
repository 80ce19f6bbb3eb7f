"""Multicast groups: receiving one, with its memberships, and sending to one (RFC 1112, RFC 3678).

A socket that receives a group is bound to the group's address, so that no other group and nothing
sent to this machine gets in on the same port. It receives no group that it has not joined itself
(`linux.hear_joined_groups_only`): by default Linux hands a socket every group that any program of
the machine has joined.

Python 3.11 does not name the options for source-specific groups; their numbers are those of
<linux/in.h>. They work on Linux alone.
"""

import contextlib
import errno
import socket
import struct
from dataclasses import dataclass

from relaylib.errors import SetupError
from relaylib.net import interfaces, linux
from relaylib.net.address import Address, show
from relaylib.net.lookup import family_of
from relaylib.net.mrl import Mrl

_MCAST_JOIN_SOURCE_GROUP = 46
_SO_BINDTOIFINDEX = 62  # <asm-generic/socket.h>, Linux 5.0

Option = tuple[int, int, bytes | int]
"""What `setsockopt` takes: level, option, value."""


def bind_group(mrl: Mrl) -> tuple[socket.socket, "Membership"]:
    """Open a non-blocking socket that receives a group, and join it.

    SO_REUSEADDR, because a player on this machine may watch the same group at the same port: each
    socket gets a copy of every datagram.

    Raises:
        SetupError: there is no such interface, or the group cannot be joined, or the port is taken.
    """
    sock = socket.socket(_family(mrl), socket.SOCK_DGRAM)
    membership = Membership(sock, mrl)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        linux.hear_joined_groups_only(sock)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        membership.join()
        sock.bind(membership.address)
    except OSError as error:
        sock.close()
        raise SetupError(_why(error, mrl)) from None
    return sock, membership


def _why(error: OSError, mrl: Mrl) -> str:
    where = show((mrl.host, mrl.port))
    match error.errno:
        case errno.EADDRINUSE:
            return f"UDP port is already in use: {where} (ss -lnup shows whose it is)"
        case errno.EACCES:
            return f"not allowed to use UDP {where}: ports below 1024 need root"
        case errno.ENOBUFS:
            return f"cannot join {where}: too many groups (sysctl net.ipv4.igmp_max_memberships)"
        case _:
            return f"cannot join {where}: {error.strerror}"


@dataclass(slots=True)
class MembershipState:
    """What a reload hands over: the group, and the interface on which it is joined, if it is."""

    mrl: Mrl
    index: int | None = None


class Membership:
    """A socket's membership of a group on one interface. The kernel ends it with the socket."""

    def __init__(self, sock: socket.socket, mrl: Mrl, index: int | None = None) -> None:
        self.state = MembershipState(mrl, index)
        self._sock = sock

    @property
    def address(self) -> Address:
        """The address to bind the socket to, once the group is joined."""
        return group_address(self.state.mrl, self.state.index or 0)

    @property
    def interface(self) -> str:
        """The interface on which the group is joined; if it is not, the one asked for."""
        index = self.state.index
        return (interfaces.name_of(index) if index else "") or self.state.mrl.iface

    def find(self) -> int:
        """Return the interface on which the group is to be joined.

        Raises:
            OSError: there is none; `strerror` says so in words.
        """
        return find_interface(self.state.mrl)

    def join(self) -> None:
        """Join the group, on an interface looked up anew. A former membership ends first.

        So the kernel sends the switches and routers another membership report.

        Raises:
            OSError: the group is not joined now; `strerror` says why.
        """
        self.leave()
        index = self.find()
        self._follow(index)
        self._sock.setsockopt(*_join(self.state.mrl, index))
        self.state.index = index

    def leave(self) -> None:
        """Leave the group, if it is joined. The interface may be gone."""
        if self.state.index is not None:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(*_leave(self.state.mrl, self.state.index))
        self.state.index = None

    def _follow(self, index: int) -> None:
        """Point a socket of a link-local group at an interface that was created again.

        Binding it to such an address has tied it to the interface; another takes CAP_NET_RAW.
        """
        if linux.LINUX and has_scope(self.state.mrl.host) and self._sock.getsockname()[1]:
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, index)


def find_interface(mrl: Mrl) -> int:
    """Return the index of the interface for a group; 0 if only the system knows.

    Raises:
        OSError: there is none; `strerror` says so in words.
    """
    if mrl.iface:
        if linux.LINUX or _family(mrl) == socket.AF_INET6:
            return interfaces.index_of(mrl.iface)
        return 0
    try:
        return interfaces.index_towards((mrl.host, mrl.port))
    except OSError as error:
        message = f"no interface leads there, ?iface=NAME chooses one ({error.strerror})"
        raise OSError(errno.ENODEV, message) from None


def group_address(mrl: Mrl, index: int) -> Address:
    """Return the group's address for `bind` and `connect`, on this interface."""
    if ":" in mrl.host:
        return (mrl.host, mrl.port, 0, index if has_scope(mrl.host) else 0)
    return (mrl.host, mrl.port)


def has_scope(host: str) -> bool:
    """Tell whether an address is valid on one interface only (RFC 4291, 2.7): ff01, ff02."""
    packed = _packed(host)
    return len(packed) == 16 and packed[0] == 0xFF and packed[1] & 0xF in (1, 2)


def set_sending(sock: socket.socket, mrl: Mrl) -> None:
    """Set the ttl and, for a group, the interface with which a socket sends, as an MRL says.

    Call it before the socket is connected: the interface decides the address to send from. Without
    a ttl the system's default holds: 1 for groups, which stays on the local network.

    Raises:
        OSError: there is no such interface; `strerror` says so in words.
    """
    six = sock.family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    if mrl.ttl is not None:
        group, single = (
            (socket.IPV6_MULTICAST_HOPS, socket.IPV6_UNICAST_HOPS)
            if six
            else (socket.IP_MULTICAST_TTL, socket.IP_TTL)
        )
        sock.setsockopt(level, group if mrl.is_group else single, mrl.ttl)
    if mrl.is_group and mrl.iface:
        index = find_interface(mrl)
        if six:
            sock.setsockopt(level, socket.IPV6_MULTICAST_IF, index)
        else:
            interface = _membership(mrl, index) if linux.LINUX else _interface4(mrl, index)
            sock.setsockopt(level, socket.IP_MULTICAST_IF, interface)


def _join(mrl: Mrl, index: int) -> Option:
    if not mrl.source:
        if _family(mrl) == socket.AF_INET6:
            return socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, _membership(mrl, index)
        return socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, _membership(mrl, index)
    if not linux.LINUX:
        raise OSError(errno.ENOPROTOOPT, "a group of one source takes Linux")
    level = socket.IPPROTO_IPV6 if _family(mrl) == socket.AF_INET6 else socket.IPPROTO_IP
    return level, _MCAST_JOIN_SOURCE_GROUP, _group_source_req(mrl, index)


def _leave(mrl: Mrl, index: int) -> Option:
    """Return the option that leaves a group, source-specific or not."""
    if _family(mrl) == socket.AF_INET6:
        return socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, _membership(mrl, index)
    return socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, _membership(mrl, index)


def _membership(mrl: Mrl, index: int) -> bytes:
    """`struct ipv6_mreq` (RFC 3493); `ip_mreqn` on Linux, elsewhere `ip_mreq` (RFC 3678)."""
    if _family(mrl) == socket.AF_INET6:
        return _packed(mrl.host) + struct.pack("@I", index)
    return _packed(mrl.host) + _interface4(mrl, index)


def _interface4(mrl: Mrl, index: int) -> bytes:
    """Return an IPv4 interface: on Linux an unused address and an index (ip(7))."""
    if linux.LINUX:
        return bytes(4) + struct.pack("@i", index)
    try:
        return socket.inet_aton(mrl.iface or "0.0.0.0")
    except OSError:
        message = f"this system takes an interface by its address, not by its name: {mrl.iface}"
        raise OSError(errno.ENODEV, message) from None


def _group_source_req(mrl: Mrl, index: int) -> bytes:
    """`struct group_source_req` of RFC 3678: each `sockaddr_storage` is aligned like a long."""
    return struct.pack("@I0L128s128s", index, _sockaddr(mrl.host), _sockaddr(mrl.source))


def _sockaddr(host: str) -> bytes:
    """`struct sockaddr_in` or `sockaddr_in6`, of which only family and address matter here."""
    if ":" in host:
        return struct.pack("=HHI16s", socket.AF_INET6, 0, 0, _packed(host))
    return struct.pack("=HH4s", socket.AF_INET, 0, _packed(host))


def _packed(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def _family(mrl: Mrl) -> socket.AddressFamily:
    return family_of((mrl.host, mrl.port))
