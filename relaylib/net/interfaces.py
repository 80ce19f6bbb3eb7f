"""The network interfaces of this system: by name, by address, and where a group is reached.

An interface is its index: a name may be given to another one, and an address may move. 0 stands for
the system's choice. On Linux every way to name one ends in an index. Other systems tell less to a
program without a C extension: there an IPv6 group takes a name, and an IPv4 group an address.

Rejected: netlink, which has it all in one place; the sandbox in `systemd/` does not allow it.
"""

import contextlib
import errno
import ipaddress
import socket
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from relaylib.net.address import Address
from relaylib.net.linux import LINUX
from relaylib.net.lookup import family_of

_SIOCGIFCONF, _SIOCGIFFLAGS = 0x8912, 0x8913
"""netdevice(7), <linux/sockios.h>."""

_IFREQ = struct.Struct("@16sHH4s")
"""`struct ifreq`, an interface's name and an IPv4 address; what follows in it is not needed."""

_IFREQ_SIZE = struct.calcsize("@16sLLHBBB0L")
"""With the largest member of its union, `struct ifmap`."""

_IFCONF = struct.Struct("@iP")
_ADDRESSES = 1024
"""Most IPv4 addresses that are looked at: more than a person configures."""

_UP_AND_RUNNING = 0x1 | 0x40  # IFF_UP, IFF_RUNNING: the cable is in


def index_of(iface: str) -> int:
    """Return the index of an interface that is named, or that has this address.

    Raises:
        OSError: there is none; `strerror` says so in words.
    """
    try:
        wanted = ipaddress.ip_address(iface)
    except ValueError:
        with contextlib.suppress(OSError):
            return socket.if_nametoindex(iface)
        raise OSError(errno.ENODEV, f"there is no interface {iface}") from None
    for address, index in own_addresses():
        if address == wanted:
            return index
    raise OSError(errno.EADDRNOTAVAIL, f"no interface has the address {iface}")


def index_towards(address: Address) -> int:
    """Return the interface through which the system would send to an address; 0 if it cannot tell.

    Raises:
        OSError: there is no route.
    """
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as probe:
        probe.connect(address)  # sends nothing
        ours = probe.getsockname()
    known = ipaddress.ip_address(ours[0].partition("%")[0])
    scope: int = ours[3] if len(ours) == 4 else 0
    return scope or next((index for address, index in own_addresses() if address == known), 0)


def name_of(index: int) -> str:
    """Return the name of an interface, "" if there is none."""
    with contextlib.suppress(OSError):
        return socket.if_indextoname(index)
    return ""


def is_running(name: str) -> bool:
    """Tell whether an interface is up and has a link; True where the system cannot tell."""
    if not LINUX:
        return True
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            request = name.encode().ljust(_IFREQ_SIZE, b"\0")
            flags = _IFREQ.unpack_from(fcntl.ioctl(probe, _SIOCGIFFLAGS, request))[1]
    except OSError:
        return False
    return bool(flags & _UP_AND_RUNNING == _UP_AND_RUNNING)


def own_addresses() -> Iterator[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]]:
    """Yield the addresses of this machine, each with the index of its interface."""
    if LINUX:
        yield from _addresses4()
        yield from _addresses6()


def _addresses4() -> Iterator[tuple[ipaddress.IPv4Address, int]]:
    found = array("B", bytes(_ADDRESSES * _IFREQ_SIZE))
    where, size = found.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = _IFCONF.pack(size, where)
        used = _IFCONF.unpack(fcntl.ioctl(probe, _SIOCGIFCONF, request))[0]
    for at in range(0, used, _IFREQ_SIZE):
        label, _, _, packed = _IFREQ.unpack_from(found, at)
        name = label.partition(b"\0")[0].partition(b":")[0].decode()  # eth0:1 is an alias of eth0
        with contextlib.suppress(OSError):  # gone meanwhile
            yield ipaddress.IPv4Address(packed), socket.if_nametoindex(name)


def _addresses6() -> Iterator[tuple[ipaddress.IPv6Address, int]]:
    with contextlib.suppress(OSError):  # no IPv6 here
        for line in Path("/proc/self/net/if_inet6").read_text().splitlines():
            packed, index = line.split()[:2]
            yield ipaddress.IPv6Address(bytes.fromhex(packed)), int(index, 16)
