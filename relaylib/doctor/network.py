"""The addresses of this machine, and whether what is sent to them arrives.

What is sent to one's own address passes through the loopback, and through those rules of a firewall
that do not except it. What happens to others can only be found out from there.
"""

import contextlib
import errno
import os
import select
import shutil
import socket
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from relaylib.cli import client_command
from relaylib.config import Config
from relaylib.doctor.finding import DATAGRAM, Finding, Grade, read, read_number
from relaylib.net.address import Address, show
from relaylib.net.interfaces import index_towards, is_running, name_of, own_addresses
from relaylib.net.lookup import family_of
from relaylib.net.loop import Loop
from relaylib.net.mrl import Mrl
from relaylib.net.networks import PRIVATE, contains, is_any

PATIENCE = 0.3
"""Seconds for a packet that does not leave this machine."""

HEADERS = 28
"""Bytes that IPv4 and UDP add to a datagram."""

_SIZE = 2048
_LISTED = 4


class LocalAddress(NamedTuple):
    """An address of this machine, and the interface that has it."""

    host: str
    interface: str

    @property
    def is_far(self) -> bool:
        """Whether others reach it."""
        return self.interface != "lo"


def places(bound: Address) -> list[LocalAddress]:
    """Return the addresses at which a socket that is bound there is reached from elsewhere.

    Link-local ones are left out: people do not type them.
    """
    found = []
    for ip, index in own_addresses():
        anywhere = bound[0] == "::" or (bound[0] == "0.0.0.0" and ip.version == 4)
        here = bound[0].partition("%")[0] == str(ip)
        if here or (anywhere and not ip.is_loopback and not ip.is_link_local):
            found.append(LocalAddress(str(ip), name_of(index)))
    return list(dict.fromkeys(found))


def addresses(config: Config, bound: Address, here: Sequence[LocalAddress]) -> Finding:
    """Say where this machine is reached, and what viewers type."""
    listed = [f"{place.host} ({place.interface})" for place in here]
    figures = {"addresses": [place.host for place in here]}
    make = partial(Finding, "addresses", "addresses", figures=figures)
    far = [place for place in here if place.is_far]
    more = len(listed) - _LISTED
    found = ", ".join(listed[:_LISTED]) + (f" and {more} more" if more > 0 else "")
    if not far:
        advice = "Only this machine can reach the relay. For others, HOST 0.0.0.0, on a network."
        return make(found or "none but the loopback", Grade.HINT, advice)
    shut = [place.host for place in far if not contains((*PRIVATE, *config.allow), place.host)]
    if shut:
        advice = f"{shut[0]} is public: --allow has to name the network that viewers come from:"
        return make(found, Grade.HINT, advice, ("--allow private --allow 203.0.113.0/24",))
    client = f"{client_command()} {far[0].host} {bound[1]} 5004 --vlc"
    return make(found, advice="Viewers type:", commands=(client,))


def senders(config: Config, here: Sequence[LocalAddress]) -> Finding:
    """Name the sources that may send the stream to these addresses."""
    make = partial(Finding, "senders", "who may send")
    if not is_any(config.allow_source):
        return make("who is in --allow-source")
    if not any(place.is_far for place in here):
        return make("whoever reaches the ingest, from this machine")
    advice = "Whoever sends while the encoder pauses may be relayed. If it is one encoder, name it:"
    found = "whoever reaches the ingest"
    return make(found, Grade.HINT, advice, ("--allow-source ADDRESS",))


def links(here: Iterable[LocalAddress]) -> Iterator[Finding]:
    """Tell whether the links are up, and take whole datagrams."""
    for name in dict.fromkeys(place.interface for place in here if place.is_far):
        mtu = read_number(f"/sys/class/net/{name}/mtu")
        up = is_running(name)
        make = partial(
            Finding, "link", f"link {name}", figures={"name": name, "mtu": mtu, "up": up}
        )
        if not up:
            advice = "Is the cable in?"
            yield make("no link", Grade.HINT, advice, (f"ip link set {name} up",))
        elif mtu is not None and mtu < DATAGRAM + HEADERS:
            found = f"MTU {mtu}: a datagram of {DATAGRAM} bytes does not fit in one packet"
            advice = "It is sent in pieces; where one is lost, all is. If the network can, as root:"
            yield make(found, Grade.HINT, advice, (f"ip link set {name} mtu 1500",))
        elif mtu is not None:
            yield make(f"up, MTU {mtu}")


def unwanted() -> int:
    """Count the datagrams that have come to closed ports (udpNoPorts, RFC 4113)."""
    tables = [line.split() for line in read("/proc/net/snmp").splitlines()]
    udp = [words for words in tables if words[0] == "Udp:"]
    return int(dict(zip(*udp, strict=False)).get("NoPorts", 0)) if len(udp) == 2 else 0


def way_to(mrl: Mrl) -> Finding:
    """Tell whether there is a way to a fixed output that is no group; there may be later."""
    where = show((mrl.host, mrl.port))
    make = partial(Finding, "output", "output", figures={"destination": where})
    try:
        name = name_of(index_towards((mrl.host, mrl.port)))
    except OSError as error:
        advice = "The relay tries again for as long as it takes. The way there:"
        host = mrl.host.partition("%")[0]
        found = f"{where}: {_why(error.errno or 0)}"
        return make(found, Grade.HINT, advice, (f"ip route get {host}",))
    return make(f"{where} leaves by {name or 'some interface'}")


