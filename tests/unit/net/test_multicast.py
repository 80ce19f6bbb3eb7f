"""Multicast groups on loopback; over a network of real hosts they are tested in `netns`."""

import contextlib
import errno
import socket
from collections.abc import Iterator
from unittest import mock

import pytest

from relaylib.errors import SetupError
from relaylib.net import linux, multicast
from relaylib.net.mrl import Mrl, parse
from relaylib.source.sockets import IngestSockets
from tools.lab.process import need_ipv6
from tools.lab.sockets import udp_socket, unused_port

pytestmark = pytest.mark.skipif(not linux.LINUX, reason="interfaces are named by their addresses")

GROUP, GROUP6 = "239.255.77.3", "ff15::77:3"


def way_in(group: str = GROUP, source: str = "", iface: str = "lo") -> Mrl:
    """Name a group on a port that is free."""
    return Mrl("udp", source, group, unused_port(), iface)


@contextlib.contextmanager
def receiver(mrl: Mrl) -> Iterator[tuple[socket.socket, multicast.Membership]]:
    """A socket that is a member."""
    sock, membership = multicast.bind_group(mrl)
    with sock:
        yield sock, membership


@contextlib.contextmanager
def sender(to: Mrl, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A socket that sends from this address to a group, by the interface that its MRL names."""
    with udp_socket(host) as sock:
        multicast.set_sending(sock, to)
        sock.connect((to.host, to.port))
        yield sock


def waiting(sock: socket.socket) -> list[bytes]:
    """Return what is in a socket's queue."""
    found = []
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(sock.recv(100))
    return found


@pytest.mark.parametrize("iface", ["lo", "127.0.0.1", "::1"])
def test_members_receive_what_is_sent_to_the_group(iface: str) -> None:
    """Each of several sockets at the port gets a copy; one that has left gets nothing, until it
    joins again. An interface may be named by any of its addresses.
    """
    need_ipv6(iface)
    mrl = way_in(iface=iface)
    with (
        receiver(mrl) as (one, membership),
        receiver(mrl) as (two, _),
        sender(mrl) as sock,
    ):
        sock.send(b"both")
        membership.leave()
        sock.send(b"two")
        membership.join()
        membership.join()
        sock.send(b"both")
        assert (waiting(one), waiting(two)) == ([b"both"] * 2, [b"both", b"two", b"both"])
        assert membership.interface == "lo"


def test_a_source_specific_group_is_its_sources() -> None:
    """What another source sends to the same group stays out, though another program wants it."""
    mrl = way_in("232.255.77.3", source="127.0.0.2")
    with (
        receiver(mrl) as (specific, _),
        receiver(Mrl("udp", "", mrl.host, mrl.port, "lo")) as (anybody, _),
        sender(mrl, "127.0.0.2") as its,
        sender(mrl, "127.0.0.3") as other,
    ):
        its.send(b"its")
        other.send(b"other")
        assert (waiting(specific), waiting(anybody)) == ([b"its"], [b"its", b"other"])


def test_an_ordinary_ingest_hears_no_group() -> None:
    """A socket on every address gets nothing of a group that another program here has joined."""
    mrl = way_in()
    with (
        receiver(mrl) as (wanted, _),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s,
        sender(mrl) as sock,
    ):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("0.0.0.0", mrl.port))
        with contextlib.closing(IngestSockets(s, shared=False)):
            sock.send(b"to the group")
            assert (waiting(s), waiting(wanted)) == ([], [b"to the group"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("udp://@239.1.1.1?iface=nosuch0", "cannot join 239.1.1.1:1234: there is no interface no"),
        ("udp://@239.1.1.1?iface=192.0.2.9", "no interface has the address 192.0.2.9"),
        ("udp://[::1]@[ff35::1]?iface=nosuch0", r"cannot join \[ff35::1\]:1234: there is no inter"),
    ],
)
def test_a_group_that_cannot_be_joined_is_told_why(text: str, complaint: str) -> None:
    """There is one plain sentence for each reason."""
    with pytest.raises(SetupError, match=complaint):
        multicast.bind_group(parse(text))


def test_a_port_that_is_taken_is_told() -> None:
    """A port of another program that does not share it is in use."""
    mrl = way_in()
    with (
        udp_socket("0.0.0.0", mrl.port),
        pytest.raises(SetupError, match="UDP port is already in use"),
    ):
        multicast.bind_group(mrl)


def test_other_systems_have_no_source_specific_groups() -> None:
    """There, the reason is that it takes Linux; a group that anybody sends to is joined."""
    with mock.patch.object(linux, "LINUX", False):
        with pytest.raises(SetupError, match="a group of one source takes Linux"):
            multicast.bind_group(way_in(source="127.0.0.2", iface="127.0.0.1"))
        with pytest.raises(SetupError, match="by its address, not by its name: lo"):
            multicast.bind_group(way_in())
        mrl = way_in(iface="127.0.0.1")
        with receiver(mrl) as (sock, membership):
            membership.leave()
            membership.join()
            with udp_socket() as source:
                multicast.set_sending(source, mrl)
                source.sendto(b"x", (mrl.host, mrl.port))
            assert waiting(sock) == [b"x"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_ttl_is_set_for_groups_or_for_others(host: str) -> None:
    """Sending to a group has a limit of hops of its own; without a ttl nothing is changed."""
    six = ":" in host
    need_ipv6(host)
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    options = (
        (socket.IPV6_MULTICAST_HOPS, socket.IPV6_UNICAST_HOPS)
        if six
        else (socket.IP_MULTICAST_TTL, socket.IP_TTL)
    )
    group = GROUP6 if six else GROUP
    with udp_socket(host) as sock:
        before = [sock.getsockopt(level, option) for option in options]
        multicast.set_sending(sock, Mrl("udp", "", group, 5004))
        assert [sock.getsockopt(level, option) for option in options] == before
        multicast.set_sending(sock, Mrl("udp", "", group, 5004, ttl=9))
        multicast.set_sending(sock, Mrl("udp", "", host, 5004, ttl=7))
        assert [sock.getsockopt(level, option) for option in options] == [9, 7]
        with pytest.raises(OSError, match="there is no interface nosuch0") as error:
            multicast.set_sending(sock, Mrl("udp", "", group, 5004, "nosuch0"))
        assert error.value.errno == errno.ENODEV
