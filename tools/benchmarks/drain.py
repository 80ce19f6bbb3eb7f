"""Viewers over TCP who throw away what they get: `python -m tools.benchmarks.drain PORT TARGET N`.

They ask for TARGET by HTTP; `-`: the server just sends. When each of them has got the beginning of
a stream, it says `ready`; then, for each byte on standard input, the time (CLOCK_MONOTONIC) and how
many bytes each has got by now, as JSON.

The kernel throws the bytes away (MSG_TRUNC, tcp(7)), and all sockets are read at most a hundred
times a second: so a thousand viewers of 5 Mb/s take a tenth of a core, and not the relay's.
"""

import contextlib
import json
import os
import select
import socket
import sys
import time

from relaylib.net.descriptors import raise_descriptor_limit
from tools.lab.media import PACKET
from tools.lab.process import PATIENCE
from tools.lab.web import request

REST = 0.01
"""Seconds in which bytes gather, in the sockets."""

APART = 0.002
"""Seconds from one to the next: tcpserversink lets five wait to be accepted."""

_room = bytearray(1 << 20)  # of one read; never written to


def connect(port: int, target: str) -> socket.socket:
    """Connect, as soon as somebody listens there, and ask."""
    deadline = time.monotonic() + PATIENCE
    time.sleep(APART)
    while True:
        try:
            sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(REST)
            continue
        if target != "-":
            sock.sendall(request(target))
        return sock


def begin(sock: socket.socket, target: str) -> int:
    """Read until there is the beginning of a stream; return how many bytes of it there are."""
    data = b""
    while True:
        data += (some := sock.recv(1 << 16))
        head, _, body = data.rpartition(b"\r\n\r\n") if target != "-" else (b"", b"", data)
        if b"chunked" in head:
            body = body.partition(b"\r\n")[2]
        if is_stream(body):
            return len(body)
        assert some, f"no stream: {data[:200]!r}"


def is_stream(data: bytes) -> bool:
    """Tell whether this begins a transport stream or an MP4 file."""
    return data[:1] == data[PACKET : PACKET + 1] == b"\x47" or data[4:8] == b"ftyp"


def drain(socks: list[socket.socket], byte_count: list[int]) -> None:
    """Read on, and tell how far everybody is, until standard input ends."""
    poll = select.epoll()
    places = {sock.fileno(): place for place, sock in enumerate(socks)}
    for fd in (0, *places):
        poll.register(fd, select.EPOLLIN)
    while True:
        time.sleep(REST)
        for fd, _ in poll.poll():
            if fd == 0:
                if not os.read(0, 1):
                    return
                print(json.dumps([time.monotonic(), byte_count]), flush=True)
                continue
            place, got = places[fd], 0
            with contextlib.suppress(ConnectionResetError):
                got = socks[place].recv_into(_room, 0, socket.MSG_TRUNC)
            byte_count[place] += got
            if not got:
                poll.unregister(fd)


def main(port: int, target: str, count: int) -> None:
    raise_descriptor_limit()
    socks = [connect(port, target) for _ in range(count)]
    byte_count = [begin(sock, target) for sock in socks]
    print("ready", flush=True)
    drain(socks, byte_count)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