# --- a firewall in the way


def firewall(
    here: Sequence[LocalAddress], control: Address, ingest: socket.socket | None, *, running: bool
) -> Finding:
    """Tell whether a connection, and a datagram, to each own address arrives.

    A socket listens at `control`, and `ingest` is what datagrams should arrive at, None if that is
    another program's. A relay that is `running` may listen at fewer addresses.
    """
    tcp = _try_tcp([place.host for place in here], control[1], running=running)
    udp = {} if ingest is None else _try_udp(ingest)
    blocked = [f"TCP {show((host, control[1]))} ({why})" for host, why in tcp.items() if why]
    if ingest is not None:
        at = ingest.getsockname()[1]
        blocked += [f"UDP {show((host, at))} ({why})" for host, why in udp.items() if why]
    figures = {"blocked": blocked, "tcp_tried": list(tcp), "udp_tried": list(udp)}
    make = partial(Finding, "firewall", "firewall", figures=figures)
    if not tcp and not udp:
        return make("not tried: the relay that runs listens at none of these addresses", Grade.HINT)
    if blocked:
        which = ", ".join(blocked[:_LISTED])
        found = f"does not arrive, though it never left this machine: {which}"
        advice = "A firewall drops it. Look, and let it in, as root:"
        ports = [f"{control[1]}/tcp"] + ([f"{ingest.getsockname()[1]}/udp"] if ingest else [])
        return make(found, Grade.WRONG, advice, _remedy(ports))
    only_tcp = "TCP from this machine arrives"
    if running:
        only_tcp += "; UDP is not tried while a relay runs"
    found = "TCP and UDP from this machine arrive" if udp else only_tcp
    far = [place.host for place in here if place.is_far]
    if not far:
        return make(found)
    advice = "Whether it lets in other machines shows only there:"
    return make(found, advice=advice, commands=(f"nc -v {far[0]} {control[1]}",))


def _remedy(ports: Sequence[str]) -> tuple[str, ...]:
    """Name the commands of the firewall that is installed here."""
    if shutil.which("ufw"):
        return ("ufw status", *(f"ufw allow {port}" for port in ports))
    if shutil.which("firewall-cmd"):
        return ("firewall-cmd --list-all", *(f"firewall-cmd --add-port={port}" for port in ports))
    if shutil.which("iptables") and not shutil.which("nft"):
        rule = "iptables -I INPUT -p {1} --dport {0} -j ACCEPT"
        return ("iptables -L -n -v", *(rule.format(*port.split("/")) for port in ports))
    rule = "nft insert rule inet filter input {1} dport {0} accept"
    return ("nft list ruleset", *(rule.format(*port.split("/")) for port in ports))


def _try_tcp(hosts: Sequence[str], port: int, *, running: bool) -> dict[str, str]:
    """Connect to these addresses; return why not, "" if it went well."""
    results: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        waiting: dict[socket.socket, str] = {}
        for host in hosts:
            sock = stack.enter_context(socket.socket(family_of((host, port)), socket.SOCK_STREAM))
            sock.setblocking(False)
            waiting[sock] = host
            error = sock.connect_ex((host, port))
            if error not in (0, errno.EINPROGRESS):
                results[waiting.pop(sock)] = _why(error)
        deadline = Loop.time() + PATIENCE
        while waiting and (left := deadline - Loop.time()) > 0:
            for sock in select.select((), list(waiting), (), left)[1]:
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                host = waiting.pop(sock)
                if not (error == errno.ECONNREFUSED and running):
                    results[host] = _why(error) if error else ""
        results |= dict.fromkeys(waiting.values(), "no answer")
    return results


def _try_udp(ingest: socket.socket) -> dict[str, str]:
    """Send a datagram from each own address to itself; return why it did not arrive."""
    bound = ingest.getsockname()
    hosts = [place.host for place in places(bound)]
    token, port = os.urandom(8), bound[1]
    waiting, results = dict[bytes, str](), dict[str, str]()
    for number, host in enumerate(hosts):
        words = token + number.to_bytes(2, "big")
        with socket.socket(family_of((host, port)), socket.SOCK_DGRAM) as sock:
            try:
                sock.bind((host, 0))
                sock.sendto(words, (host, port))
                waiting[words] = host
            except OSError as error:
                results[host] = _why(error.errno or 0)
    come = heard(ingest, waiting)
    return results | {host: "" if words in come else "lost" for words, host in waiting.items()}


def heard(sock: socket.socket, expected: Iterable[bytes]) -> set[bytes]:
    """Return which of these datagrams come to a socket, from this machine."""
    missing, come = set(expected), set[bytes]()
    deadline = Loop.time() + PATIENCE
    while missing and (left := deadline - Loop.time()) > 0:
        if select.select((sock,), (), (), left)[0]:
            with contextlib.suppress(OSError):
                words = sock.recv(_SIZE)
                come |= missing & {words}
                missing.discard(words)
    return come


def _why(error: int) -> str:
    return os.strerror(error).lower()
