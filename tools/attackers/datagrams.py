"""Those who try to spoil the stream, over UDP; see `assaults`."""

import contextlib
import random
import socket
import time
from collections import Counter

from tools.attackers.relay import HOST

Counts = Counter[str]

_SOL_UDP, _UDP_SEGMENT = 17, 103


def stranger(port: int, seconds: float, rate: int = 100_000, host: str = HOST) -> Counts:
    """Send a stream of one's own to an ingest that belongs to somebody else, at full tilt."""
    counts: Counts = Counter()
    segments, size = 40, 1316
    began = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.connect((HOST, port))
        sock.setsockopt(_SOL_UDP, _UDP_SEGMENT, size)
        batch = bytes(segments * size)
        while (elapsed := time.monotonic() - began) < seconds:
            if counts["datagrams"] > elapsed * rate:
                time.sleep(segments / rate)
                continue
            with contextlib.suppress(ConnectionRefusedError):
                counts["datagrams"] += sock.send(batch) // size
    return counts


def uninvited(port: int, seconds: float) -> Counts:
    """Do the same from an address that may not send the stream."""
    return stranger(port, seconds, host="127.0.0.2")


def garbage(port: int, seconds: float, rate: int = 10_000) -> Counts:
    """Send datagrams of every size, the empty one included, from ever new ports."""
    counts: Counts = Counter()
    chance = random.Random(1)
    noise = chance.randbytes(65507)
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        if counts["datagrams"] > elapsed * rate:
            time.sleep(0.001)
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(20):
                size = chance.choice((0, 1, 188, 1316, chance.randrange(65507), 65507))
                with contextlib.suppress(OSError):  # the send buffer has an end
                    sock.sendto(noise[:size], (HOST, port))
                    counts["datagrams"] += 1
        counts["ports"] += 1
    return counts
