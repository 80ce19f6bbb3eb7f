"""A destination of the stream: its socket, its counters, and the lane it stands in."""

import socket
from dataclasses import dataclass

from relaylib.net import linux
from relaylib.net.address import Address, with_port
from relaylib.net.descriptors import Descriptor
from relaylib.net.lookup import family_of

SEND_BUFFER = 256 << 10
"""Bytes of send buffer: three whole batches with the kernel's book-keeping, so that EAGAIN means a
path that is stuck, not a batch that does not fit."""

RECEIVE_BUFFER = 1
"""Bytes, so the least that the system knows: what a player sends back is never read, and must not
pile up in the kernel."""


@dataclass(slots=True)
class OutputState:
    """What a restart hands over of an output; `paused`: it stood outside every lane."""

    sock: Descriptor
    destination: Address
    paused: bool
    single: bool
    offered: int
    dropped: int
    refused: int


Lane = list["Output"]
"""Subscribers that are served alike; see `fanout`."""


class Output:
    """A destination of the stream and what became of it.

    Since it was added, `offered` datagrams arrived while it was in a lane; of those `dropped` found
    its send buffer full (or were too large for any packet) and `refused` its port closed (or no
    way there). The rest has been sent. While its port is closed, `probing` tells whether a probe is
    out, `due` when the next step is; `refused_since` and `refused_at` are when that began and was
    last seen. All times are the loop's, in seconds.
    """

    __slots__ = (
        "base", "destination", "dropped", "due", "lane", "last_error", "offered", "probing",
        "refused", "refused_at", "refused_since", "send", "single", "sock",
    )  # fmt: skip

    def __init__(self, destination: Address, sock: socket.socket) -> None:
        self.destination = destination
        self.sock = sock
        self.send = sock.send
        self.lane: Lane | None = None
        self.single = False
        self.offered = self.dropped = self.refused = self.base = 0
        self.last_error = ""
        self.probing = False
        self.due = self.refused_at = self.refused_since = float("-inf")

    @property
    def sent(self) -> int:
        """Datagrams handed to the kernel. Current after `Fanout.update_counters`."""
        return self.offered - self.dropped - self.refused

    @property
    def lost(self) -> int:
        """Datagrams that it should have got and did not. Current after `Fanout.update_counters`."""
        return self.dropped + self.refused


def open_socket(destination: Address, local: Address) -> socket.socket:
    """Open a output's socket, sending from the address that the peer knows us by.

    Raises:
        OSError: no descriptor is left, or there is no way to the destination.
    """
    sock = socket.socket(family_of(destination), socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        linux.allow_fragments(sock)
        sock.bind(with_port(local, 0))
        sock.connect(destination)
    except OSError:
        sock.close()
        raise
    return sock
