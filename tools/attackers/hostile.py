"""Those who try to spoil the stream: each function is one way, and returns its counts.

`python -m tools.attackers.hostile NAME PORT SECONDS PID` says `ready`, goes on for that long, and
prints its counts as JSON; process PID is the relay. It steps back behind everybody else (nice), so
that what it does to the relay is measured and not what it does to the machine.
"""

import contextlib
import json
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from relaylib.net.descriptors import raise_descriptor_limit
from relaylib.net.linux import set_segment
from tools.attackers.guests import RESET
from tools.attackers.stream import EPOCH, HOST, SIZE
from tools.lab.icmp import raw_icmp, unreachable
from tools.lab.numbered import make
from tools.lab.process import PATIENCE
from tools.lab.sockets import unused_port

Counts = Counter[str]


def connect(port: int, *, room: int = 0) -> socket.socket:
    """Begin to connect, without waiting; on the loopback that is as good as done.

    `room` bytes of receive buffer, unless 0: what the kernel thinks best.
    """
    sock = socket.socket()
    if room:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    sock.setblocking(False)
    sock.connect_ex((HOST, port))
    return sock


def send(sock: socket.socket, data: bytes) -> bool:
    """Send what the kernel takes; False when the connection is over."""
    try:
        sock.send(data)
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True


def ticks(seconds: float, rate: float) -> Iterator[int]:
    """Count up at `rate` a second, for `seconds`; late ticks follow at once."""
    began = time.monotonic()
    for tick in range(int(seconds * rate)):
        if (wait := began + tick / rate - time.monotonic()) > 0:
            time.sleep(wait)
        yield tick


def busily(seconds: float) -> Iterator[int]:
    """Count up as fast as possible, for `seconds`."""
    end, turn = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield turn
        turn += 1


# --- connections


def slowloris(port: int, seconds: float) -> Counts:
    """Hold every place there is, sending a byte a second and never a whole line."""
    counts: Counts = Counter(connections=1000)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(port)) for _ in range(1000)]
        for tick in ticks(seconds, 20):
            counts["bytes"] += sum(send(sock, b"A") for sock in socks[tick % 20 :: 20])
    return counts


def storm(port: int, seconds: float) -> Counts:
    """Connect and leave at once, over and over."""
    counts: Counts = Counter()
    for _ in ticks(seconds, 1000):
        with connect(port) as sock:
            counts["connections"] += send(sock, b"ESTADO\n")
    return counts


def resets(port: int, seconds: float) -> Counts:
    """Subscribe and reset the connection: before the reply, and in the middle of a line."""
    counts: Counts = Counter()
    player = unused_port()
    for tick in ticks(seconds, 500):
        with connect(port) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            counts["resets"] += send(sock, b"CONECTAR %d\nINTERRUM" % (player if tick % 2 else 9))
    return counts


def exhaust(port: int, seconds: float) -> Counts:
    """Connect more often than there are descriptors, and ask for the stream, again and again."""
    counts: Counts = Counter()
    for _ in ticks(seconds, 2):
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(connect(port)) for _ in range(400)]
            for player, sock in enumerate(socks, 20_000):
                counts["connections"] += send(sock, b"CONECTAR %d\n" % player)
            time.sleep(0.3)
    return counts


def idlers(port: int, seconds: float) -> Counts:
    """Hold every place and take each that gets free, while others come who would watch."""
    counts: Counts = Counter()
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(connect(port))
        for _ in ticks(seconds, 5):
            counts["newcomers"] += 1
            counts["served"] += ask(port, b"CONECTAR %d\n" % unused_port()) == b"OK\n"
            stack.enter_context(connect(port))
    return counts


def ask(port: int, data: bytes) -> bytes:
    """Send all one has to say on a connection, and return all that is answered."""
    with socket.create_connection((HOST, port), PATIENCE) as sock, contextlib.suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as replies:
            return replies.read()
    return b""


# --- commands


def flood(port: int, turns: Iterable[int], payloads: list[bytes], *, room: int = 0) -> Counts:
    """Send each payload over and over on a connection of its own, made anew when it is ended.

    Replies are read, except where there is hardly `room` for them.
    """
    counts: Counts = Counter(connections=len(payloads))
    socks = [connect(port, room=room) for _ in payloads]
    for turn in turns:
        place = turn % len(socks)
        sock = socks[place]
        try:
            with contextlib.suppress(BlockingIOError):
                counts["bytes"] += sock.send(payloads[place])
            while not room and (data := sock.recv(1 << 16)):
                counts["replies"] += data.count(b"\n")
            over = not room
        except BlockingIOError:
            over = False
        except OSError:
            over = True
        if over:
            sock.close()
            socks[place] = connect(port, room=room)
            counts["connections"] += 1
    for sock in socks:
        sock.close()
    return counts


