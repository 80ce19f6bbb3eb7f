"""The relay's sockets: inherited from the previous program, opened by systemd, or bound now."""

import contextlib
import ipaddress
import os
import socket
from dataclasses import replace
from typing import NamedTuple

import structlog

from relaylib.config import HTTP_PORT, Config
from relaylib.errors import SetupError
from relaylib.lifecycle import systemd
from relaylib.lifecycle.handover import RelayState
from relaylib.net import mrl
from relaylib.net.descriptors import adopt
from relaylib.net.listen import bind, bind_pair
from relaylib.net.mrl import Mrl
from relaylib.net.multicast import Membership, bind_group
from relaylib.net.networks import ANY
from relaylib.web.state import WebState

log = structlog.get_logger()


class Sockets(NamedTuple):
    """The control listener (TCP) and the ingest (UDP).

    A `shared` ingest is held by the service manager, too, which will want it unchanged. One that
    receives a group has a membership.
    """

    listener: socket.socket
    ingest: socket.socket
    shared: bool = False
    membership: Membership | None = None


def open_sockets(config: Config, inherited: RelayState | None) -> Sockets:
    """Take over the sockets that there are, and bind the others.

    Raises:
        SetupError: a port cannot be bound, a group not joined, or what the service manager gave is
            no such socket.
    """
    if inherited is not None:
        return _inherit(inherited)
    given = systemd.take_listen_sockets()
    if config.ingest is not None:
        if socket.SOCK_DGRAM in given:
            raise SetupError(
                "--ingest, and a UDP socket from the service manager: leave out --ingest, or "
                "ListenDatagram= of relay.socket"
            )
        return _open_at(config, config.ingest, given.get(socket.SOCK_STREAM))
    pair = bind_pair(
        config.host,
        config.port,
        config.ingest_port,
        listener=given.get(socket.SOCK_STREAM),
        ingest=given.get(socket.SOCK_DGRAM),
    )
    return Sockets(*pair, shared=socket.SOCK_DGRAM in given)


def keep_sources(config: Config, inherited: RelayState | None) -> Config:
    """Allow the sources that the ingest is meant for; after a reload it has its former address.

    An MRL may name the one source, and then says so of another ingest.
    """
    if inherited is None or inherited.asked == config.asked:
        return config
    kept = inherited.asked[2]
    if isinstance(kept, str) and (source := mrl.parse(kept).source):
        return replace(config, allow_source=(ipaddress.ip_network(source),))
    if config.ingest is not None and config.ingest.source:
        return replace(config, allow_source=ANY)
    return config


def _inherit(state: RelayState) -> Sockets:
    ingest = adopt(state.channel.ingest.sockets.stream)
    group = state.channel.group
    membership = None if group is None else Membership(ingest, group.mrl, group.index)
    return Sockets(adopt(state.listener), ingest, membership=membership)


def _open_at(config: Config, where: Mrl, given: socket.socket | None) -> Sockets:
    listener = given or bind(config.host, config.port, socket.SOCK_STREAM)
    try:
        if where.is_group:
            ingest, membership = bind_group(where)
            return Sockets(listener, ingest, membership=membership)
        anywhere = "::" if listener.family == socket.AF_INET6 else "0.0.0.0"
        return Sockets(listener, bind(where.host or anywhere, where.port, socket.SOCK_DGRAM))
    except SetupError:
        listener.close()
        raise


def open_http(config: Config, saved: WebState | None, *, reloading: bool) -> socket.socket | None:
    """Take over the listener for HTTP, or bind another one; None: there is to be none.

    Streams go on when the address is another one. If a reloaded program cannot have that, it goes
    on with what there was, rather than end.

    Raises:
        SetupError: the port cannot be bound.
    """
    if config.http is None:
        if saved is not None:
            _close(saved)
        return None
    if saved is not None and saved.asked == config.http:
        return adopt(saved.listener)
    try:
        listener = _bind_http(*config.http)
    except SetupError as error:
        if not reloading:
            raise
        log.warning("http_unavailable", reason=str(error), remedy="free the port, and reload")
        return None if saved is None else adopt(saved.listener)
    if saved is not None:
        os.close(saved.listener)
        saved.asked = config.http
    return listener


def _bind_http(host: str, port: int | None) -> socket.socket:
    if port is None:
        with contextlib.suppress(SetupError):
            return bind(host, HTTP_PORT, socket.SOCK_STREAM)
    return bind(host, port or 0, socket.SOCK_STREAM)


def _close(saved: WebState) -> None:
    for fd in (saved.listener, *(each.sock for each in saved.connections)):
        os.close(fd)
