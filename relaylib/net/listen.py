"""Opening the ports to listen on: IPv4, IPv6, or both on one socket."""

import contextlib
import errno
import ipaddress
import os
import socket

from relaylib.errors import SetupError
from relaylib.net.address import Address, show
from relaylib.net.lookup import resolve

BACKLOG = 1024
"""Most connections that wait to be accepted: those of a second, at 1,000 a second."""

_PORT_TRIES = 16


def resolve_own(host: str, port: int) -> tuple[socket.AddressFamily, Address]:
    """Look up where to listen for connections.

    Raises:
        SetupError: the name has no address, or it is a group's or the broadcast address.
    """
    family, address = resolve(host, port)
    ip = ipaddress.ip_address(address[0].partition("%")[0])
    if ip.is_multicast or address[0] == "255.255.255.255":
        hint = " (a group goes to --ingest)" if ip.is_multicast else ""
        raise SetupError(f"nobody can connect to {host}: it is not one machine's address{hint}")
    return family, address


def bind_pair(
    host: str,
    port: int,
    ingest_port: int | None,
    *,
    listener: socket.socket | None = None,
    ingest: socket.socket | None = None,
) -> tuple[socket.socket, socket.socket]:
    """Bind the control listener (TCP) and the ingest (UDP), on one port unless told otherwise.

    Port 0 lets the kernel choose a port that is free for both. A socket that is given, bound by
    systemd, is used as it is, and the other one is bound to its port.

    Raises:
        SetupError: the host is unknown or not ours, or a port is taken or not allowed.
    """
    if ingest is not None:
        port = ingest.getsockname()[1] if ingest_port is None else port
        return listener or bind(host, port, socket.SOCK_STREAM), ingest
    for tries in range(_PORT_TRIES):
        control = listener or bind(host, port, socket.SOCK_STREAM)
        chosen = control.getsockname()[1] if ingest_port is None else ingest_port
        try:
            return control, bind(host, chosen, socket.SOCK_DGRAM)
        except SetupError:
            control.close()
            if port or listener or ingest_port is not None or tries == _PORT_TRIES - 1:
                raise
    raise AssertionError("unreachable")


def bind(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """Bind one non-blocking socket; a TCP one listens.

    Raises:
        SetupError: as for `bind_pair`.
    """
    family, address = resolve_own(host, port)
    try:
        with contextlib.ExitStack() as undo:
            sock = undo.enter_context(socket.socket(family, kind))
            sock.setblocking(False)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
            if kind == socket.SOCK_STREAM and os.name == "posix":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            if kind == socket.SOCK_STREAM:
                sock.listen(BACKLOG)
            undo.pop_all()
    except OSError as error:
        raise SetupError(_why(error, show(address), kind)) from None
    return sock


def _why(error: OSError, where: str, kind: socket.SocketKind) -> str:
    protocol = "TCP" if kind == socket.SOCK_STREAM else "UDP"
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"{protocol} port is already in use: {where} (another relay? ss -lntup shows whose "
                "it is; or choose another port)"
            )
        case errno.EACCES:
            return f"not allowed to use {protocol} {where}: ports below 1024 need root"
        case errno.EADDRNOTAVAIL:
            return f"not an address of this machine: {where} (ip address lists them)"
        case _:
            return f"cannot listen on {protocol} {where}: {error.strerror}"
