"""An output: a destination of the stream, its socket and its counters. It knows no viewer."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from relaylib.history.history import Place
from relaylib.net import linux
from relaylib.net.address import Address, with_port
from relaylib.net.descriptors import Descriptor
from relaylib.net.lookup import family_of
from relaylib.outputs.lane import Lane
from relaylib.outputs.port_probe import PortProbe

SEND_BUFFER = 256 << 10
"""Bytes of send buffer: three whole batches with the kernel's book-keeping, so that EAGAIN means a
path that is stuck, not a batch that does not fit."""

UNREAD_BUFFER = 1
"""Bytes of receive buffer, which the kernel raises to its minimum: datagrams that a player sends
back are never read, and must not pile up in the kernel."""


@dataclass(slots=True)
class Counters:
    """Datagrams, since the output was added. Current after `Fanout.update_counters`.

    `offered` came in while the output was not paused, or came due while it was behind. Of those
    `dropped` found the send buffer full, or the queue of the link where the kernel reports it (or
    were too large for any packet). `unreachable` found the port closed (or no way there): datagrams
    with an ICMP error, which may be forged, and datagrams that were not sent because of one.
    """

    offered: int = 0
    dropped: int = 0
    unreachable: int = 0

    @property
    def sent(self) -> int:
        """Datagrams handed to the kernel."""
        return self.offered - self.dropped - self.unreachable

    @property
    def lost(self) -> int:
        """Datagrams that the output should have got and did not."""
        return self.dropped + self.unreachable


@dataclass(slots=True)
class Behind:
    """The position of an output that is not live: it goes on behind `place`.

    Datagrams are sent `delay` seconds after they came; `catching_up`: faster, until it is live.
    """

    place: Place
    delay: float = 0.0
    catching_up: bool = False


@dataclass(slots=True)
class OutputState:
    """What a reload hands over of an output.

    The segment size that its path does not take is not handed over: the next program tries again.
    """

    sock: Descriptor
    destination: Address
    paused: bool
    unsegmentable: bool
    counters: Counters = field(default_factory=Counters)
    behind: Behind | None = None


UNCUT = 1 << 16
"""A segment size that no datagram reaches: a send leaves as one datagram."""

UNKNOWN = 0
"""A segment size that no run has: another program may have changed the socket's."""


class Output:
    """A destination of the stream, with its socket and counters.

    `on_port_closed` is called when the output is given up, since its port stayed closed; None: it
    is never given up, but probed until its port opens.
    `segment_limit` is the smallest segment size that its path has not taken lately, and
    `unsegmentable` whether there ever was one. `member_of` is its lane, None while it is paused;
    `counted_to` is how far into the stream its counters go. `behind` is its place in the history,
    None if it is live, or was paused without a place. `turn` counts the runs that it was sent from
    the history. `segment` is the segment size of its socket.
    """

    __slots__ = (
        "behind", "counted_to", "counters", "destination", "last_error", "member_of",
        "on_port_closed", "probe", "segment", "segment_limit", "send", "sock", "turn",
        "unsegmentable",
    )  # fmt: skip

    def __init__(
        self,
        destination: Address,
        sock: socket.socket,
        on_port_closed: Callable[[], None] | None,
    ) -> None:
        self.destination = destination
        self.on_port_closed = on_port_closed
        self.use(sock)
        self.counters = Counters()
        self.counted_to = 0
        self.behind: Behind | None = None
        self.turn = 0
        self.member_of: Lane[Output] | None = None
        self.segment = UNKNOWN
        self.segment_limit = UNCUT
        self.unsegmentable = False
        self.last_error = ""

    def use(self, sock: socket.socket) -> None:
        """Send by this socket from now on; its port is not known to be closed."""
        self.sock = sock
        self.send = sock.send
        self.probe = PortProbe(sock, lasting=self.on_port_closed is None)

    @property
    def host(self) -> str:
        """The address without the port."""
        host: str = self.destination[0]
        return host

    @property
    def paused(self) -> bool:
        """Whether nothing is sent to it."""
        return self.member_of is None


def open_socket(
    destination: Address, local: Address, prepare: Callable[[socket.socket], None] | None = None
) -> socket.socket:
    """Open an output's socket, which sends from the address that the peer knows us by.

    `prepare` sets options on which the route depends: it is called before the socket is connected.

    Raises:
        OSError: no descriptor is left, or there is no way to the destination.
    """
    sock = socket.socket(family_of(destination), socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BUFFER)
        linux.allow_fragments(sock)
        linux.report_drops(sock)
        sock.bind(with_port(local, 0))
        if prepare is not None:
            prepare(sock)
        sock.connect(destination)
    except OSError:
        sock.close()
        raise
    return sock