def commands(port: int, seconds: float) -> Counts:
    """Ask, in well-formed commands, as fast as they are answered."""
    words = [b"ESTADO\n", b"AYUDA\n", b"INTERRUMPIR\n", b"CONECTAR 80\n"]
    return flood(port, busily(seconds), [word * 512 for word in words] * 5)


def nonsense(port: int, seconds: float) -> Counts:
    """Send what is cheapest to send and dearest to read."""
    telnet = [b"\xff\xfb\x01" * 2048 + b"\n", b"\xff\xfa" + b"a" * 8192]
    return flood(port, busily(seconds), [b"\n" * 8192, b"x\n" * 4096, *telnet] * 5)


def moving(port: int, seconds: float) -> Counts:
    """Move a stream to and fro between two ports."""
    pairs = [(unused_port(), unused_port()) for _ in range(10)]
    payloads = [b"CONECTAR %d\nCONECTAR %d\n" % pair * 64 for pair in pairs]
    return flood(port, busily(seconds), payloads)


def pausing(port: int, seconds: float) -> Counts:
    """Pause and resume, over and over: each time there is something to log."""
    pairs = b"INTERRUMPIR\nCONTINUAR\n" * 256
    payloads = [b"CONECTAR %d\n" % unused_port() + pairs for _ in range(20)]
    return flood(port, busily(seconds), payloads)


def posts(port: int, seconds: float) -> Counts:
    """Have a browser send commands: any web page can, in the body of a form."""
    counts: Counts = Counter()
    head = b"POST / HTTP/1.1\r\nHost: relay\r\nContent-Type: text/plain\r\n\r\n"
    for _ in ticks(seconds, 100):
        counts["posts"] += 1
        reply = ask(port, head + b"CONECTAR %d\r\n" % unused_port())
        counts["obeyed"] += b"OK" in reply.split(b"\n")
    return counts


def deaf(port: int, seconds: float) -> Counts:
    """Ask for much, and never read an answer."""
    return flood(port, busily(seconds), [b"AYUDA\n" * 1024] * 50, room=1)


def endless(port: int, seconds: float) -> Counts:
    """Send lines that never end.

    At a rate, because a flood without end is the kernel's to carry, on whatever core it likes.
    """
    return flood(port, ticks(seconds, 1000), [b"A" * 4096] * 50)


# --- by HTTP

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def requests(port: int, seconds: float) -> Counts:
    """Ask without waiting for answers, as fast as they are taken."""
    page = b"GET /nothing?%s HTTP/1.1\r\nHost: [::1]\r\n\r\n" % (b"a=%41&" * 12)
    return flood(port, busily(seconds), [GET * 64, page * 32, GET.replace(b"G", b"P", 1) * 16] * 7)


def odd_requests(port: int, seconds: float) -> Counts:
    """Ask an edge for what is not there, spelled otherwise each time, and with odd headers."""
    line = b"GET /%s?%d HTTP/1.1\r\nHost: x\r\nRange: bytes=%d-1\r\nX: %s\r\n\r\n"
    names = (b"live.m3u8", b"hls/ab/1.ts", b"hls/ab/%31.ts", b"hls/../live.m3u8")
    some = [b"".join(line % (name, n, n, b"y" * 900) for name in names) for n in range(10)]
    return flood(port, busily(seconds), some)


def deaf_requests(port: int, seconds: float) -> Counts:
    """Ask for much, and never read an answer."""
    return flood(port, busily(seconds), [GET * 64] * 50, room=1)


def malformed(port: int, seconds: float) -> Counts:
    """Send what is no request: heads without end, garbage, TLS, lengths that contradict."""
    noise = random.Random(1)
    both = GET[:-2] + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    long = [b"GET /" + b"a" * 8192, GET[:-2] + b"X: y\r\n" * 2048, b"\r\n" * 4096]
    return flood(port, busily(seconds), [both * 9, *long, *(noise.randbytes(999) for _ in "0123")])


