"""What the system knows of addresses."""

import contextlib
import ipaddress
import socket
import sys

import pytest

from relaylib.net import lookup
from relaylib.net.address import Address
from tools.lab.netns import Network


def test_only_our_own_addresses_are_local() -> None:
    """An address is local if it can be bound here, whatever its port."""
    assert lookup.is_local(("127.0.0.1", 80))
    assert lookup.is_local(("127.3.2.1", 5004))
    assert not lookup.is_local(("192.0.2.1", 5004))
    assert not lookup.is_local(("2001:db8::1", 5004, 0, 0))


@pytest.mark.parametrize(
    ("destination", "ingest", "back"),
    [
        (("127.0.0.1", 5004), ("0.0.0.0", 5004), True),
        (("127.0.0.1", 5004), ("::", 5004, 0, 0), True),
        (("127.0.0.1", 5005), ("0.0.0.0", 5004), False),
        (("192.0.2.1", 5004), ("0.0.0.0", 5004), False),
        (("239.1.1.1", 5004), ("239.1.1.1", 5004), True),
        (("ff02::1", 5004, 0, 2), ("ff02::1", 5004, 0, 2), True),
        (("239.1.1.2", 5004), ("239.1.1.1", 5004), False),
        (("239.1.1.1", 5006), ("239.1.1.1", 5004), False),
        (("127.0.0.1", 5004), ("239.1.1.1", 5004), False),
        (("239.1.1.1", 5004), ("0.0.0.0", 5004), False),
    ],
)
def test_what_would_come_back_in(destination: Address, ingest: Address, back: bool) -> None:
    """A destination is the ingest if it is its group, or one of our addresses and it is no group:
    a group's socket receives only the group, and any other receives none.
    """
    assert lookup.comes_back(destination, ingest) is back


def test_a_wildcard_is_named_by_an_address_that_others_can_use() -> None:
    """What a viewer should type is never a wildcard."""
    assert lookup.reachable_host("127.0.0.1") == "127.0.0.1"
    assert lookup.reachable_host("fe80::1%lo") == "fe80::1%lo"
    for wildcard in ("0.0.0.0", "::"):
        assert not ipaddress.ip_address(lookup.reachable_host(wildcard)).is_unspecified


def test_a_machine_with_ipv6_alone_is_named_by_it() -> None:
    """Where nothing leads out but IPv6, a relay on every address is named by its IPv6 lookup."""
    with contextlib.ExitStack() as stack:
        host = Network(stack).host("six")
        host.ip("address", "flush", "dev", "eth0", "scope", "global")
        code = "from relaylib.net.lookup import *; print(*map(reachable_host, ('::', '0.0.0.0')))"
        command = (sys.executable, "-c", code)
        assert host.exec(*command) == "127.0.0.1 127.0.0.1\n"
        host.ip("address", "add", f"{host.address6}/64", "dev", "eth0")
        host.ip("-6", "route", "add", "default", "dev", "eth0")
        assert host.exec(*command) == f"{host.address6} 127.0.0.1\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_is_looked_up_as_itself(host: str) -> None:
    """What is an address already has its family and port."""
    family, found = lookup.resolve(host, 5004)
    assert found[:2] == (host, 5004)
    assert family == lookup.family_of(found) == (socket.AF_INET6 if ":" in host else socket.AF_INET)
