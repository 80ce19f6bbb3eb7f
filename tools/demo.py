"""A relay with a stream of its own: `make demo`, for whoever has nothing at hand to send.

The relay is a child that has the terminal. fake_vlc starts once this relay, and not another one on
the same port, says that it listens: it says so as to systemd (sd_notify(3)). Ctrl-C goes from the
terminal to all three of them; other signals may come to this program alone, by way of make, so they
are passed on. When either child ends, so does the other.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

try:
    from relaylib.config import parse
except ModuleNotFoundError:
    sys.exit("demo.py: needs the Python package structlog: make demo")

ROOT = Path(__file__).resolve().parent.parent

TURN = 0.1
"""Seconds between two looks at children and signals: a person does not notice."""

Child = subprocess.Popen[bytes]


def main(words: Sequence[str]) -> int:
    """Run the relay with these words, and its source; return the exit status of what ended."""
    config = parse(words)
    ingest = str(config.ingest_port or config.port or _free_port())
    came: list[int] = []
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda signum, _: came.append(signum))
    signal.signal(signal.SIGINT, lambda *_: None)
    with contextlib.ExitStack() as stack:
        manager = _service_manager(stack)
        relay = _start(stack, "relay.py", *words, "--ingest-port", ingest)
        source: Child | None = None
        while (ended := _ended(relay, source)) is None:
            while came:
                relay.send_signal(came.pop(0))
            if _is_ready(manager) and source is None:
                words = ("tools/fake_vlc.py", config.host, ingest, "--rtp", "--loop")
                source = _start(stack, *words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if ended is source and source.stderr:
        print(source.stderr.read().decode(errors="replace"), end="", file=sys.stderr)
    status = ended.returncode
    return status if status >= 0 else 128 - status


def _free_port() -> int:
    """Return a UDP port for the stream, because fake_vlc must know it as well."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _service_manager(stack: contextlib.ExitStack) -> socket.socket:
    """Return the socket that the relay will tell how it is."""
    manager = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    manager.settimeout(TURN)
    os.environ["NOTIFY_SOCKET"] = stack.enter_context(tempfile.TemporaryDirectory()) + "/notify"
    manager.bind(os.environ["NOTIFY_SOCKET"])
    return manager


def _is_ready(manager: socket.socket) -> bool:
    with contextlib.suppress(TimeoutError):
        return b"READY=1" in manager.recv(4096)
    return False


def _start(stack: contextlib.ExitStack, program: str, *words: str, **options: Any) -> Child:
    child = subprocess.Popen([sys.executable, str(ROOT / program), *words], **options)
    stack.callback(child.wait)
    stack.callback(child.terminate)
    return child


def _ended(relay: Child, source: Child | None) -> Child | None:
    """Return the child that has ended, if one has; a source that got the Ctrl-C does not count."""
    if relay.poll() is not None:
        return relay
    return source if source and source.poll() in (1, 2) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
