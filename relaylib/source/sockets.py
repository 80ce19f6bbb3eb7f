"""The ingest's two sockets: one for the active source alone, one for all other senders.

It would be enough to read one socket and to compare every sender with the active source. But then a
flood of another sender fills the receive buffer that the stream needs, and the relay spends its
time on datagrams that it throws away. So the kernel separates them: the stream's socket is
connected to its source, so that it accepts no other sender, and a second socket on the same port,
the standby socket, takes the rest. The standby socket has a small buffer and is read ten times a
second (a larger one, more often, while a standby's health is watched), so that other senders cost
next to nothing, however much they send.

       OPEN                        DRAINING                      PARTED
    stream: open               stream: connected             stream: connected
    standby: none              standby: open                 standby: open
    compare senders            compare senders               do not compare
         |                          ^  |                          ^  |
         |   `connect`: a source    |  |   `drained`: the queue   |  |
         +----- is established -----+  +-- was seen empty once ---+  |
         ^                             |                             |
         |                             |                             |
         +-----------------------------+-----------------------------+
           `use_standby`: the stream comes in there (a takeover, or the
           active source sends to another of our addresses)

The state is DRAINING while datagrams of other senders, which came before the socket was connected,
may still be queued on it.

The state stays OPEN if two sockets cannot share the port: there is no SO_REUSEPORT; another program
holds the socket, too; the socket receives a group (of which every socket gets a copy); or the
source sends to another of our addresses (a broadcast, an alias) than the one that the kernel chose
when it connected the socket. If there was no descriptor for a second socket, the state is
`pending`: `connect` may be tried again.

The state stays DRAINING if the kernel lets other senders in all the same: it `leaks`. Linux 6.1
does if the socket of a specific IPv4 address was connected before the second one was bound, and not
once more after that.

A filter on both sockets (`source_filter`) drops datagrams of sources that are not allowed.
"""

import contextlib
import socket
from dataclasses import dataclass

from relaylib.net import linux
from relaylib.net.address import Address
from relaylib.net.descriptors import Descriptor, adopt, descriptor

STANDBY_BUFFER = 64 << 10
"""Bytes for other senders: a tenth of a second of a standby source, so that little gets stale."""

FOLLOWED_BUFFER = 1 << 20
"""Bytes for other senders while a standby's health is watched: enough for 0.1 s of 50 Mb/s, because
no datagram of it may be lost here. Without privilege the kernel may grant 0.2 MiB
(`net.core.rmem_max`)."""


@dataclass(slots=True)
class SocketsState:
    """What a reload hands over.

    `connectable`: the stream's socket may be connected. `compare`: datagrams read from it may be of
    any sender. `standby_drops` is the kernel's count of drops on the standby socket when last read.
    `pending`: connecting failed and is worth another try. `leaks`: the socket is connected, but the
    kernel lets other senders in.
    """

    stream: Descriptor
    standby: Descriptor | None
    connectable: bool
    compare: bool = True
    standby_drops: int = 0
    pending: bool = False
    leaks: bool = False


