"""Addresses as the system knows them: of a name, of this machine, towards other hosts."""

import contextlib
import ipaddress
import socket
from typing import cast

from relaylib.errors import SetupError
from relaylib.net.address import Address, unmapped, with_port
from relaylib.net.mrl import is_group


def family_of(address: Address) -> socket.AddressFamily:
    """Tell AF_INET6 from AF_INET."""
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def is_local(address: Address) -> bool:
    """Tell whether an address is one of this machine's: only those can be bound."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(with_port(address, 0))
        except OSError:
            return False
    return True


def is_own(address: Address) -> bool:
    """Tell the same as `is_local`; False if the system has no descriptor for the test."""
    try:
        return is_local(address)
    except OSError:  # no descriptor to find out with
        return False


def comes_back(destination: Address, ingest: Address) -> bool:
    """Tell whether datagrams to this destination arrive at an ingest bound to this address.

    An ingest that receives a group is bound to the group's address and receives nothing else. No
    other ingest has joined a group.
    """
    if destination[1] != ingest[1]:
        return False
    if is_group(destination[0]) or is_group(ingest[0]):
        return destination[0] == ingest[0]
    return destination[0] == unmapped(ingest)[0] or is_local(destination)


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, Address]:
    """Look up a name, for a socket that is bound or connected.

    Raises:
        SetupError: the name has no address.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError:
        raise SetupError(f"unknown host: {host} (no name is like that)") from None
    except OSError as error:
        raise SetupError(f"unknown host: {host} ({error.strerror})") from None
    family, _, _, _, address = found[0]
    return family, cast(Address, address)


def reachable_host(host: str) -> str:
    """Return the address that a viewer would type for a relay bound to `host`.

    A wildcard has no such address, so the kernel is asked which one it would use to leave this
    machine. Connecting a UDP socket sends nothing, and 192.0.2.1 (RFC 5737) and 2001:db8::1
    (RFC 3849) are reserved for documentation, so that no host has them.
    """
    if not ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        return host
    for nobody in ("192.0.2.1", "2001:db8::1") if ":" in host else ("192.0.2.1",):
        with (
            contextlib.suppress(OSError),
            socket.socket(family_of((nobody, 9)), socket.SOCK_DGRAM) as probe,
        ):
            probe.connect((nobody, 9))
            return str(probe.getsockname()[0])
    return "127.0.0.1"
