"""A tap before an HTTP server: it passes all on, and keeps the first line of each request."""

import re
import selectors
import socket
from collections import Counter

from tools.lab.reloads import Work

_REQUEST = re.compile(rb"^([A-Z]+) (\S+) HTTP/1\.[01]\r$", re.MULTILINE)


class HttpTap(Work):
    """Listens at `port` for who believes to ask the server at `origin`."""

    def __init__(self, origin: int) -> None:
        super().__init__()
        self._origin = ("127.0.0.1", origin)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._heads = dict[socket.socket, bytearray]()
        self._ended = list[bytearray]()

    def asked(self) -> Counter[str]:
        """Return methods and targets of all requests until now, and how often they came."""
        heads = [bytes(each) for each in (*self._ended, *list(self._heads.values()))]
        found = (match for head in heads for match in _REQUEST.finditer(head))
        return Counter(f"{match[1].decode()} {match[2].decode('latin-1')}" for match in found)

    def run(self) -> None:
        """Pass on, until the block ends."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        while not self.stopped():
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._pass(key.fileobj, key.data)  # type: ignore[arg-type]
        self._listener.close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(self._origin)
        self._heads[client] = bytearray()
        self._selector.register(client, selectors.EVENT_READ, server)
        self._selector.register(server, selectors.EVENT_READ, client)

    def _pass(self, sock: socket.socket, other: socket.socket) -> None:
        try:
            data = sock.recv(1 << 16)
            if data:
                other.sendall(data)
        except OSError:
            data = b""
        if data and sock in self._heads:
            self._heads[sock] += data
        if not data:
            self._end(sock, other)

    def _end(self, *socks: socket.socket) -> None:
        for sock in socks:
            if sock in self._heads:
                self._ended.append(self._heads.pop(sock))
            self._selector.unregister(sock)
            sock.close()