class IngestSockets:
    """The sockets, and the state they are in; see the drawing. It neither reads nor watches them.

    A `shared` socket is never connected: another program holds it, too, and needs it unchanged; or
    it receives a group, of which every socket at the port gets a copy.
    `program` is the filter for both; `filtered` tells whether the system has taken it.
    """

    def __init__(
        self,
        sock: socket.socket,
        program: bytes = b"",
        *,
        shared: bool,
        standby_buffer: int = STANDBY_BUFFER,
    ) -> None:
        self.stream = sock
        self.standby: socket.socket | None = None
        self._bound = sock.getsockname()  # once connected, it names the address of that route
        connectable = hasattr(socket, "SO_REUSEPORT") and not shared
        self.state = SocketsState(descriptor(sock), None, connectable)
        self._program = program
        self._standby_buffer = standby_buffer
        self.filtered = linux.set_filter(sock, program)
        linux.hear_joined_groups_only(sock)
        self._spare: socket.socket | None = None
        self.reserve()

    def restore(self, saved: SocketsState) -> None:
        """Go on with the standby socket of the previous program, too."""
        self.state = saved
        if saved.standby is not None:
            self.standby = adopt(saved.standby)
            self._bound = self.standby.getsockname()
            linux.set_filter(self.standby, self._program)
            self._size(self.standby)
        if not saved.connectable:
            self.release()

    def close(self) -> None:
        """Close every socket."""
        self.release()
        for sock in (self.stream, self.standby):
            if sock is not None:
                sock.close()

    def reserve(self) -> None:
        """Open the next standby socket in advance, if possible: when it is needed, viewers may have
        taken the last descriptor.
        """
        if self._spare is None and self.state.connectable:
            with contextlib.suppress(OSError):
                self._spare = self._make_standby()

    def release(self) -> None:
        """Close the socket that `reserve` has opened."""
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def connect(self, source: Address) -> None:
        """Give the stream's socket to this source alone and open a standby socket, if possible.

        The kernel prefers a connected socket for its peer's datagrams. SO_REUSEPORT is set on the
        first socket only now, after it was bound without: that way the port was ours alone when the
        program started, and later only this user's processes can share it (SO_REUSEADDR would admit
        any user's, socket(7)). The first socket is connected before the second one is bound, or
        both would get a share of the stream. It is connected again after that, because only then
        does Linux 6.1 note in the group of sockets that one of them is connected.

        Raises:
            OSError: no descriptor is left, there is no route back to the source, or the standby
                socket cannot be bound. The state is then `pending`: until the next try the stream's
                socket may be connected, so that no other sender is received.
        """
        if not self.state.connectable:
            return
        self.state.pending = True
        if self.standby is None:
            self._hold(self.stream, self._part(source))
        else:  # a takeover while draining: there is one already
            self.stream.connect(source)
            self.state.pending = self.state.leaks = False

    def _part(self, source: Address) -> socket.socket:
        standby, self._spare = self._spare or self._make_standby(), None
        try:
            for each in (self.stream, standby):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self.stream.connect(source)
            standby.bind(self._bound)
            self.stream.connect(source)
        except OSError:
            standby.close()
            raise
        finally:
            self.reserve()
        return standby

    @property
    def open(self) -> bool:
        """Whether the stream's socket takes datagrams from every sender, as far as is known."""
        return self.standby is None

    def drained(self) -> None:
        """Note that the stream's queue was seen empty: what comes now is the active source's."""
        self.state.compare = self.standby is None or self.state.leaks

    def distrust(self) -> None:
        """Note that the kernel lets other senders in, though the socket is connected."""
        self.state.compare = self.state.leaks = True

    def use_standby(self) -> socket.socket:
        """Make the standby socket the stream's socket; return the former one.

        Close that one, then call `reserve`, which can take its descriptor.
        """
        assert self.standby is not None
        former = self.stream
        self._hold(self.standby, None)
        return former

    def take_standby_drops(self) -> int:
        """Return how many datagrams have found the standby buffer full since the last call."""
        if self.standby is None:
            return 0
        before, self.state.standby_drops = self.state.standby_drops, linux.dropped(self.standby)
        return self.state.standby_drops - before

    def _make_standby(self) -> socket.socket:
        standby = socket.socket(self.stream.family, socket.SOCK_DGRAM)
        try:
            standby.setblocking(False)
            self._size(standby)
            if standby.family == socket.AF_INET6:
                only = self.stream.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
                standby.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        except OSError:
            standby.close()
            raise
        linux.set_filter(standby, self._program)
        linux.hear_joined_groups_only(standby)
        return standby

    def _size(self, standby: socket.socket) -> None:
        standby.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._standby_buffer)
        if self._standby_buffer > STANDBY_BUFFER:
            linux.grow_receive_buffer(standby, self._standby_buffer)

    def _hold(self, stream: socket.socket, standby: socket.socket | None) -> None:
        """Change the pair. Datagrams of any sender may be queued on the stream's socket."""
        self.stream, self.standby = stream, standby
        self.state = SocketsState(
            descriptor(stream),
            None if standby is None else descriptor(standby),
            self.state.connectable,
        )
