"""A test viewer: a control connection, and the UDP port where its player would listen."""

import socket
from types import TracebackType
from typing import Self

from tools.lab.process import PATIENCE
from tools.lab.sockets import udp_socket


def about_viewer(status: str) -> str:
    """Return what ESTADO's reply tells of the viewer, without what it tells of the stream."""
    return status.partition(" fuente=")[0]


class TestViewer:
    def __init__(self, port: int, host: str = "127.0.0.1", address: str | None = None) -> None:
        self.control = socket.create_connection(
            (host, port), PATIENCE, (address, 0) if address else None
        )
        self.control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.replies = self.control.makefile("rb")
        self.player = udp_socket(self.control.getsockname()[0])
        self.port: int = self.player.getsockname()[1]

    def send(self, data: bytes) -> None:
        """Send raw bytes on the control connection."""
        self.control.sendall(data)

    def reply(self) -> str:
        """Read one reply line without its LF; empty when the relay has closed."""
        return self.replies.readline().decode("ascii").rstrip("\n")

    def command(self, text: str) -> str:
        """Send one line and return its reply."""
        self.send(text.encode() + b"\n")
        return self.reply()

    def subscribe(self) -> Self:
        """Ask for the stream at the player's port."""
        assert self.command(f"CONECTAR {self.port}") == "OK"
        return self

    def receive(self, timeout: float = PATIENCE) -> bytes:
        self.player.settimeout(timeout)
        return self.player.recv(65536)

    def receive_all(self, count: int) -> list[bytes]:
        return [self.receive() for _ in range(count)]

    def nothing_arrives(self, seconds: float = 0.3) -> bool:
        """Tell whether no datagram arrives for this long."""
        try:
            self.receive(seconds)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        """Close both sockets."""
        self.replies.close()
        self.control.close()
        self.player.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
