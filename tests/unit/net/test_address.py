"""Addresses: shown, resolved and bound."""

import contextlib
import errno
import ipaddress
import socket
import sys
from unittest import mock

import pytest

from relaylib.errors import SetupError
from relaylib.net import address
from relaylib.net.address import Address
from tools.lab.netns import Network
from tools.lab.process import need_ipv6
from tools.lab.sockets import udp_socket, unused_port


@pytest.mark.parametrize(
    ("raw", "shown", "plain"),
    [
        (("192.0.2.1", 5004), "192.0.2.1:5004", ("192.0.2.1", 5004)),
        (("2001:db8::1", 5004, 0, 0), "[2001:db8::1]:5004", ("2001:db8::1", 5004, 0, 0)),
        (("::ffff:192.0.2.1", 5004, 0, 0), "192.0.2.1:5004", ("192.0.2.1", 5004)),
        (("fe80::1%eth0", 9, 0, 2), "[fe80::1%eth0]:9", ("fe80::1%eth0", 9, 0, 2)),
    ],
)
def test_addresses_are_shown_as_people_write_them(raw: Address, shown: str, plain: Address) -> None:
    """IPv6 is bracketed, and an IPv4-mapped address is the IPv4 address that it means."""
    assert address.show(raw) == shown
    assert address.unmapped(raw) == plain
    expected = socket.AF_INET6 if ":" in plain[0] else socket.AF_INET
    assert address.family_of(plain) == expected


def test_only_our_own_addresses_are_local() -> None:
    """An address is local if it can be bound here, whatever its port."""
    assert address.is_local(("127.0.0.1", 80))
    assert address.is_local(("127.3.2.1", 5004))
    assert not address.is_local(("192.0.2.1", 5004))
    assert not address.is_local(("2001:db8::1", 5004, 0, 0))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "::0"])
def test_port_0_is_one_port_for_both(host: str) -> None:
    """The kernel's choice is free for TCP and for UDP, and neither socket blocks."""
    need_ipv6(host)
    listener, ingest = address.bind_pair(host, 0, None)
    with listener, ingest:
        assert listener.getsockname()[1] == ingest.getsockname()[1] != 0
        assert not listener.getblocking()
        assert not ingest.getblocking()
        if ":" in host:
            only = listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            assert bool(only) == (host == "::1")


def test_the_ingest_may_be_elsewhere() -> None:
    """Two ports are bound if two are asked for, 0 again being the kernel's choice."""
    listener, ingest = address.bind_pair("127.0.0.1", 0, 0)
    with listener, ingest:
        assert ingest.getsockname()[1] != 0


def test_sockets_that_are_bound_already_are_used() -> None:
    """A socket that a service manager opened is taken as it is; the other joins its port."""
    with udp_socket() as given:
        listener, ingest = address.bind_pair("127.0.0.1", 0, None, ingest=given)
        with listener:
            assert ingest is given
            assert listener.getsockname() == given.getsockname()
    with socket.create_server(("127.0.0.1", 0)) as given:
        listener, ingest = address.bind_pair("127.0.0.1", 0, None, listener=given)
        with ingest:
            assert listener is given
            assert ingest.getsockname() == given.getsockname()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_taken_port_leaves_nothing_open(kind: socket.SocketKind) -> None:
    """If one of the two ports is taken, the reason names it, and the other one is free again."""
    with socket.socket(socket.AF_INET, kind) as taken, contextlib.ExitStack() as stack:
        port = unused_port()
        taken.bind(("127.0.0.1", port))
        with pytest.raises(SetupError, match=f"already in use: 127.0.0.1:{port}"):
            address.bind_pair("127.0.0.1", port, None)
        other = socket.SOCK_DGRAM if kind == socket.SOCK_STREAM else socket.SOCK_STREAM
        stack.enter_context(address.bind("127.0.0.1", port, other))


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("a..b", "unknown host: a..b"),
        ("192.0.2.1", "not an address of this machine: 192.0.2.1:0"),
    ],
)
def test_hosts_that_cannot_be_bound(host: str, reason: str) -> None:
    """Every host that cannot be listened on is a `SetupError` that names it."""
    with pytest.raises(SetupError, match=reason) as failure:
        address.bind_pair(host, 0, None)
    assert failure.value.status == 1


def test_a_machine_without_ipv6_says_so() -> None:
    """Where the address family does not exist, that too is one reason and no traceback."""
    error = OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
    with (
        mock.patch("socket.socket", side_effect=error),
        pytest.raises(SetupError, match=r"cannot listen on UDP \[::1\]:9: Address family"),
    ):
        address.bind("::1", 9, socket.SOCK_DGRAM)


def test_a_wildcard_is_named_by_an_address_that_others_can_use() -> None:
    """What a viewer should type is never a wildcard."""
    assert address.reachable_host("127.0.0.1") == "127.0.0.1"
    assert address.reachable_host("fe80::1%lo") == "fe80::1%lo"
    for wildcard in ("0.0.0.0", "::"):
        assert not ipaddress.ip_address(address.reachable_host(wildcard)).is_unspecified


def test_a_machine_with_ipv6_alone_is_named_by_it() -> None:
    """Where nothing leads out but IPv6, a relay on every address is named by its IPv6 address."""
    with contextlib.ExitStack() as stack:
        host = Network(stack).host("six")
        host.ip("address", "flush", "dev", "eth0", "scope", "global")
        code = "from relaylib.net.address import *; print(*map(reachable_host, ('::', '0.0.0.0')))"
        command = (sys.executable, "-c", code)
        assert host.exec(*command) == "127.0.0.1 127.0.0.1\n"
        host.ip("address", "add", f"{host.address6}/64", "dev", "eth0")
        host.ip("-6", "route", "add", "default", "dev", "eth0")
        assert host.exec(*command) == f"{host.address6} 127.0.0.1\n"


@pytest.mark.parametrize("host", ["239.1.1.1", "255.255.255.255", "ff02::1"])
def test_an_address_of_many_is_no_place_to_listen(host: str) -> None:
    """TCP cannot be reached at a group's address, so the relay says so at once."""
    with pytest.raises(SetupError, match="nobody can connect"):
        address.resolve_own(host, 0)
