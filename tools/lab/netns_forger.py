"""A forger of ICMP port unreachable, to run inside a network namespace.

Usage: python -m tools.lab.netns_forger RELAY RELAY_PORT VIEWER VIEWER_PORT RATE. It says of a flow
from the relay to a viewer, so many times a second, that the viewer's port is closed (RFC 792),
until its standard input ends; then it prints how many packets it sent.
"""

import json
import select
import socket
import sys
import time

from tools.lab.icmp import unreachable


def main() -> None:
    """Send evenly until standard input ends."""
    relay, relay_port, viewer, viewer_port, rate = sys.argv[1:]
    packet = unreachable((relay, int(relay_port)), (viewer, int(viewer_port)))
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sent, due = 0, time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        sock.sendto(packet, (relay, 0))
        sent += 1
        due += 1 / float(rate)
    print(json.dumps({"sent": sent}))


if __name__ == "__main__":
    main()
