"""A peer that asks for more than its share, to run inside a network namespace.

Usage: python -m tools.lab.netns_peer HOST PORT. Each line of its standard input is a JSON list, the
name of a method below and its arguments; each is answered with one JSON object.
"""

import contextlib
import json
import socket
import sys
import time
from collections import Counter
from typing import Any

PATIENCE = 20.0

Answer = dict[str, Any]


class Peer:
    """Connections to the relay, in the order in which they were made."""

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.connections: list[socket.socket] = []
        self.players: list[socket.socket] = []

    def connect(self, count: int, source: str = "") -> Answer:
        """Connect so many times and ask ESTADO; the first line that each connection gets."""
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        for _ in range(count):
            sock = socket.socket(family)
            sock.settimeout(PATIENCE)
            if source:
                sock.bind((source, 0))
            sock.connect(socket.getaddrinfo(*self.address, family, socket.SOCK_STREAM)[0][4])
            self.connections.append(sock)
        return {"lines": [self._first(sock) for sock in self.connections[-count:]]}

    @staticmethod
    def _first(sock: socket.socket) -> str:
        with contextlib.suppress(OSError):  # turned away; the reason can still be read
            sock.sendall(b"ESTADO\n")
        return _line(sock)

    def say(self, index: int, times: int, text: str) -> Answer:
        """Say something again and again on one connection; how often each reply came."""
        sock = self.connections[index]
        replies: Counter[str] = Counter()
        for _ in range(times):
            sock.sendall(f"{text}\n".encode())
            replies[_line(sock)] += 1
        return {"replies": replies}

    def sink(self, count: int) -> Answer:
        """Ask for the stream so many times, on connections made before, at ports never read."""
        replies: Counter[str] = Counter()
        for sock in self.connections[:count]:
            player = socket.socket(sock.family, socket.SOCK_DGRAM)
            player.bind((sock.getsockname()[0], 0))
            self.players.append(player)
            sock.sendall(f"CONECTAR {player.getsockname()[1]}\n".encode())
            replies[_line(sock)] += 1
        return {"replies": replies}

    def ending(self, index: int) -> Answer:
        """Wait for the end of a connection; what it said, and how many seconds that took."""
        began = time.monotonic()
        with self.connections[index].makefile("rb") as lines:
            said = lines.read().decode()
        return {"said": said, "seconds": time.monotonic() - began}

    def close(self) -> Answer:
        """Close every connection."""
        while self.connections:
            self.connections.pop().close()
        return {}

    def datagram(self, port: int, text: str) -> Answer:
        """Send a datagram to the relay."""
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(text.encode(), (self.address[0], port))
        return {}


def _line(sock: socket.socket) -> str:
    """Read one line without its LF, and nothing after it; "" at the end."""
    line = b""
    while not line.endswith(b"\n") and (byte := sock.recv(1)):
        line += byte
    return line.decode().rstrip("\n")


def main() -> None:
    """Do what standard input says."""
    peer = Peer(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(peer, name)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
