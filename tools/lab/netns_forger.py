"""A forger of ICMP port unreachable, to run inside a network namespace.

Usage: python -m tools.lab.netns_forger RELAY RELAY_PORT VIEWER VIEWER_PORT RATE. It says of a flow
from the relay to a viewer, so many times a second, that the viewer's port is closed (RFC 792),
until its standard input ends; then it prints how many packets it sent.
"""

import json
import select
import socket
import struct
import sys
import time

UNREACHABLE, PORT = 3, 3
QUOTED_LENGTH = 20 + 8 + 1316


def checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def forge(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """Make the packet: the error, and the headers of the datagram that it claims to answer."""
    ends = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    ip = struct.pack("!BBHHHBBH", 0x45, 0, QUOTED_LENGTH, 1, 0, 64, socket.IPPROTO_UDP, 0) + ends
    udp = struct.pack("!HHHH", source[1], destination[1], QUOTED_LENGTH - 20, 0)
    head = struct.pack("!BBHI", UNREACHABLE, PORT, 0, 0)
    packet = head + ip + udp
    return packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]


def main() -> None:
    """Send evenly until standard input ends."""
    relay, relay_port, viewer, viewer_port, rate = sys.argv[1:]
    packet = forge((relay, int(relay_port)), (viewer, int(viewer_port)))
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sent, due = 0, time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        sock.sendto(packet, (relay, 0))
        sent += 1
        due += 1 / float(rate)
    print(json.dumps({"sent": sent}))


if __name__ == "__main__":
    main()
