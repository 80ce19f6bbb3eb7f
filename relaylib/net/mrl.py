"""VLC's notation for where a stream comes from and where it goes. Pure.

In:   udp://@:5004                      any of our addresses
      udp://@192.168.1.5:5004           this one
      udp://@239.1.1.1:5004             a multicast group, from any source
      rtp://10.0.0.5@232.1.1.1:5004     a group, but only what this source sends to it
      udp://@[ff15::1]:5004?iface=eth0  a group, as this interface receives it
Out:  udp://239.2.2.2:5004?ttl=4&iface=eth0
      rtp://10.0.0.7:5004

An interface has a name or an address; an IPv6 group may carry its name as its zone, [ff02::1%eth0].
"""

import ipaddress
import re
from dataclasses import dataclass, replace

DEFAULT_PORTS = {"udp": 1234, "rtp": 5004}
"""Where VLC listens, and where it sends to, if an MRL has no port."""

_SHAPE = re.compile(
    r"(?P<scheme>udp|rtp)://"
    r"(?:(?P<source>\[[^\[\]@/?#\s]+\]|[^\[\]@:/?#\s]*)@)?"
    r"(?P<host>\[[^\[\]@/?#\s]+\]|[^\[\]@:/?#\s]*)"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
    r"(?:\?(?P<options>[^?#\s]*))?",
    re.ASCII | re.IGNORECASE,
)

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Mrl:
    """An MRL, parsed. Names are not looked up, and addresses are not compared with our own.

    `source`: the only address that may send, "" for any. `host`: a name or an address, IPv6
    without brackets, perhaps with a zone unless it is a group; "" for any of our addresses.
    `iface`: the name or an address of an interface, "" for the system's choice.
    """

    scheme: str
    source: str
    host: str
    port: int
    iface: str = ""
    ttl: int | None = None

    def __str__(self) -> str:
        """Write it as `--ingest` takes it."""
        source, host = (f"[{each}]" if ":" in each else each for each in (self.source, self.host))
        options = [f"ttl={self.ttl}"] if self.ttl is not None else []
        options += [f"iface={self.iface}"] if self.iface else []
        query = "?" * bool(options) + "&".join(options)
        return f"{self.scheme}://{source}@{host}:{self.port}{query}"

    @property
    def is_group(self) -> bool:
        """Whether the host is a multicast group."""
        return is_group(self.host)

    @property
    def way(self) -> tuple[str, int, str]:
        """The identity of an output: its host, port and interface."""
        return self.host, self.port, self.iface


def is_group(host: str) -> bool:
    """Tell whether a host, which may be a name, is the address of a multicast group."""
    ip = _ip(host)
    return ip is not None and ip.is_multicast


def parse(text: str) -> Mrl:
    """Read an MRL.

    Raises:
        ValueError: it is not an MRL; `str()` says why.
    """
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise ValueError(f"not an MRL (udp://@:5004, rtp://@239.1.1.1:5004): {text!r}")
    scheme = found["scheme"].lower()
    source, host = (_bare(found[name] or "", text) for name in ("source", "host"))
    options = _options(found["options"] or "", text)
    iface = options.get("iface", "").removeprefix("[").removesuffix("]")
    if is_group(host):
        host, _, zone = host.partition("%")
        if zone and iface not in ("", zone):
            raise ValueError(f"names two interfaces, {zone} and {iface}: {text!r}")
        iface = iface or zone
    _check_source(source, host, text)
    return Mrl(scheme, source, host, _port(found["port"], scheme, text), iface, _ttl(options, text))


def parse_output(text: str) -> Mrl:
    """Read the MRL of an output: the address of one host, or a group.

    Names are not taken: to look one up again when it has changed would keep the stream waiting.

    Raises:
        ValueError: it is not such an MRL; `str()` says why.
    """
    mrl = parse(text)
    ip = _ip(mrl.host)
    if ip is None or ip.is_unspecified or ip == ipaddress.IPv4Address("255.255.255.255"):
        message = f"not the address of a host or group to send to (names do not do): {mrl.host!r}"
        raise ValueError(f"{message} in {text!r}")
    if mrl.source:
        raise ValueError(f"{mrl.source}@ names a source, which is for --ingest: {text!r}")
    if mrl.iface and not ip.is_multicast:
        raise ValueError(f"an interface is for groups, a route leads to a host: {text!r}")
    if mrl.ttl == 0 and not ip.is_multicast:
        raise ValueError(f"a ttl of 0 is for groups, it reaches no host: {text!r}")
    return replace(mrl, host=str(ip))


def _bare(host: str, text: str) -> str:
    """Take the brackets off: they enclose an IPv6 address, and only that."""
    if not host.startswith("["):
        return host
    address = host[1:-1]
    ip = _ip(address)
    if ip is None or ip.version != 6 or address.endswith("%"):
        raise ValueError(f"not an IPv6 address: {host} in {text!r}")
    if ip.ipv4_mapped:
        raise ValueError(f"write the IPv4 address plainly: {host} in {text!r}")
    return address


def _options(query: str, text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for option in query.split("&") if query else ():
        name, _, value = option.partition("=")
        if name not in ("iface", "ttl"):
            raise ValueError(f"no option of an MRL (there are iface and ttl): {name!r} in {text!r}")
        if name in options:
            raise ValueError(f"{name} stands twice in {text!r}")
        options[name] = value
    return options


def _port(digits: str | None, scheme: str, text: str) -> int:
    port = DEFAULT_PORTS[scheme] if digits is None else int(digits)
    if not 1 <= port <= 65535:
        raise ValueError(f"not a port (1 to 65535): {digits} in {text!r}")
    return port


def _ttl(options: dict[str, str], text: str) -> int | None:
    digits = options.get("ttl")
    if not digits:
        return None
    if digits.isascii() and digits.isdecimal() and len(digits) <= 3 and int(digits) <= 255:
        return int(digits)
    raise ValueError(f"not a ttl (0 to 255): {digits!r} in {text!r}")


def _check_source(source: str, host: str, text: str) -> None:
    if not source:
        return
    ip = _ip(source)
    if ip is None or ip.is_multicast or ip.is_unspecified or "%" in source:
        raise ValueError(f"not the address of a source: {source!r} in {text!r}")
    there = _ip(host)
    if there is not None and there.version != ip.version:
        raise ValueError(f"{source} cannot send to {host}, one is IPv4 and one IPv6: {text!r}")


def _ip(host: str) -> _IP | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
