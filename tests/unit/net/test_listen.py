"""Opening ports to listen on, and what is said when that fails."""

import contextlib
import errno
import socket
from unittest import mock

import pytest

from relaylib.errors import SetupError
from relaylib.net import listen
from tools.lab.process import need_ipv6
from tools.lab.sockets import udp_socket, unused_port


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "::0"])
def test_port_0_is_one_port_for_both(host: str) -> None:
    """The kernel's choice is free for TCP and for UDP, and neither socket blocks."""
    need_ipv6(host)
    listener, ingest = listen.bind_pair(host, 0, None)
    with listener, ingest:
        assert listener.getsockname()[1] == ingest.getsockname()[1] != 0
        assert not listener.getblocking()
        assert not ingest.getblocking()
        if ":" in host:
            only = listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            assert bool(only) == (host == "::1")


def test_the_ingest_may_be_elsewhere() -> None:
    """Two ports are bound if two are asked for, 0 again being the kernel's choice."""
    listener, ingest = listen.bind_pair("127.0.0.1", 0, 0)
    with listener, ingest:
        assert ingest.getsockname()[1] != 0


def test_sockets_that_are_bound_already_are_used() -> None:
    """A socket that a service manager opened is taken as it is; the other joins its port."""
    with udp_socket(port=unused_port()) as given:
        listener, ingest = listen.bind_pair("127.0.0.1", 0, None, ingest=given)
        with listener:
            assert ingest is given
            assert listener.getsockname() == given.getsockname()
    with socket.create_server(("127.0.0.1", 0)) as given:
        listener, ingest = listen.bind_pair("127.0.0.1", 0, None, listener=given)
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
            listen.bind_pair("127.0.0.1", port, None)
        other = socket.SOCK_DGRAM if kind == socket.SOCK_STREAM else socket.SOCK_STREAM
        stack.enter_context(listen.bind("127.0.0.1", port, other))


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
        listen.bind_pair(host, 0, None)
    assert failure.value.status == 1


def test_a_machine_without_ipv6_says_so() -> None:
    """Where the address family does not exist, that too is one reason and no traceback."""
    error = OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
    with (
        mock.patch("socket.socket", side_effect=error),
        pytest.raises(SetupError, match=r"cannot listen on UDP \[::1\]:9: Address family"),
    ):
        listen.bind("::1", 9, socket.SOCK_DGRAM)


@pytest.mark.parametrize("host", ["239.1.1.1", "255.255.255.255", "ff02::1"])
def test_an_address_of_many_is_no_place_to_listen(host: str) -> None:
    """TCP cannot be reached at a group's address, so the relay says so at once."""
    with pytest.raises(SetupError, match="nobody can connect"):
        listen.resolve_own(host, 0)
