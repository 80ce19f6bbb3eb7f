"""Addresses: what they are, how people write them, what they are looked up from."""

import socket
from typing import Annotated, cast

from relaylib.errors import SetupError


def _is_ip(text: str) -> bool:
    try:
        socket.inet_pton(_family(text), text.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


Host = Annotated[str, _is_ip]
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


def unmapped(address: Address) -> Address:
    """Turn an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2) into the IPv4 address that it means."""
    host = address[0]
    if host.startswith(_MAPPED):
        return (host.removeprefix(_MAPPED), address[1])
    return address


def family_of(address: Address) -> socket.AddressFamily:
    """Tell AF_INET6 from AF_INET."""
    return _family(address[0])


def with_port(address: Address, port: int) -> Address:
    """Return another port of the same host."""
    return (address[0], port) if len(address) == 2 else (address[0], port, *address[2:])


def is_local(address: Address) -> bool:
    """Tell whether an address is one of this machine's: only those can be bound."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(with_port(address, 0))
        except OSError:
            return False
    return True


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, Address]:
    """Look up a name, for a socket that is bound or connected.

    Raises:
        SetupError: the name has no address.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise SetupError(f"unknown host: {host}") from None
    family, _, _, _, address = found[0]
    return family, cast(Address, address)
