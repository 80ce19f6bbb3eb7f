"""The relay's sockets: inherited from the previous program, opened by systemd, or bound now."""

import os
import socket
from typing import NamedTuple

import structlog

from relaylib.config import Config
from relaylib.errors import SetupError
from relaylib.lifecycle import systemd
from relaylib.lifecycle.handover import State
from relaylib.net.descriptors import adopt
from relaylib.net.listen import bind, bind_pair
from relaylib.web.server import WebState

log = structlog.get_logger()


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


def open_http(
    config: Config, inherited: State | None
) -> tuple[socket.socket, WebState | None] | None:
    """Take over the listener for HTTP, or bind another one; None: there is to be none.

    Also returns the state to go on with: streams go on when the address is another one. If a
    restarted program cannot have that, it goes on with what there was, rather than end.

    Raises:
        SetupError: the port cannot be bound.
    """
    saved = None if inherited is None else inherited.web
    if config.http is None:
        if saved is not None:
            _close(saved)
        return None
    if saved is None or saved.asked != config.http:
        try:
            listener = bind(*config.http, socket.SOCK_STREAM)
        except SetupError as error:
            if inherited is None:
                raise
            log.warning("http_unavailable", reason=str(error), remedy="free the port, and reload")
        else:
            if saved is not None:
                os.close(saved.listener)
                saved.asked = config.http
            return listener, saved
    return None if saved is None else (adopt(saved.listener), saved)


def _close(saved: WebState) -> None:
    for fd in (saved.listener, *(each.sock for each in saved.connections)):
        os.close(fd)
