"""UDP sockets and free ports."""

import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

from relaylib.net.linux import grow_receive_buffer

SINK_BUFFER = 4 << 20
"""Receive buffer of a test's viewer, in bytes, so that a loaded machine does not drop for it."""


def udp_socket(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A bound UDP socket with a large receive buffer."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    grow_receive_buffer(sock, SINK_BUFFER)
    sock.bind((host, port))
    return sock


def unused_port() -> int:
    """A port that is free for TCP and UDP, from below the range that kernels choose from.

    In that range a port that was free a moment ago may be anybody's connection by now.
    """
    while True:
        address = ("127.0.0.1", random.randrange(15_000, 32_000))
        with (
            contextlib.suppress(OSError),
            udp_socket(*address),
            socket.create_server(address),
        ):
            return address[1]


@contextlib.contextmanager
def source(port: int, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A UDP socket connected to the relay's ingest."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((host, port))
        yield sock


def is_bound(port: int) -> bool:
    """Tell whether some process of this machine listens on the UDP port (proc(5))."""
    tables = "".join(Path(f"/proc/net/{name}").read_text() for name in ("udp", "udp6"))
    return f":{port:04X} " in tables
