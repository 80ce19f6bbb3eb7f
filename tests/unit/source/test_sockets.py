"""The stream's socket and the standby socket: the kernel parts the senders."""

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from relaylib.net import linux
from relaylib.net.source_filter import assemble
from relaylib.source.sockets import IngestSockets
from tools.lab.inprocess import no_descriptors
from tools.lab.process import need_ipv6
from tools.lab.sockets import source, udp_socket

pytestmark = pytest.mark.skipif(not linux.LINUX, reason="other systems part senders otherwise")

LOOPBACK_2, LOOPBACK_3 = (ipaddress.ip_network(f"127.0.0.{n}") for n in (2, 3))
BOUND = ["127.0.0.1", "0.0.0.0", "::1", "::"]


def waiting(sock: socket.socket | None) -> list[bytes]:
    """Return what is in a socket's queue."""
    assert sock is not None
    datagrams: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            datagrams.append(sock.recv(65536))
    return datagrams


@contextlib.contextmanager
def pair(
    bound: str = "127.0.0.1", *, program: bytes = b"", shared: bool = False
) -> Iterator[IngestSockets]:
    """A pair as the ingest begins with it, closed at the end."""
    need_ipv6(bound)
    with socket.socket(socket.AF_INET6 if ":" in bound else socket.AF_INET, socket.SOCK_DGRAM) as s:
        if bound == "::":
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        s.bind((bound, 0))
        s.setblocking(False)
        sockets = IngestSockets(s, program, shared=shared)
        try:
            yield sockets
        finally:
            sockets.close()


def port(sockets: IngestSockets) -> int:
    """Return where to send to."""
    number: int = sockets.stream.getsockname()[1]
    return number


@pytest.mark.parametrize("bound", BOUND)
def test_the_kernel_parts_the_active_source_from_the_others(bound: str) -> None:
    """Once connected, one source arrives on the stream's socket, everybody else on the other."""
    host = "::1" if bound == "::1" else "127.0.0.1"
    with (
        pair(bound) as sockets,
        source(port(sockets), host) as active,
        source(port(sockets), host) as one,
        source(port(sockets), host) as two,
    ):
        active.send(b"first")
        one.send(b"early")
        _, name = sockets.stream.recvfrom(100)
        sockets.connect(name)
        assert sockets.state.compare
        assert waiting(sockets.stream) == [b"early"]
        sockets.drained()
        assert not sockets.state.compare
        for _ in range(10):
            for sender, text in ((active, b"active"), (one, b"one"), (two, b"two")):
                sender.send(text)
        assert waiting(sockets.stream) == [b"active"] * 10
        assert waiting(sockets.standby) == [b"one", b"two"] * 10


def test_a_takeover_exchanges_the_roles() -> None:
    """The standby socket becomes the stream's, open as before, and can be connected in its turn."""
    with (
        pair() as sockets,
        source(port(sockets)) as first,
        source(port(sockets)) as second,
    ):
        sockets.connect(first.getsockname())
        sockets.drained()
        second.send(b"standby")
        with sockets.use_standby():
            assert (sockets.standby, sockets.state.compare) == (None, True)
            assert waiting(sockets.stream) == [b"standby"]
        sockets.drained()
        assert sockets.state.compare  # with one socket they always are
        sockets.connect(second.getsockname())
        sockets.drained()
        first.send(b"too late")
        second.send(b"stream")
        assert (waiting(sockets.stream), waiting(sockets.standby)) == ([b"stream"], [b"too late"])


def test_a_takeover_before_the_queue_was_empty_needs_no_third_socket() -> None:
    """While draining, the stream's socket goes over to another source; the standby one stays."""
    with pair() as sockets, source(port(sockets)) as first, source(port(sockets)) as second:
        sockets.connect(first.getsockname())
        standby = sockets.standby
        sockets.connect(second.getsockname())
        assert sockets.standby is standby
        first.send(b"too late")
        second.send(b"stream")
        assert (waiting(sockets.stream), waiting(standby)) == ([b"stream"], [b"too late"])


def test_a_shared_socket_is_never_connected() -> None:
    """Who else holds the socket finds it as it was: open to everyone, with the port to itself."""
    with pair(shared=True) as sockets, source(port(sockets)) as one, source(port(sockets)) as two:
        sockets.connect(one.getsockname())
        sockets.drained()
        assert (sockets.standby, sockets.state.compare) == (None, True)
        two.send(b"heard")
        assert waiting(sockets.stream) == [b"heard"]


