"""Multicast: a way to the group, joining it, and whether a querier asks for its members.

A switch that snoops on IGMP forgets a member that is not asked again; asking is the querier's task,
every 125 s (RFC 3376, 8.2). So one is heard in two seconds only by luck, and hearing none proves
nothing. On a machine that may listen (CAP_NET_RAW), it is listened for during all other checks.
"""

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from functools import partial

from relaylib.config import Config
from relaylib.doctor import ports
from relaylib.doctor.finding import Figures, Finding, Grade, read, read_number, time
from relaylib.doctor.network import heard
from relaylib.errors import SetupError
from relaylib.net import linux
from relaylib.net.address import show
from relaylib.net.interfaces import index_towards, is_running, name_of, own_addresses
from relaylib.net.lookup import family_of
from relaylib.net.loop import Loop
from relaylib.net.mrl import Mrl
from relaylib.net.multicast import bind_group, find_interface, group_address, set_sending

INTERVAL = 125
"""Seconds between two general queries, by default (RFC 3376, 8.2)."""

LEAST = 2.0
"""Seconds that are listened for, at least."""

_IGMP_QUERY, _MLD_QUERY = 0x11, 130
_PACKET = 2048


def named(config: Config) -> tuple[Mrl | None, list[Mrl]]:
    """Return the group of the ingest, if that is one, and those that are sent to."""
    ingest = config.ingest if config.ingest and config.ingest.is_group else None
    return ingest, [mrl for mrl in config.to if mrl.is_group]


def incoming(mrl: Mrl, *, busy: bool) -> Iterator[Finding]:
    """Look at the group that the stream comes in by; `busy`: a relay has it already."""
    where = show((mrl.host, mrl.port))
    name, failure = _interface(mrl)
    make = partial(Finding, "group_in", "group in", figures={"group": mrl.host, "interface": name})
    if failure:
        yield make(f"{where}: {failure}", Grade.WRONG, *_route(mrl))
        return
    try:
        sock, _ = bind_group(mrl)
    except SetupError as error:
        yield ports.taken("group_in", "group in", "UDP", error, (mrl.host, mrl.port))[0]
        return
    with sock:
        arrives = busy or _comes_back(sock, mrl)
    if not is_running(name):
        advice = "Is the cable in?"
        yield make(f"{where} joined on {name}, which has no link", Grade.WRONG, advice)
    elif not arrives:
        advice = "A firewall drops what is sent to the group. Let it in, as root:"
        yield make(
            f"{where} joined on {name}, but a datagram sent to it here did not arrive",
            Grade.WRONG,
            advice,
            ("nft list ruleset", f"nft insert rule inet filter input udp dport {mrl.port} accept"),
        )
    else:
        yield make(f"{where} can be joined on {name}")
    yield from _reverse_path(mrl, name)


def outgoing(mrl: Mrl) -> Finding:
    """Look at a group that the stream is sent to."""
    where = show((mrl.host, mrl.port))
    name, failure = _interface(mrl)
    ttl = 1 if mrl.ttl is None else mrl.ttl
    figures: Figures = {"group": mrl.host, "interface": name, "ttl": ttl}
    make = partial(Finding, "group_out", "group out", figures=figures)
    if failure:
        return make(f"{where}: {failure}", Grade.WRONG, *_route(mrl))
    if not is_running(name):
        return make(f"{where} leaves by {name}, which has no link", Grade.WRONG, "Is the cable in?")
    reach = "this network only" if ttl == 1 else f"at most {ttl} networks far"
    return make(f"{where} leaves by {name}, {reach} (ttl {ttl})")


def _interface(mrl: Mrl) -> tuple[str, str]:
    """Return the interface for a group, and why there is none."""
    try:
        index = find_interface(mrl)
        return (name_of(index) if index else mrl.iface), ""
    except OSError as error:
        return mrl.iface, error.strerror or str(error)


def _route(mrl: Mrl) -> tuple[str, tuple[str, ...]]:
    """Say how to give a group a way."""
    names = [name_of(index) for ip, index in own_addresses() if not ip.is_loopback]
    name = next(iter(names), "eth0")
    route = f"ip {'-6 ' * (':' in mrl.host)}route add {mrl.host} dev {name}"
    query = "&" if mrl.ttl is not None else "?"
    advice = f"Name the interface in the MRL ({query}iface={name}), or, as root:"
    return advice, (route,)


def _comes_back(sock: socket.socket, mrl: Mrl) -> bool:
    """Send a datagram to the group, which stays on this machine; tell whether it arrives.

    A group of one source admits no other sender, so there it is taken for granted.
    """
    if mrl.source:
        return True
    index = find_interface(mrl)
    token = os.urandom(8)
    here = Mrl(mrl.scheme, "", mrl.host, mrl.port, name_of(index) or mrl.iface, ttl=0)
    with socket.socket(sock.family, socket.SOCK_DGRAM) as sender:
        try:
            set_sending(sender, here)
            sender.sendto(token, group_address(here, index))
        except OSError:
            return False
        return bool(heard(sock, [token]))


