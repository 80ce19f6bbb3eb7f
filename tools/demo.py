"""A relay with a stream of its own: `make demo`, for whoever has nothing at hand to send.

The relay is a child whose standard output is thrown away: its guide begins with sending a stream,
which the sample already does here, so the demo prints a guide of its own. fake_vlc starts when the
relay says that it listens. It says so as to systemd (sd_notify(3)), so that another relay on the
same port is not taken for it. Ctrl-C goes from the terminal to all three of them; other signals may
come to this program alone, by way of make, so they are passed on. When either child ends, so does
the other.
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
    from relaylib.config import HTTP_PORT, Config, parse
except ModuleNotFoundError:
    sys.exit("demo.py: needs the Python package structlog: make demo")

from relaylib.errors import SetupError
from relaylib.net.address import player_url
from relaylib.net.listen import bind
from relaylib.net.lookup import reachable_host, resolve
from tools.lab.sockets import unused_port

ROOT = Path(__file__).resolve().parent.parent

TURN = 0.1
"""Seconds between two looks at children and signals: a person does not notice."""

USAGE = """\
usage: demo.py [HOST [PORT]] [OPTION...]

Run the relay with the sample as an endless stream: all you need is a player.
HOST, PORT and the options are those of relay.py, which its --help lists.
"""

GUIDE = """
The relay is running, and the sample that comes with it streams already, over and over, as RTP.

  1. Ask for it, on the viewer's machine:
       python3 client.py {host} {port} 5004 --vlc=rtp      (or: nc {host} {port})
     then type CONECTAR 5004
  2. Watch it: --vlc opened the player; by hand, open this address in VLC:
       {url}
{page}
  To relay a stream of your own, end this first: make run.
  Ctrl-C ends the relay.
"""

PAGE = """
  Or in a browser, picture and all that the relay knows:
       http://{where}/
"""

Child = subprocess.Popen[bytes]


def main(words: Sequence[str]) -> int:
    """Run the relay with these words, and its source; return the exit status of what ended."""
    if {"-h", "--help"} & set(words):
        print(USAGE, end="")
        return 0
    config = parse(words)
    http = _http_port(config)
    ingest = str(config.ingest_port or config.port or unused_port())
    came: list[int] = []
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda signum, _: came.append(signum))
    signal.signal(signal.SIGINT, lambda *_: None)
    with contextlib.ExitStack() as stack:
        manager = _service_manager(stack)
        options = [*words, "--ingest-port", ingest]
        if config.http is not None:
            options += ["--http", f"{_bracketed(config.http[0])}:{http}"]
        relay = _start(stack, "relay.py", *options, stdout=subprocess.DEVNULL)
        source: Child | None = None
        while (ended := _ended(relay, source)) is None:
            while came:
                relay.send_signal(came.pop(0))
            if _is_ready(manager) and source is None:
                words = ("tools/fake_vlc.py", config.host, ingest, "--rtp", "--loop")
                source = _start(stack, *words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                if os.isatty(1):
                    print(_guide(config, http), flush=True)
    if ended is source and source.stderr:
        print(source.stderr.read().decode(errors="replace"), end="", file=sys.stderr)
    status = ended.returncode
    return status if status >= 0 else 128 - status


def _http_port(config: Config) -> int | None:
    """Choose where the page is: the child cannot say what it has chosen."""
    if config.http is None:
        return None
    host, port = config.http
    if port is not None:
        return port
    with contextlib.suppress(SetupError), bind(host, HTTP_PORT, socket.SOCK_STREAM):
        return HTTP_PORT
    return unused_port()


def _guide(config: Config, http: int | None) -> str:
    """Tell a person at a terminal what to type next; for port 0 the log says which it is."""
    host = reachable_host(resolve(config.host, config.port)[1][0])
    url = player_url("rtp", 5004, ipv6=":" in host)
    page = PAGE.format(where=f"{_bracketed(host)}:{http}") if http else ""
    return GUIDE.format(host=host, port=config.port or "PORT", url=url, page=page)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


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
