"""The original design: one thread receives, and each client has a queue and a thread that sends.

usage: threads_and_queue.py INGEST_PORT DESTINATION_PORT...   (all on 127.0.0.1)
"""

import queue
import socket
import sys
import threading


def _client(port: int, datagrams: "queue.Queue[bytes]") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while True:
            sock.sendto(datagrams.get(), ("127.0.0.1", port))


def _main(ingest_port: int, ports: list[int]) -> None:
    queues: list[queue.Queue[bytes]] = [queue.Queue() for _ in ports]
    for port, datagrams in zip(ports, queues, strict=True):
        threading.Thread(target=_client, args=(port, datagrams), daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ingest:
        ingest.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        ingest.bind(("127.0.0.1", ingest_port))
        while datagram := ingest.recv(65536):
            for datagrams in queues:
                datagrams.put(datagram)


if __name__ == "__main__":
    _main(int(sys.argv[1]), [int(port) for port in sys.argv[2:]])