def _reverse_path(mrl: Mrl, name: str) -> Iterator[Finding]:
    """Tell whether the kernel drops what comes from where no route of that interface leads back."""
    if ":" in mrl.host:
        return
    conf = "/proc/sys/net/ipv4/conf"
    modes = [read_number(f"{conf}/{each}/rp_filter") for each in ("all", name)]
    mode = max((each for each in modes if each is not None), default=0)
    figures: Figures = {"interface": name, "rp_filter": mode}
    make = partial(Finding, "reverse_path", "rp_filter", figures=figures)
    if mode == 1 and mrl.source and (back := _way_back(mrl.source)) != name:
        found = f"strict on {name}, and the route to {mrl.source} leads by {back or 'nowhere'}"
        command = f"sysctl -w net.ipv4.conf.{name}.rp_filter=2 net.ipv4.conf.all.rp_filter=2"
        yield make(found, Grade.WRONG, "The kernel drops what it sends. As root:", (command,))
    elif mode == 1:
        yield make(f"strict on {name}: only sources to which a route leads back by it are heard")
    else:
        yield make(f"{'loose' if mode == 2 else 'off'} on {name}")


def _way_back(host: str) -> str:
    with contextlib.suppress(OSError):
        return name_of(index_towards((host, 9)))
    return ""


# --- the querier


class Ear:
    """Listens for queries on the interface of a group, from now on."""

    def __init__(self, mrl: Mrl) -> None:
        self._mrl = mrl
        self._begun = Loop.time()
        self._sock: socket.socket | None = None
        self.interface, _ = _interface(mrl)
        six = family_of((mrl.host, 0)) == socket.AF_INET6
        self._query = _MLD_QUERY if six else _IGMP_QUERY
        family, protocol = (
            (socket.AF_INET6, socket.IPPROTO_ICMPV6)
            if six
            else (socket.AF_INET, socket.IPPROTO_IGMP)
        )
        with contextlib.suppress(OSError):  # it takes CAP_NET_RAW
            sock = socket.socket(family, socket.SOCK_RAW, protocol)
            sock.setblocking(False)
            if linux.LINUX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode())
            self._sock = sock

    def querier(self) -> Finding:
        """Name the querier, having listened for `LEAST` seconds at least."""
        heard = self._listen()
        listened = Loop.time() - self._begun
        figures: Figures = {
            "interface": self.interface,
            "heard": heard or None,
            "listened_s": round(listened, 1) if self._sock else 0.0,
        }
        make = partial(Finding, "querier", "IGMP querier", figures=figures)
        if heard:
            return make(f"{heard} asks on {self.interface}")
        old = _older_version(self.interface)
        if old and self._query == _IGMP_QUERY:
            return make(f"one that speaks IGMP{old} has asked on {self.interface}")
        kind = "icmp6" if self._query == _MLD_QUERY else "igmp"
        command = (f"timeout 130 tcpdump -ni {self.interface} {kind}",)
        if self._sock is None:
            found = "not known: to listen takes root"
        else:
            found = (
                f"none heard on {self.interface} in {time(listened)}; one asks every {INTERVAL} s"
            )
        advice = (
            "Without one, a switch that snoops lets a group die after some minutes. "
            "Listen for longer; if there is none, switch it on at the switch or router:"
        )
        return make(found, Grade.HINT, advice, command)

    def _listen(self) -> str:
        if self._sock is None:
            return ""
        with self._sock as sock:
            while True:
                left = self._begun + LEAST - Loop.time()
                if not select.select((sock,), (), (), max(0.0, left))[0]:
                    return ""
                with contextlib.suppress(OSError):
                    packet, sender = sock.recvfrom(_PACKET)
                    if self._kind(packet) == self._query:
                        return str(sender[0])

    def _kind(self, packet: bytes) -> int:
        """Return the type of an IGMP packet behind its IPv4 header, or of an ICMPv6 one."""
        at = 0 if self._query == _MLD_QUERY else 4 * (packet[0] & 0xF)
        return packet[at] if len(packet) > at else -1


def _older_version(name: str) -> str:
    """Return V1 or V2 if the kernel has heard a querier of that age lately (/proc/net/igmp)."""
    for line in read("/proc/net/igmp").splitlines():
        words = line.split()
        if len(words) >= 5 and words[1] == name:
            return words[-1] if words[-1] in ("V1", "V2") else ""
    return ""