def slow_heads(port: int, seconds: float) -> Counts:
    """Hold 2,000 connections, with a byte of a head a second on each, while others come."""
    counts: Counts = Counter(connections=2000)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(port)) for _ in range(2000)]
        for tick in ticks(seconds, 20):
            head = GET[tick // 20 :][:1]
            counts["bytes"] += sum(send(sock, head) for sock in socks[tick % 20 :: 20])
            if tick % 5 == 0:
                counts["newcomers"] += 1
                counts["served"] += ask(port, GET).startswith(b"HTTP/1.1 ")
    return counts


# --- datagrams

OFTEN = 0.3
"""Seconds between two datagrams of a squatter."""


def stranger(port: int, seconds: float) -> Counts:
    """Send a stream of one's own to an ingest that belongs to somebody else, at full tilt."""
    return _stream(port, seconds, HOST)


def outsider(port: int, seconds: float) -> Counts:
    """Do so from an address that may not send the stream."""
    return _stream(port, seconds, "127.0.0.2")


def _stream(port: int, seconds: float, address: str) -> Counts:
    counts: Counts = Counter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        sock.connect((HOST, port))
        set_segment(sock, SIZE)
        burst = bytes(40 * SIZE)
        for _ in ticks(seconds, 2500):
            with contextlib.suppress(ConnectionRefusedError):
                counts["datagrams"] += sock.send(burst) // SIZE
    return counts


def squatter(port: int, seconds: float) -> Counts:
    """Send a datagram now and then: no stream, and no silence either for whoever waits for one."""
    counts: Counts = Counter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((HOST, port))
        for number in ticks(seconds, 1 / OFTEN):
            sock.send(make(1 << EPOCH | number, SIZE))
            counts["datagrams"] += 1
    return counts


def garbage(port: int, seconds: float) -> Counts:
    """Send datagrams of every size, the empty one included, from ever new ports."""
    counts: Counts = Counter()
    chance = random.Random(1)
    noise = chance.randbytes(65507)
    for _ in ticks(seconds, 500):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(20):
                size = chance.choice((0, 1, 188, SIZE, chance.randrange(65507), 65507))
                with contextlib.suppress(OSError):  # the send buffer has an end
                    sock.sendto(noise[:size], (HOST, port))
                    counts["datagrams"] += 1
        counts["ports"] += 1
    return counts


def oversize(port: int) -> None:
    """Be the source, before anybody else is, for 20 datagrams that some paths do not carry."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(20):
            sock.sendto(make(number, 1480), (HOST, port))


def forgers(_port: int, seconds: float) -> Counts:
    """Tell the relay 40 times a second of each of its outputs that the player's port is closed."""
    counts: Counts = Counter()
    outputs = list(_connected(_relay()))
    with raw_icmp() as sock:
        for _ in ticks(seconds, 40):
            for output, player in outputs:
                sock.sendto(unreachable((HOST, output), (HOST, player)), (HOST, 0))
                counts["errors"] += 1
    return counts


def _connected(pid: int) -> Iterator[tuple[int, int]]:
    """Yield the ports of a process's connected UDP sockets, own and peer's (proc_net_udp(5))."""
    own = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        _, local, peer, *_, inode = line.split()[:10]
        if f"socket:[{inode}]" in own and not peer.endswith(":0000"):
            yield int(local.split(":")[1], 16), int(peer.split(":")[1], 16)


# --- others


def hangups(_port: int, seconds: float) -> Counts:
    """Ask for a reload ten times a second."""
    counts: Counts = Counter()
    for _ in ticks(seconds, 10):
        os.kill(_relay(), signal.SIGHUP)
        counts["SIGHUPs"] += 1
    return counts


BACK = 47100
"""Where the relay under attack sends the stream, too."""


def send_back(port: int, seconds: float) -> Counts:
    """Be a relay whose output leads back, and which is held up now and then."""
    counts: Counts = Counter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, BACK))
        sock.setblocking(False)
        for _ in ticks(seconds, 4):
            with contextlib.suppress(BlockingIOError):
                for _ in range(1000):
                    sock.sendto(sock.recv(65535), (HOST, port))
                    counts["datagrams"] += 1
    return counts


def nobody(_port: int, seconds: float) -> Counts:
    """Do nothing: the harm is done."""
    time.sleep(seconds)
    return Counter()


def _relay() -> int:
    return int(sys.argv[4])


if __name__ == "__main__":
    name, port, seconds, _ = sys.argv[1:]
    os.nice(10)
    raise_descriptor_limit()
    print("ready", flush=True)
    print(json.dumps(globals()[name](int(port), float(seconds))))
