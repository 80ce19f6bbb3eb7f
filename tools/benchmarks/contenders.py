"""Who is measured: this relay, the C reference, Debian's own programs, and the naive designs.

Each is started anew for each measurement, as a real process with its destinations, and tuned as its
own manual allows: large socket buffers, no clock synchronisation, copying without remuxing.
"""

import contextlib
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tools.lab.machine import compile_c
from tools.lab.process import PATIENCE, ChildProcess
from tools.lab.relay import RelayProcess
from tools.lab.sockets import unused_port

RECEIVE_BUFFER = 4 << 20

AUTO = "relay"
PROMPT = "relay --coalesce 0"
DEFERRED = "relay, deferred"
"""The relay when all its viewers are behind, each at another place; see `defer`."""

REFERENCE = "C reference"
MULTIUDPSINK = "GStreamer multiudpsink"
TEE = "ffmpeg tee"
INLINE = "inline sendto"
THREADS = "threads and a queue"
NAMES = (AUTO, PROMPT, REFERENCE, MULTIUDPSINK, TEE, INLINE, THREADS)
PROGRAMS = {MULTIUDPSINK: "gst-launch-1.0", TEE: "ffmpeg"}
"""What must be installed for a contender."""


@dataclass
class Running:
    """A contender's process, the UDP port where it takes the stream, and how long it took.

    `sessions` are control connections, those of a relay.
    """

    program: ChildProcess
    ingest_port: int
    start_seconds: float = 0.0
    sessions: list[socket.socket] = field(default_factory=list)


def missing(name: str) -> str:
    """Why a contender cannot be measured here, or an empty string."""
    program = PROGRAMS.get(name, sys.executable)
    return "" if shutil.which(program) else f"{program} is not installed"


def _command(name: str, ingest: int, ports: Sequence[int]) -> list[str]:
    """How one of the peers is started, to forward from a port to others on 127.0.0.1."""
    if name == MULTIUDPSINK:
        clients = ",".join(f"127.0.0.1:{port}" for port in ports)
        source = f"udpsrc address=127.0.0.1 port={ingest} buffer-size={RECEIVE_BUFFER}"
        sink = f"multiudpsink sync=false async=false enable-last-sample=false clients={clients}"
        return f"gst-launch-1.0 -q {source} retrieve-sender-address=false ! {sink}".split()
    if name == TEE:  # `data` copies datagrams as they are, where mpegts would remux them
        options = f"fifo_size=20000&overrun_nonfatal=1&buffer_size={RECEIVE_BUFFER}"
        source = f"-f data -raw_packet_size 1316 -i udp://127.0.0.1:{ingest}?{options}"
        slaves = "|".join(f"[f=data]udp://127.0.0.1:{port}?pkt_size=1316" for port in ports)
        return f"ffmpeg -nostdin -loglevel quiet {source} -map 0 -c copy -f tee {slaves}".split()
    scripts = {INLINE: "inline_sendto", THREADS: "threads_and_queue"}
    program = (
        [str(compile_c("reference.c"))]
        if name == REFERENCE
        else [sys.executable, f"tools/benchmarks/peers/{scripts[name]}.py"]
    )
    return [*program, *map(str, (ingest, *ports))]


@contextlib.contextmanager
def running(
    name: str,
    ports: Sequence[int],
    core: Sequence[str],
    *,
    extra: Sequence[str] = (),
) -> Iterator[Running]:
    """A contender that forwards to `ports`; a peer may not be listening yet.

    `core` is the prefix that puts it on its core, `extra` are options of a relay.

    Raises:
        FAILURES: the relay does not start, or declines a session.
    """
    with contextlib.ExitStack() as stack:
        if name not in (AUTO, PROMPT, DEFERRED):
            ingest = unused_port()
            peer = stack.enter_context(ChildProcess(*core, *_command(name, ingest, ports)))
            yield Running(peer, ingest)
            return
        options = ["--coalesce", "0" if name == PROMPT else "auto", "--max-clients", "4000"]
        options += ["--timeshift", "60"] if name == DEFERRED else []
        options += extra
        began = time.monotonic()
        relay = RelayProcess(*options, prefix=tuple(core))
        start_seconds = time.monotonic() - began
        stack.enter_context(relay)
        sessions = [stack.enter_context(ask_for_stream(relay.port, port)) for port in ports]
        yield Running(relay, relay.ingest_port, start_seconds, sessions)


def ask_for_stream(control_port: int, port: int) -> socket.socket:
    """A control connection that asked for the stream at `port` and was told `OK`."""
    sock = socket.create_connection(("127.0.0.1", control_port), PATIENCE)
    _ask(sock, b"CONECTAR %d\n" % port)
    return sock


def defer(sessions: Sequence[socket.socket], seconds: float) -> None:
    """Let viewers pause one after the other, and then go on deferred, the last one first.

    So they are behind by up to twice `seconds`, no two by the same.
    """
    for session in sessions:
        time.sleep(seconds / len(sessions))
        _ask(session, b"INTERRUMPIR\n")
    for session in reversed(sessions):
        time.sleep(seconds / len(sessions))
        _ask(session, b"CONTINUAR DIFERIDO\n")


def _ask(sock: socket.socket, command: bytes) -> None:
    sock.sendall(command)
    reply = sock.recv(512)
    assert reply == b"OK\n", f"a session was declined: {reply!r}"
