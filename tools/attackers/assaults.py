"""Those who try to spoil the stream, over TCP: each function is one way, and returns its counts.

Run as a program it is one of them: `python -m tools.attackers.assaults NAME PORT SECONDS` says
`ready`, goes on for that long, and prints its counts as JSON. It steps back behind everybody else
(nice), so that what it does to the relay is measured and not what it does to the machine.
"""

import contextlib
import itertools
import json
import os
import selectors
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

from relaylib.net.descriptors import raise_descriptor_limit
from tools.attackers import datagrams
from tools.attackers.relay import HOST, free_port

Counts = Counter[str]
Assault = Callable[[int, float], Counts]

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing resets the connection (socket(7))."""

_CHUNK = 1 << 16
_NO_ROOM = 1
"""Bytes, so the least that the system knows."""


def _connect(port: int, *, room: int = 0) -> socket.socket:
    """Begin to connect, without waiting; on the loopback that is as good as done.

    `room` bytes of receive buffer, unless 0: what the kernel thinks best.
    """
    sock = socket.socket()
    if room:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    sock.setblocking(False)
    sock.connect_ex((HOST, port))
    return sock


def _send(sock: socket.socket, data: bytes) -> bool:
    """Send what the kernel takes; False when the connection is over."""
    try:
        sock.send(data)
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True


def _ticks(seconds: float, rate: float) -> Iterator[int]:
    """Count up at `rate` a second, for `seconds`; late ticks follow at once."""
    began = time.monotonic()
    for tick in range(int(seconds * rate)):
        if (wait := began + tick / rate - time.monotonic()) > 0:
            time.sleep(wait)
        yield tick


def slowloris(port: int, seconds: float, connections: int = 1000) -> Counts:
    """Hold every place there is, sending a byte a second and never a whole line."""
    counts: Counts = Counter()
    slices = 20
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(_connect(port)) for _ in range(connections)]
        counts["connections"] = len(socks)
        for tick in _ticks(seconds, slices):
            counts["bytes"] += sum(_send(sock, b"A") for sock in socks[tick % slices :: slices])
    return counts


def storm(port: int, seconds: float, rate: int = 1000) -> Counts:
    """Connect and leave at once, over and over."""
    counts: Counts = Counter()
    for _ in _ticks(seconds, rate):
        with _connect(port) as sock:
            counts["connections"] += _send(sock, b"ESTADO\n")
    return counts


def resets(port: int, seconds: float, rate: int = 500) -> Counts:
    """Subscribe and reset the connection: before the reply, and in the middle of a line."""
    counts: Counts = Counter()
    player = free_port()
    for tick in _ticks(seconds, rate):
        with _connect(port) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            counts["resets"] += _send(sock, b"CONECTAR %d\nINTERRUM" % (player if tick % 2 else 9))
    return counts


def _flood(port: int, seconds: float, payloads: list[bytes], *, read: bool = True) -> Counts:
    """Keep one connection for each payload busy, sending it as fast as it is taken.

    With `read` every reply is read; without, the buffers of both ends fill up, and there is little
    room in ours. A connection that the relay ends is made anew.
    """
    counts: Counts = Counter()
    end = time.monotonic() + seconds
    events = selectors.EVENT_WRITE | (selectors.EVENT_READ if read else 0)
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())

        def begin(payload: bytes) -> None:
            sock = stack.enter_context(_connect(port, room=0 if read else _NO_ROOM))
            selector.register(sock, events, payload)
            counts["connections"] += 1

        for payload in payloads:
            begin(payload)
        while time.monotonic() < end:
            for key, ready in selector.select(0.1):
                if not _serve(key, ready, counts):
                    selector.unregister(key.fileobj)
                    assert isinstance(key.fileobj, socket.socket)
                    key.fileobj.close()
                    begin(key.data)
    return counts


def _serve(key: selectors.SelectorKey, ready: int, counts: Counts) -> bool:
    """Read and write what is possible; False when the connection is over."""
    sock = key.fileobj
    assert isinstance(sock, socket.socket)
    try:
        if ready & selectors.EVENT_READ:
            data = sock.recv(_CHUNK)
            counts["replies"] += data.count(b"\n")
            if not data:
                return False
        if ready & selectors.EVENT_WRITE:
            counts["bytes"] += sock.send(key.data)
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True


def commands(port: int, seconds: float) -> Counts:
    """Twenty connections that ask, in well-formed commands, as fast as they are answered."""
    payloads = [b"ESTADO\n" * 512, b"AYUDA\n" * 512, b"INTERRUMPIR\n" * 512, b"CONECTAR 80\n" * 512]
    return _flood(port, seconds, payloads * 5)


def nonsense(port: int, seconds: float) -> Counts:
    """Twenty connections that send what is cheapest to send and dearest to read."""
    payloads = [
        b"\n" * 8192,
        b"x\n" * 4096,
        b"\xff\xfb\x01" * 2048 + b"\n",
        b"\xff\xfa" + b"a" * 8192,
    ]
    return _flood(port, seconds, payloads * 5)


def moving(port: int, seconds: float) -> Counts:
    """Ten connections that move their stream to and fro between two ports."""
    pairs = [(free_port(), free_port()) for _ in range(10)]
    return _flood(port, seconds, [b"CONECTAR %d\nCONECTAR %d\n" % pair * 64 for pair in pairs])


def deaf(port: int, seconds: float) -> Counts:
    """Fifty clients that ask and never read an answer."""
    return _flood(port, seconds, [b"ESTADO\n" * 512] * 50, read=False)


def endless(port: int, seconds: float, rate: int = 1000) -> Counts:
    """Fifty clients whose lines never end, and who begin anew when they have been sent away.

    At a rate, because a flood without end is the kernel's to carry, on whatever core it likes.
    """
    counts: Counts = Counter()
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(_connect(port)) for _ in range(50)]
        for tick in _ticks(seconds, rate):
            index = tick % len(socks)
            if not _send(socks[index], b"A" * 4096) or _ended(socks[index], counts):
                socks[index].close()
                socks[index] = stack.enter_context(_connect(port))
                counts["connections"] += 1
    return counts


def _ended(sock: socket.socket, counts: Counts) -> bool:
    """Read what has come; whether that was the end."""
    try:
        while data := sock.recv(_CHUNK):
            counts["replies"] += data.count(b"\n")
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def crowd(port: int, seconds: float, connections: int = 400) -> Counts:
    """Connect more often than there are descriptors, and ask for the stream, again and again."""
    counts: Counts = Counter()
    for _ in _ticks(seconds, 2):
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(_connect(port)) for _ in range(connections)]
            for sock, player in zip(socks, itertools.count(20000)):
                counts["connections"] += _send(sock, b"CONECTAR %d\n" % player)
            time.sleep(0.3)
    return counts


ASSAULTS: dict[str, Assault] = {
    each.__name__: each
    for each in (
        slowloris, storm, resets, commands, nonsense, moving, deaf, endless, crowd,
        datagrams.stranger, datagrams.uninvited, datagrams.garbage,
    )
}  # fmt: skip


def main() -> None:
    """Be one of them."""
    name, port, seconds = sys.argv[1:]
    os.nice(10)
    raise_descriptor_limit()
    print("ready", flush=True)
    print(json.dumps(ASSAULTS[name](int(port), float(seconds))))


if __name__ == "__main__":
    main()
