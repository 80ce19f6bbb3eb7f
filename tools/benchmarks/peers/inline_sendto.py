"""The simplest design: one thread, one socket, `sendto` to everyone in turn.

usage: inline_sendto.py INGEST_PORT DESTINATION_PORT...   (all on 127.0.0.1)
"""

import socket
import sys


def _main(ingest_port: int, ports: list[int]) -> None:
    destinations = [("127.0.0.1", port) for port in ports]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind(("127.0.0.1", ingest_port))
        while datagram := sock.recv(65536):
            for destination in destinations:
                sock.sendto(datagram, destination)


if __name__ == "__main__":
    _main(int(sys.argv[1]), [int(port) for port in sys.argv[2:]])
