"""A source to run inside a network namespace: bursts of numbered datagrams, as encoders send.

Usage: python -m tools.lab.netns_source HOST PORT. It sends until its standard input ends, then
prints how many datagrams it sent.
"""

import json
import select
import socket
import sys
import time

from tools.lab.numbered import make

PERIOD = 0.010
SIZES = (*(1316,) * 7, 564)
"""A frame's datagrams: full ones and what was left over, as ffmpeg sends them. 800 a second."""


def main() -> None:
    """Send a burst every `PERIOD` seconds; one that is late is followed up at once."""
    host, port = sys.argv[1:]
    address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][4]
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    sent, due = 0, time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        for size in SIZES:
            sock.send(make(sent, size))
            sent += 1
        due += PERIOD
    print(json.dumps({"sent": sent}))


if __name__ == "__main__":
    main()
