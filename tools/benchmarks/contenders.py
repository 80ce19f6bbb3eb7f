"""Who is measured: this relay, the C reference, Debian's own programs, and the naive designs.

Each is started anew for each measurement, as a real process with its destinations, and tuned as its
own manual allows: large socket buffers, no clock synchronisation, copying without remuxing.
"""

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.benchmarks.machine import ROOT, on_core
from tools.benchmarks.source import NotReadyError

_PATIENCE = 15.0
_PEERS = Path(__file__).resolve().parent / "peers"
_RECEIVE_BUFFER = 4 << 20


@dataclass
class Running:
    """A contender's process, and the UDP port on 127.0.0.1 where it takes the stream."""

    process: "subprocess.Popen[bytes]"
    ingest_port: int
    start_seconds: float = 0.0


@contextlib.contextmanager
def _killed(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Kill the process with the block: it has nothing to save, and some are slow to go."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Peer:
    """A program that takes its ingest port and its destinations on the command line."""

    def __init__(
        self, name: str, program: str, words: Callable[[int, Sequence[int]], list[str]]
    ) -> None:
        self.name = name
        self._program = program
        self._words = words

    def missing(self) -> str:
        """Why it cannot be measured here, or an empty string."""
        return "" if shutil.which(self._program) else f"{self._program} is not installed"

    @contextlib.contextmanager
    def running(self, ports: Sequence[int], core: int) -> Iterator[Running]:
        """The process, started on its core; it may not be listening yet."""
        ingest_port = _free_port()
        words = [self._program, *self._words(ingest_port, ports)]
        with on_core(core):
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        with _killed(process):
            yield Running(process, ingest_port)


class Relay:
    """This relay, its destinations subscribed through its own control protocol."""

    def __init__(self, name: str, coalesce: str) -> None:
        self.name = name
        self._options = ("--coalesce", coalesce)

    def missing(self) -> str:
        """Never: it is what the benchmark is for."""
        return ""

    @contextlib.contextmanager
    def running(
        self, ports: Sequence[int], core: int, interpreter: Sequence[str] = (sys.executable,)
    ) -> Iterator[Running]:
        """The process, listening, with one session for each of `ports`, streaming.

        `interpreter` replaces the command that runs relay.py.  Raises NotReadyError.
        """
        words = [*interpreter, "relay.py", "127.0.0.1", "0", "--log-format", "json"]
        with contextlib.ExitStack() as stack:
            words += [*self._options, *_room_for_many()]
            log = stack.enter_context(tempfile.TemporaryFile())
            began = time.monotonic()
            with on_core(core):
                process = subprocess.Popen(
                    words,
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                )
            stack.enter_context(process)
            stack.enter_context(_killed(process))
            listening = _wait_listening(process, log.fileno())
            start_seconds = time.monotonic() - began
            for port in ports:
                stack.enter_context(_subscribe(listening["port"], port))
            yield Running(process, listening["ingest_port"], start_seconds)


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@functools.cache
def _room_for_many() -> tuple[str, ...]:
    """The option that lets in more sessions than the default, if this relay has one."""
    words = [sys.executable, "relay.py", "--help"]
    text = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return ("--max-clients", "4000") if "--max-clients" in text else ()


def _wait_listening(process: "subprocess.Popen[bytes]", log: int) -> dict[str, int]:
    """Poll the relay's log, every millisecond, for the event that says where it listens.

    `log` is a descriptor that shares its offset with the relay's stderr: pread(2) leaves it alone.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        for line in os.pread(log, 1 << 16, 0).splitlines(keepends=True):
            if b'"listening"' in line and line.endswith(b"\n"):
                event: dict[str, int] = json.loads(line)
                return event
        time.sleep(0.001)
    said = os.pread(log, 1 << 16, 0).decode(errors="replace").strip()
    raise NotReadyError(f"never listened: {said[-200:]}")


def _subscribe(control_port: int, port: int) -> socket.socket:
    """A control connection that asked for the stream at `port` and was told `OK`."""
    sock = socket.create_connection(("127.0.0.1", control_port), _PATIENCE)
    sock.sendall(b"CONECTAR %d\n" % port)
    reply = sock.recv(512)
    if reply != b"OK\n":
        sock.close()
        raise NotReadyError(f"a session was refused: {reply.decode(errors='replace').strip()}")
    return sock


def _gstreamer(ingest_port: int, ports: Sequence[int]) -> list[str]:
    clients = ",".join(f"127.0.0.1:{port}" for port in ports)
    source = f"udpsrc address=127.0.0.1 port={ingest_port} buffer-size={_RECEIVE_BUFFER}"
    sink = f"multiudpsink sync=false async=false enable-last-sample=false clients={clients}"
    return f"-q {source} retrieve-sender-address=false ! {sink}".split()


def _ffmpeg(ingest_port: int, ports: Sequence[int]) -> list[str]:
    """`data` for both formats: it copies datagrams as they are, where mpegts would remux them."""
    options = f"fifo_size=20000&overrun_nonfatal=1&buffer_size={_RECEIVE_BUFFER}"
    source = f"-f data -raw_packet_size 1316 -i udp://127.0.0.1:{ingest_port}?{options}"
    slaves = "|".join(f"[f=data]udp://127.0.0.1:{port}?pkt_size=1316" for port in ports)
    return f"-nostdin -loglevel quiet {source} -map 0 -c copy -f tee {slaves}".split()


def _plain(ingest_port: int, ports: Sequence[int]) -> list[str]:
    return [str(ingest_port), *map(str, ports)]


def _script(name: str) -> Callable[[int, Sequence[int]], list[str]]:
    return lambda ingest_port, ports: [str(_PEERS / name), *_plain(ingest_port, ports)]


Contender = Peer | Relay

AUTO = "relay"
PROMPT = "relay --coalesce 0"
REFERENCE = "C reference"
MULTIUDPSINK = "GStreamer multiudpsink"
TEE = "ffmpeg tee"
THREADS = "threads and a queue"
INLINE = "inline sendto"
NAMES = (AUTO, PROMPT, REFERENCE, MULTIUDPSINK, TEE, INLINE, THREADS)


def line_up(reference: Path) -> dict[str, Contender]:
    """Every contender by name, `reference` being the compiled tools/reference.c."""
    contenders: list[Contender] = [
        Relay(AUTO, "auto"),
        Relay(PROMPT, "0"),
        Peer(REFERENCE, str(reference), _plain),
        Peer(MULTIUDPSINK, "gst-launch-1.0", _gstreamer),
        Peer(TEE, "ffmpeg", _ffmpeg),
        Peer(INLINE, sys.executable, _script("inline_sendto.py")),
        Peer(THREADS, sys.executable, _script("threads_and_queue.py")),
    ]
    return {contender.name: contender for contender in contenders}
