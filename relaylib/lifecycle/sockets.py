"""The relay's two sockets: inherited from the previous program, opened by systemd, or bound now."""

import socket
from typing import NamedTuple

from relaylib.config import Config
from relaylib.lifecycle import systemd
from relaylib.lifecycle.handover import State
from relaylib.net.descriptors import adopt
from relaylib.net.listen import bind_pair


class Sockets(NamedTuple):
    """The control listener (TCP) and the ingest (UDP).

    A `shared` ingest is held by the service manager, too, who will want it as it was.
    """

    listener: socket.socket
    ingest: socket.socket
    shared: bool


def open_sockets(config: Config, inherited: State | None) -> Sockets:
    """Take over the sockets that there are, and bind the others.

    Raises:
        SetupError: a port cannot be bound, or what the service manager gave is no such socket.
    """
    if inherited is not None:
        return Sockets(
            adopt(inherited.listener), adopt(inherited.ingest.sockets.stream), shared=False
        )
    given = systemd.take_listen_sockets()
    pair = bind_pair(
        config.host,
        config.port,
        config.ingest_port,
        listener=given.get(socket.SOCK_STREAM),
        ingest=given.get(socket.SOCK_DGRAM),
    )
    return Sockets(*pair, shared=socket.SOCK_DGRAM in given)
