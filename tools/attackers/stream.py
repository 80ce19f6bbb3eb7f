"""The stream that nobody may spoil, from a process of its own so that nothing delays it.

Each datagram has a number, and in the number's upper half the source's `epoch`: whoever receives
them can tell what is missing, and of whom, without knowing what was sent meanwhile.

`python -m tools.attackers.stream PORT EPOCH [RATE]` sends until its standard input ends, and then
prints how many datagrams it sent.
"""

import contextlib
import select
import socket
import sys
import time

from tools.lab.numbered import make

HOST = "127.0.0.1"

SIZE = 1316
"""Bytes a datagram: seven MPEG-TS packets, what VLC, ffmpeg and OBS send."""

RATE = 475
"""Datagrams a second: 5 Mb/s."""

EPOCH = 32
"""Bits of a datagram's number below its epoch."""


def send(port: int, epoch: int, rate: int = RATE) -> int:
    """Send evenly, late ones at once, until standard input ends; return how many left."""
    sent, began = 0, time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((HOST, port))
        while not stopped(began + sent / rate - time.monotonic()):
            with contextlib.suppress(ConnectionRefusedError):  # nobody is there yet, or any more
                sock.send(make(epoch << EPOCH | sent, SIZE))
                sent += 1
    return sent


def stopped(seconds: float) -> bool:
    """Wait so long for the end of standard input, which comes when the parent ends as well."""
    return bool(select.select([sys.stdin], [], [], max(0.0, seconds))[0])


if __name__ == "__main__":
    print(send(*map(int, sys.argv[1:])))
