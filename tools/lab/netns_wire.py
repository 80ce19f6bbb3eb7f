"""A bad wire between two network namespaces: it delays frames and loses some.

What `tc netem` does, for kernels built without it. Two TAP devices (tuntap.rst in the kernel's
documentation) appear in the namespace where this runs, to be moved to where the ends belong: a
descriptor stays with its device wherever that goes. Usage: python -m tools.lab.netns_wire NAME
NAME. Each line of its standard input sets the delay in ms and the share of frames to lose, both 0
at first, and is answered with a JSON object; it ends with its input.
"""

import contextlib
import fcntl
import heapq
import itertools
import json
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
LARGEST_FRAME = 1 << 16


def open_tap(name: str) -> int:
    """Make a TAP device; return the descriptor that its frames come out of."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


def main() -> None:
    """Carry frames from each end to the other, late, until standard input ends."""
    delay, lost, dice = 0.0, 0.0, random.Random(1)
    ends = [open_tap(name) for name in sys.argv[1:]]
    other = dict(zip(ends, reversed(ends), strict=True))
    on_the_way: list[tuple[float, int, int, bytes]] = []
    stdin = sys.stdin.fileno()
    number = itertools.count()
    while True:
        wait = max(0.0, on_the_way[0][0] - time.monotonic()) if on_the_way else None
        ready = select.select([stdin, *ends], [], [], wait)[0]
        if stdin in ready:
            ready.remove(stdin)
            line = sys.stdin.readline()
            if not line:
                return
            delay, lost = float(line.split()[0]) / 1000, float(line.split()[1])
            print(json.dumps({"delay": delay, "lost": lost}), flush=True)
        for fd in ready:
            frame = os.read(fd, LARGEST_FRAME)
            if dice.random() >= lost:
                due = time.monotonic() + delay
                heapq.heappush(on_the_way, (due, next(number), other[fd], frame))
        while on_the_way and on_the_way[0][0] <= time.monotonic():
            _, _, fd, frame = heapq.heappop(on_the_way)
            with contextlib.suppress(OSError):  # EIO: that end is not up yet
                os.write(fd, frame)


if __name__ == "__main__":
    main()
