"""Streams for tests: datagrams that can be told apart, sent no faster than the receiver reads.

A sender that does not wait for its receiver only finds out how large the machine's buffers are.
So `exchange` sends a window and reads it back before it sends the next one. Floods, which are not
meant to arrive whole, come from a child process and are bounded in time.
"""

import random
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence

from tools.lab.process import ChildProcess
from tools.lab.viewer import TestViewer

WINDOW = 200
"""Datagrams on the way at once."""

WINDOW_BYTES = 1 << 20
"""Bytes on the way at once: a quarter of what every buffer on the way has room for."""

_FLOOD = """
import socket, sys, time
port, seconds, size = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("127.0.0.1", port))
sent, end = 0, time.monotonic() + seconds
print("flooding", flush=True)
while time.monotonic() < end:
    for _ in range(50):
        sock.send(sent.to_bytes(8, "big") + bytes(size - 8))
        sent += 1
print(sent)
"""

_COMMANDS = """
import selectors, socket, sys, time
port, seconds, count = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
burst, replies, end = b"ESTADO\\n" * 100, 0, time.monotonic() + seconds
print("flooding", flush=True)
while time.monotonic() < end:
    for sock in socks:
        sock.sendall(burst)
    for sock in socks:
        missing = 100
        while missing:
            lines = sock.recv(65536).count(b"\\n")
            missing -= lines
            replies += lines
print(replies)
"""


class Flood(ChildProcess):
    """A child that floods for some seconds; `total` waits for its end and says how much it was."""

    def __init__(self, script: str, port: int, seconds: float, amount: int) -> None:
        super().__init__(sys.executable, "-c", script, str(port), str(seconds), str(amount))
        assert self.process.stdout is not None

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def total(self) -> int:
        assert self.wait() == 0, self.stderr
        return int(self.stdout[-1])


def flood_ingest(port: int, seconds: float, size: int = 1316) -> Flood:
    """Send numbered datagrams as fast as a child can."""
    return Flood(_FLOOD, port, seconds, size)


def flood_control(port: int, seconds: float, connections: int) -> Flood:
    """Send commands on many connections as fast as they are answered."""
    return Flood(_COMMANDS, port, seconds, connections)


def numbered(sizes: Iterable[int]) -> list[bytes]:
    """Make a datagram of each size that differs from its neighbours wherever it has room to."""
    noise = random.Random(1).randbytes(65536)
    datagrams = []
    for index, size in enumerate(sizes):
        head = index.to_bytes(4, "big")[-size:] if size else b""
        shift = index % 251
        datagrams.append(head + noise[shift : shift + size - len(head)])
    return datagrams


def windows(datagrams: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    begin = size = 0
    for index, each in enumerate(datagrams):
        size += len(each)
        if index - begin >= WINDOW or size > WINDOW_BYTES:
            yield datagrams[begin:index]
            begin, size = index, len(each)
    yield datagrams[begin:]


def exchange(
    source: socket.socket, viewers: Sequence[TestViewer], datagrams: Sequence[bytes]
) -> None:
    """Send datagrams, and assert that each viewer gets exactly these, in order."""
    for window in windows(datagrams):
        for each in window:
            source.send(each)
        for viewer in viewers:
            for index, each in enumerate(window):
                got = viewer.receive()
                assert got == each, f"datagram {index} of a window: {len(got)} != {len(each)}"
