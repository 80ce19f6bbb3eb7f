"""Viewers to run inside a network namespace: connections, and a player that counts what comes.

Usage: python -m tools.lab.netns_viewer HOST PORT. Each line of its standard input is a JSON list,
the name of a method below and its arguments; each is answered with one JSON object.
"""

import contextlib
import json
import selectors
import socket
import struct
import sys
import time
from collections import Counter
from typing import Any

from relaylib.net.linux import grow_receive_buffer
from relaylib.net.listen import bind
from relaylib.net.mrl import parse
from relaylib.net.multicast import bind_group
from tools.lab.numbered import Stats
from tools.lab.process import PATIENCE
from tools.lab.sockets import SINK_BUFFER

Answer = dict[str, Any]

IP_RECVTTL = 12  # ip(7)


class HostViewers:
    """Connections to the relay in the order in which they were made, and the player of the first.

    The player's port is chosen with the first connection, and closed until `open`.
    """

    def __init__(self, host: str, port: int) -> None:
        self.relay = (host, port)
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.connections: list[socket.socket] = []
        self.unread: list[socket.socket] = []
        self.player: tuple[Any, ...] = ()
        self.stats_so_far = Stats()
        self.ttls_so_far: set[int] = set()
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin, selectors.EVENT_READ, self.obey)

    # --- what it can be told

    def connect(self, count: int, source: str = "") -> Answer:
        """Connect so many times and ask ESTADO; the first line that each connection gets."""
        for _ in range(count):
            sock = socket.socket(self.family)
            sock.settimeout(PATIENCE)
            if source:
                sock.bind((source, 0))
            sock.connect(socket.getaddrinfo(*self.relay, self.family, socket.SOCK_STREAM)[0][4])
            self.connections.append(sock)
        if not self.player:
            with self.bind(0) as free:
                self.player = free.getsockname()
        return {"lines": [first_line(sock) for sock in self.connections[-count:]]}

    def command(self, text: str) -> Answer:
        """Give the first connection a command, with `{port}` for the player's."""
        self.connections[0].sendall(f"{text.format(port=self.player[1])}\n".encode())
        return {"reply": read_line(self.connections[0])}

    def say(self, index: int, times: int, text: str) -> Answer:
        """Say something again and again on one connection; how often each reply came."""
        sock = self.connections[index]
        replies: Counter[str] = Counter()
        for _ in range(times):
            sock.sendall(f"{text}\n".encode())
            replies[read_line(sock)] += 1
        return {"replies": replies}

    def sink(self, count: int) -> Answer:
        """Ask for the stream so many times, on connections made before, at ports never read."""
        replies: Counter[str] = Counter()
        for sock in self.connections[:count]:
            port = socket.socket(self.family, socket.SOCK_DGRAM)
            port.bind((sock.getsockname()[0], 0))
            self.unread.append(port)
            sock.sendall(f"CONECTAR {port.getsockname()[1]}\n".encode())
            replies[read_line(sock)] += 1
        return {"replies": replies}

    def ending(self, index: int) -> Answer:
        """Wait for the end of a connection; what it said."""
        with self.connections[index].makefile("rb") as lines:
            return {"said": lines.read().decode()}

    def close(self) -> Answer:
        """Close every connection."""
        while self.connections:
            self.connections.pop().close()
        return {}

    def datagram(self, port: int, text: str, times: int = 1) -> Answer:
        """Send a datagram to the relay, so many times."""
        with socket.socket(self.family, socket.SOCK_DGRAM) as sock:
            for _ in range(times):
                sock.sendto(text.encode(), (self.relay[0], port))
        return {}

    def open(self) -> Answer:
        """Open the player's port; when, in seconds on the monotonic clock."""
        sock = self.bind(self.player[1])
        self.selector.register(sock, selectors.EVENT_READ, lambda: self.receive(sock))
        return {"opened_at": time.monotonic()}

    def watch(self, mrl: str) -> Answer:
        """Watch what comes in at an MRL, without a connection; note how far it may still go."""
        where = parse(mrl)
        if where.is_group:
            sock, self.membership = bind_group(where)
        else:
            sock = bind(where.host, where.port, socket.SOCK_DGRAM)
        grow_receive_buffer(sock, SINK_BUFFER)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        self.selector.register(sock, selectors.EVENT_READ, lambda: self.receive(sock))
        return {}

    def ttls(self) -> Answer:
        """The ttl, or hop limit, of all that was watched."""
        return {"ttls": sorted(self.ttls_so_far)}

    def stats(self) -> Answer:
        """What the player has received so far."""
        return dict(self.stats_so_far.fields())

    # --- helpers

    def bind(self, port: int) -> socket.socket:
        """Open a player's socket at the first connection's address."""
        address = self.connections[0].getsockname()
        sock = socket.socket(self.family, socket.SOCK_DGRAM)
        grow_receive_buffer(sock, SINK_BUFFER)
        sock.bind((address[0], port, *address[2:]))
        sock.setblocking(False)
        return sock

    def receive(self, sock: socket.socket) -> None:
        """Take what has arrived."""
        with contextlib.suppress(BlockingIOError):
            while True:
                datagram, notes, _, _ = sock.recvmsg(65536, 64)
                self.stats_so_far.add(datagram)
                self.ttls_so_far.update(struct.unpack("i", value)[0] for _, _, value in notes)

    def obey(self) -> None:
        """Do what one line says and answer it."""
        line = sys.stdin.readline()
        if not line:
            raise SystemExit(0)
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(self, name)(*arguments)), flush=True)

    def run(self) -> None:
        """Serve until standard input ends."""
        while True:
            for key, _ in self.selector.select():
                key.data()


def first_line(sock: socket.socket) -> str:
    """Ask for the state; return the line that comes, which may be why it was turned away."""
    with contextlib.suppress(OSError):
        sock.sendall(b"ESTADO\n")
    return read_line(sock)


def read_line(sock: socket.socket) -> str:
    """Read one line without its LF, and nothing after it; "" at the end."""
    line = b""
    while not line.endswith(b"\n") and (byte := sock.recv(1)):
        line += byte
    return line.decode().rstrip("\n")


if __name__ == "__main__":
    HostViewers(sys.argv[1], int(sys.argv[2])).run()
