"""Addresses as values: what one is, and how people write it. Pure."""

import functools
import ipaddress
from typing import Annotated


@functools.lru_cache(4096)
def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


Host = Annotated[str, is_ip]
"""An IP address, IPv6 perhaps with its zone: fe80::1%eth0."""
Port = Annotated[int, range(1 << 16).__contains__]
_Number = Annotated[int, range(1 << 32).__contains__]

Address = tuple[Host, Port] | tuple[Host, Port, _Number, _Number]
"""What `getsockname` returns: (host, port) or (host, port, flow info, scope ID)."""

_MAPPED = "::ffff:"


def show(address: Address) -> str:
    """Write an address as people do: 192.0.2.1:5004, [2001:db8::1]:5004."""
    host, port = address[0].removeprefix(_MAPPED), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def player_url(scheme: str, port: int, *, ipv6: bool) -> str:
    """Name the address where a player on its own host listens; `scheme` is udp or rtp.

    Players show raw MPEG-TS and RTP at udp://, but nothing of a raw stream at rtp://. Without a
    host VLC listens on IPv4 only; `[::]` makes it both.
    """
    return f"{scheme}://@{'[::]' if ipv6 else ''}:{port}"


def unmapped(address: Address) -> Address:
    """Turn an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2) into the IPv4 address that it means."""
    host = address[0]
    if host.startswith(_MAPPED):
        return (host.removeprefix(_MAPPED), address[1])
    return address


def with_port(address: Address, port: int) -> Address:
    """Return another port of the same host."""
    return (address[0], port) if len(address) == 2 else (address[0], port, *address[2:])
