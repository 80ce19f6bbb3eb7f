"""What the relay asks of the kernel, tried on real sockets."""

import ipaddress
import resource
import socket
import subprocess
import sys

import pytest

from relaylib.net import linux
from relaylib.net.source_filter import assemble
from tools.lab.process import ROOT, need_ipv6
from tools.lab.sockets import source, udp_socket

pytestmark = pytest.mark.skipif(not linux.LINUX, reason="needs Linux")


def waiting(sock: socket.socket) -> list[bytes]:
    """Return what is in a socket's queue."""
    sock.setblocking(False)
    datagrams: list[bytes] = []
    try:
        while True:
            datagrams.append(sock.recv(65536))
    except BlockingIOError:
        return datagrams


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_send_leaves_as_many_datagrams(host: str) -> None:
    """With a segment size one send arrives as datagrams of that size, the last one shorter."""
    need_ipv6(host)
    assert linux.can_segment()
    with udp_socket(host) as player, source(player.getsockname()[1], host) as sender:
        linux.set_segment(sender, 1000)
        sender.send(b"a" * 1000 + b"b" * 1000 + b"c" * 10)
        linux.set_segment(sender, 0)
        sender.send(b"d" * 2010)
        assert waiting(player) == [b"a" * 1000, b"b" * 1000, b"c" * 10, b"d" * 2010]


def test_a_full_buffer_is_counted() -> None:
    """What found the receive buffer full shows in `dropped`."""
    with udp_socket() as sink, source(sink.getsockname()[1]) as sender:
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        before = linux.dropped(sink)
        for _ in range(100):
            sender.send(bytes(1316))
        assert before == 0
        assert len(waiting(sink)) + linux.dropped(sink) == 100
        assert linux.dropped(sink) > 0


def test_the_buffer_granted_is_reported() -> None:
    """The receive buffer grows as far as it may, and the number is the kernel's real one."""
    with udp_socket() as sink:
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        granted = linux.grow_receive_buffer(sink, 1 << 20)
        assert 4096 < granted <= 1 << 20
        assert sink.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * granted


def test_a_larger_buffer_is_left_alone() -> None:
    """A receive buffer that the manager granted is never made smaller (ReceiveBuffer=)."""
    with udp_socket() as ingest:
        ingest.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
        granted = ingest.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        linux.grow_receive_buffer(ingest, 10_000)
        assert ingest.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == granted


def test_datagrams_may_be_fragmented_on_their_way() -> None:
    """IPv4 datagrams leave without the don't-fragment flag (IP_MTU_DISCOVER is 10)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        linux.allow_fragments(sock)
        assert sock.getsockopt(socket.IPPROTO_IP, 10) == 0


def test_the_descriptor_limit_is_raised() -> None:
    """The soft limit becomes the hard one."""
    hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 4096)
    script = (
        "import resource\n"
        "from relaylib.net.descriptors import raise_descriptor_limit\n"
        "raise_descriptor_limit()\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard)),
    )
    assert done.stdout.split() == [str(hard), str(hard)]


@pytest.mark.parametrize(
    ("bound", "sender", "network", "arrives"),
    [
        ("0.0.0.0", "127.0.0.2", "127.0.0.2/32", True),
        ("0.0.0.0", "127.0.0.2", "127.0.0.4/30", False),
        ("0.0.0.0", "127.0.0.2", "::/0", False),
        ("::", "127.0.0.2", "127.0.0.0/30", True),
        ("::", "127.0.0.2", "127.0.0.3/32", False),
        ("::", "::1", "::1/128", True),
        ("::", "::1", "0.0.0.0/0", False),
        ("::", "::1", "::2/128", False),
    ],
)
def test_senders_are_filtered(bound: str, sender: str, network: str, arrives: bool) -> None:
    """What is not from the network is dropped, but for a small sample, and counted."""
    need_ipv6(bound)
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sink, udp_socket(sender) as stranger:
        if family == socket.AF_INET6:
            sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        linux.grow_receive_buffer(sink, 1 << 20)
        sink.bind((bound, 0))
        assert linux.set_filter(sink, assemble((ipaddress.ip_network(network),)))
        for _ in range(100):
            stranger.sendto(b"datagram", (sender, sink.getsockname()[1]))
        got = len(waiting(sink))
        assert (got == 100) if arrives else (got < 20)
        assert got + linux.dropped(sink) == 100


def test_a_filter_can_be_replaced_and_removed() -> None:
    """Each takes the place of the one before; none, or one that the kernel declines: none."""
    nobody, local = assemble(()), assemble((ipaddress.ip_network("127.0.0.0/8"),))
    with udp_socket() as sink, source(sink.getsockname()[1]) as sender:
        for program, attached in ((nobody, True), (local, True), (nobody, True), (b"", False),
                                  (nobody, True), (b"\xff" * 8, False), (b"", False)):  # fmt: skip
            assert linux.set_filter(sink, program) is attached
            for _ in range(100):
                sender.send(b"datagram")
            assert (len(waiting(sink)) < 20) is (program == nobody)
