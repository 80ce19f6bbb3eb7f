"""What meets the relay by HTTP: a transport stream of numbered packets, and who reads it."""

import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

from relaylib.media import rtp
from tools.lab.process import PATIENCE
from tools.lab.relay import RelayProcess
from tools.lab.reloads import RATE, Work
from tools.lab.sockets import source

PACKET = 188

PACKETS = 7
"""In a datagram."""

_NUMBERED = struct.Struct(">4sQ")
_FILLING = bytes(range(256))


def packet(number: int) -> bytes:
    """Make the packet `number` of a stream: of PID 0x100, its payload told apart."""
    head = b"\x47\x01\x00" + bytes((0x10 | number & 0x0F,))
    return _NUMBERED.pack(head, number) + _FILLING[number % 64 :][: PACKET - _NUMBERED.size]


def datagram(number: int, *, in_rtp: bool) -> bytes:
    """Make the datagram `number`, of the packets that follow those of the one before."""
    packets = b"".join(packet(number * PACKETS + each) for each in range(PACKETS))
    return (rtp.header(number, number * 90, 7) if in_rtp else b"") + packets


def numbers(data: bytes) -> Iterator[int]:
    """Yield the numbers of whole packets, each of which must be as it was sent."""
    for at in range(0, len(data) - PACKET + 1, PACKET):
        each = data[at : at + PACKET]
        number: int = _NUMBERED.unpack_from(each)[1]
        assert each == packet(number), f"byte {at} of {len(data)}: {each[:16].hex()}"
        yield number


class Packets(Work):
    """Sends numbered packets at `RATE` datagrams a second; `sent` counts datagrams."""

    def __init__(self, port: int, *, in_rtp: bool = False) -> None:
        super().__init__()
        self._port = port
        self._in_rtp = in_rtp
        self.sent = 0

    def run(self) -> None:
        """Send; what was late is made up for, as encoders do."""
        with source(self._port) as sock:
            started = time.monotonic()
            while not self.stopped(max(0.0, started + self.sent / RATE - time.monotonic())):
                sock.send(datagram(self.sent, in_rtp=self._in_rtp))
                self.sent += 1


class Answer(NamedTuple):
    """A response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def http_port(relay: RelayProcess) -> int:
    """Return the port where a relay listens for HTTP."""
    port: int = relay.wait_event("http_listening")["port"]
    return port


def request(
    target: str = "/healthz", method: str = "GET", version: str = "1.1", **extra: str
) -> bytes:
    """Write a request; words of `extra` are headers, with _ for -."""
    lines = [f"{method} {target} HTTP/{version}"]
    lines += [
        f"{name.replace('_', '-')}: {value}"
        for name, value in {"Host": "localhost", **extra}.items()
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class HttpViewer:
    """A connection by HTTP that reads what it is told to."""

    def __init__(self, port: int, host: str = "127.0.0.1", receive_buffer: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.sock.connect((host, port))
        except OSError:
            self.sock.close()
            raise
        self._read = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, target: str = "/healthz", method: str = "GET", **extra: str) -> Answer:
        """Ask, and read the response."""
        self.send(request(target, method, **extra))
        return self.answer(method)

    def head(self) -> tuple[int, dict[str, str]]:
        """Read status and headers of the next response."""
        while b"\r\n\r\n" not in self._read:
            data = self.sock.recv(65536)
            assert data, f"the relay closed the connection: {self._read!r}"
            self._read += data
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        return int(first.split()[1]), {name.lower(): value for name, value in pairs}

    def answer(self, method: str = "GET") -> Answer:
        """Read the next response; its body only if it has a length."""
        status, headers = self.head()
        size = 0 if method == "HEAD" or status == 304 else int(headers.get("content-length", 0))
        return Answer(status, headers, self.read(size))

    def read(self, size: int) -> bytes:
        """Read so many bytes."""
        while len(self._read) < size:
            data = self.sock.recv(65536)
            assert data, "the relay closed the connection"
            self._read += data
        data, self._read = self._read[:size], self._read[size:]
        return data

    def take(self) -> bytes:
        """Return what has been read beyond the last response's head."""
        taken, self._read = self._read, b""
        return taken

    def at_end(self) -> bool:
        """Tell whether the relay closes the connection, without anything more."""
        try:
            return not self._read and not self.sock.recv(1)
        except ConnectionResetError:
            return True

    def __enter__(self) -> "HttpViewer":
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()


class Watching(Work):
    """Reads a stream by HTTP, in a thread; `data` is its body so far."""

    def __init__(self, port: int, target: str = "/live.ts") -> None:
        super().__init__()
        self._browser = HttpViewer(port)
        self._browser.send(request(target))
        status, self.headers = self._browser.head()
        assert status == 200
        self.data = bytearray(self._browser.take())
        self.ended = False

    def run(self) -> None:
        """Read on until told to stop, or to the end."""
        self._browser.sock.settimeout(0.05)
        while not self.stopped():
            try:
                data = self._browser.sock.recv(1 << 18)
            except TimeoutError:
                continue
            if not data:
                self.ended = True
                return
            self.data += data

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._browser.sock.close()
