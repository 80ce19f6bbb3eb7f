"""The ingest's two sockets: one for the active source alone, one for everybody else.

It would be enough to read one socket and to compare every sender with the active source. But then a
stranger's flood fills the receive buffer that the stream needs, and the relay spends its time on
datagrams that it throws away. So the kernel parts them: the stream's socket is connected to its
source, which makes it accept nobody else, and a second socket on the same port, the standby socket,
takes what remains. That one has a small buffer and is read ten times a second: strangers cost next
to nothing, however much they send.

       OPEN                        DRAINING                      PARTED
    stream: open               stream: connected             stream: connected
    standby: none              standby: open                 standby: open
    compare senders            compare senders               do not compare
         |                          ^  |                          ^  |
         |   `connect`: a source    |  |   `drained`: the queue   |  |
         +----- is active now ------+  +-- was seen empty once ---+  |
         ^                             |                             |
         |                             |                             |
         +-----------------------------+-----------------------------+
           `use_standby`: the stream comes in there (a takeover, or the
           active source sends to another of our addresses)

DRAINING is there because what strangers sent before the socket was connected is still queued on it.

OPEN is where it stays if two sockets cannot share the port: there is no SO_REUSEPORT, somebody else
holds the socket, too, or the source sends to another of our addresses (a broadcast, an alias) than
the one that the kernel chose when it connected the socket, so that two sockets cannot part the
traffic.
"""

import socket
from dataclasses import dataclass

from relaylib.net import linux
from relaylib.net.address import Address
from relaylib.net.descriptors import Descriptor, adopt, descriptor

STANDBY_BUFFER = 64 << 10
"""Bytes for strangers: a tenth of a second of a standby source, and never much that is stale."""


@dataclass(slots=True)
class SocketsState:
    """What a restart hands over.

    `connectable`: the stream's socket may be connected. `compare`: what is read from it may be
    anybody's. `standby_drops` is the kernel's count of drops on the standby socket when last asked.
    """

    stream: Descriptor
    standby: Descriptor | None
    connectable: bool
    compare: bool = True
    standby_drops: int = 0


class IngestSockets:
    """The sockets, and the state they are in; see the drawing. It reads and watches nothing itself.

    A `shared` socket is held by somebody else, too, who will want it as it was: never connected.
    """

    def __init__(self, sock: socket.socket, *, shared: bool) -> None:
        self.stream = sock
        self.standby: socket.socket | None = None
        self._bound = sock.getsockname()  # once connected, it names the address of that route
        connectable = hasattr(socket, "SO_REUSEPORT") and not shared
        self.state = SocketsState(descriptor(sock), None, connectable)

    def restore(self, saved: SocketsState) -> None:
        """Go on with the standby socket of the previous program, too."""
        self.state = saved
        if saved.standby is not None:
            self.standby = adopt(saved.standby)
            self._bound = self.standby.getsockname()

    def connect(self, source: Address) -> None:
        """Give the stream's socket to this source alone and open a standby socket, if possible.

        The kernel prefers a connected socket for its peer's datagrams. SO_REUSEPORT is set on the
        first one only now, after it was bound without: that way the port was ours alone when the
        program started, and later only this user's processes can join (SO_REUSEADDR would let
        anybody in, socket(7)). It is connected before the second one is bound, or both would get a
        share.

        Raises:
            OSError: no descriptor is left, or there is no route back to the source. Nothing has
                changed then, unless it was the standby socket that could not be bound: the stream's
                socket stays connected.
        """
        if not self.state.connectable:
            return
        if self.standby is not None:  # a takeover while draining: there is one already
            self.stream.connect(source)
            return
        standby = socket.socket(self.stream.family, socket.SOCK_DGRAM)
        try:
            self._prepare(standby)
            for each in (self.stream, standby):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self.stream.connect(source)
            standby.bind(self._bound)
        except OSError:
            standby.close()
            raise
        self._hold(self.stream, standby)

    def drained(self) -> None:
        """Note that the stream's queue was seen empty: what comes now is the active source's."""
        self.state.compare = self.standby is None

    def use_standby(self) -> socket.socket:
        """Read the stream from the standby socket from now on; return the former, to be closed."""
        assert self.standby is not None
        former = self.stream
        self._hold(self.standby, None)
        return former

    def take_standby_drops(self) -> int:
        """Return how many more datagrams of strangers have found the standby buffer full."""
        if self.standby is None:
            return 0
        before, self.state.standby_drops = self.state.standby_drops, linux.dropped(self.standby)
        return self.state.standby_drops - before

    def _prepare(self, standby: socket.socket) -> None:
        standby.setblocking(False)
        standby.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STANDBY_BUFFER)
        if standby.family == socket.AF_INET6:
            only = self.stream.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            standby.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)

    def _hold(self, stream: socket.socket, standby: socket.socket | None) -> None:
        """Change the pair; whose datagrams are queued on the stream's socket is not known yet."""
        self.stream, self.standby = stream, standby
        self.state = SocketsState(
            descriptor(stream),
            None if standby is None else descriptor(standby),
            self.state.connectable,
        )
