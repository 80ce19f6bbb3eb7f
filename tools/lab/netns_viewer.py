"""A viewer to run inside a network namespace: asks for the stream and keeps account of it.

Usage: python -m tools.lab.netns_viewer HOST PORT. Its standard input takes `open` (the player's
port, closed at first), `stats`, and any command of the relay's protocol, in which `{port}` stands
for the player's port; each is answered with one JSON object.
"""

import json
import selectors
import socket
import sys
import time

from tools.lab.numbered import Stats

BUFFER = 4 << 20


class NamespaceViewer:
    """A control connection and a player that opens when told to."""

    def __init__(self, host: str, port: int) -> None:
        self.control = socket.create_connection((host, port), 20)
        self.replies = self.control.makefile("r", encoding="ascii")
        self.stats = Stats()
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin, selectors.EVENT_READ, self.obey)
        self.address = self.control.getsockname()
        self.player = self.bind(0)
        self.port = self.player.getsockname()[1]
        self.player.close()

    def bind(self, port: int) -> socket.socket:
        """Open a player's socket at the control connection's address."""
        sock = socket.socket(self.control.family, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.bind((self.address[0], port, *self.address[2:]))
        sock.setblocking(False)
        return sock

    def receive(self) -> None:
        """Take what has arrived."""
        while True:
            try:
                self.stats.add(self.player.recv(65536))
            except BlockingIOError:
                return

    def obey(self) -> None:
        """Do what one line says and answer it."""
        line = sys.stdin.readline()
        if not line:
            raise SystemExit(0)
        print(json.dumps(self.answer(line.strip().format(port=self.port))), flush=True)

    def answer(self, command: str) -> dict[str, object]:
        """Carry out a command."""
        match command:
            case "open":
                self.player = self.bind(self.port)
                self.selector.register(self.player, selectors.EVENT_READ, self.receive)
                return {"opened_at": time.monotonic()}
            case "stats":
                return dict(self.stats.fields())
            case _:
                self.control.sendall(f"{command}\n".encode())
                return {"reply": self.replies.readline().strip()}

    def run(self) -> None:
        """Serve until standard input ends."""
        while True:
            for key, _ in self.selector.select():
                key.data()


if __name__ == "__main__":
    NamespaceViewer(sys.argv[1], int(sys.argv[2])).run()