def test_a_reload_keeps_the_pair() -> None:
    """What the state names can be adopted, and goes on to tell the senders apart."""
    with pair() as sockets, source(port(sockets)) as first, source(port(sockets)) as second:
        sockets.connect(first.getsockname())
        sockets.drained()
        restored = IngestSockets(sockets.stream, shared=False)
        restored.restore(sockets.state)
        assert (sockets.standby, restored.standby) != (None, None)
        first.send(b"stream")
        second.send(b"standby")
        assert not restored.state.compare
        assert waiting(restored.stream) == [b"stream"]
        assert waiting(restored.standby) == [b"standby"]
        with restored.use_standby():
            restored.connect(second.getsockname())
        assert restored.standby is not None
        restored.stream.detach()  # the same descriptor as `sockets.standby`
        restored.close()


def test_what_strangers_lose_is_counted() -> None:
    """The standby buffer is small; each look tells how many more have found it full."""
    with pair() as sockets, source(port(sockets)) as first, source(port(sockets)) as stranger:
        assert sockets.take_standby_drops() == 0
        sockets.connect(first.getsockname())
        for _ in range(500):
            stranger.send(bytes(1316))
        drops = sockets.take_standby_drops()
        assert drops == 500 - len(waiting(sockets.standby)) > 0
        assert sockets.take_standby_drops() == 0


class Recorder(socket.socket):
    """A socket that notes what is done with it; the next `failures` of `bind` fail."""

    calls: ClassVar[list[str]] = []
    failures = 0

    def connect(self, address: Any) -> None:
        """Note it and do it."""
        self.calls.append("connect")
        super().connect(address)

    def bind(self, address: Any) -> None:
        """Note it and do it."""
        self.calls.append("bind")
        if Recorder.failures:
            Recorder.failures -= 1
            raise OSError(errno.ENOBUFS, "no buffer space")
        super().bind(address)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    """Every socket notes what is done with it, once the test has emptied `calls`."""
    monkeypatch.setattr(socket, "socket", Recorder)
    return Recorder


@pytest.mark.parametrize("bound", BOUND)
def test_the_stream_is_connected_before_and_after_the_standby_is_bound(
    recorder: type[Recorder], bound: str
) -> None:
    """Before: or both would get a share; after: or Linux 6.1 lets strangers in."""
    host = "::1" if bound == "::1" else "127.0.0.1"
    with pair(bound) as sockets, source(port(sockets), host) as active:
        active.send(b"first")
        _, name = sockets.stream.recvfrom(100)
        recorder.calls.clear()
        sockets.connect(name)
        assert recorder.calls == ["connect", "bind", "connect"]


def test_a_standby_that_cannot_be_bound_is_tried_again(recorder: type[Recorder]) -> None:
    """A connected socket without a second one is pending until strangers can be heard again."""
    with pair() as sockets, source(port(sockets)) as one, source(port(sockets)) as two:
        recorder.failures = 1
        with pytest.raises(OSError, match="buffer"):
            sockets.connect(one.getsockname())
        assert (sockets.standby, sockets.state.pending) == (None, True)
        sockets.connect(one.getsockname())
        assert not sockets.state.pending
        one.send(b"stream")
        two.send(b"standby")
        assert (waiting(sockets.stream), waiting(sockets.standby)) == ([b"stream"], [b"standby"])


def test_the_second_socket_needs_no_descriptor_then() -> None:
    """One is kept for it from the beginning, and again after a takeover."""
    with pair() as sockets, source(port(sockets)) as first, source(port(sockets)) as second:
        names = first.getsockname(), second.getsockname()
        with no_descriptors():
            sockets.connect(names[0])
        assert sockets.standby is not None
        with sockets.use_standby():
            pass
        sockets.reserve()
        with no_descriptors():
            sockets.connect(names[1])
        assert sockets.standby is not None


@pytest.mark.parametrize("program", [assemble((LOOPBACK_2,)), b""])
def test_a_reload_replaces_the_filter_of_both_sockets(program: bytes) -> None:
    """The successor's list of sources holds, or none."""
    with (
        pair("0.0.0.0", program=assemble((LOOPBACK_3,))) as sockets,
        source(port(sockets)) as active,
        udp_socket("127.0.0.2") as allowed,
    ):
        sockets.connect(active.getsockname())
        restored = IngestSockets(sockets.stream, program, shared=False)
        restored.restore(sockets.state)
        allowed.sendto(b"in", ("127.0.0.1", port(sockets)))
        assert waiting(restored.standby) == [b"in"]
        for _ in range(1000):
            active.send(b"filtered")
        assert (len(waiting(restored.stream)) < 100) is bool(program)
        assert restored.standby is not None
        restored.standby.detach()  # it is that of `sockets`
        restored.release()


def test_nobody_else_can_join_the_port_before_there_is_a_source() -> None:
    """Until the pair is needed the port is ours alone: another relay cannot start on it."""
    with pair() as sockets, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            second.bind(sockets.stream.getsockname())
