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
    from relaylib.config import Config, parse
except ModuleNotFoundError:
    sys.exit("demo.py: needs the Python package structlog: make demo")

from relaylib.net.address import player_url, show
from relaylib.net.lookup import reachable_host, resolve

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
    came: list[int] = []
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda signum, _: came.append(signum))
    signal.signal(signal.SIGINT, lambda *_: None)
    with contextlib.ExitStack() as stack:
        manager = _service_manager(stack)
        relay = _start(stack, "relay.py", *words, stdout=subprocess.DEVNULL)
        source: Child | None = None
        while (ended := _ended(relay, source)) is None:
            while came:
                relay.send_signal(came.pop(0))
            ports = _ports(manager)
            if ports and source is None:
                control, ingest, http = ports
                words = ("tools/fake_vlc.py", config.host, ingest, "--rtp", "--loop")
                source = _start(stack, *words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                if os.isatty(1):
                    print(_guide(config, control, http), flush=True)
    if ended is source and source.stderr:
        print(source.stderr.read().decode(errors="replace"), end="", file=sys.stderr)
    status = ended.returncode
    return status if status >= 0 else 128 - status


def _guide(config: Config, control: str, http: str) -> str:
    """Tell a person at a terminal what to type next."""
    host = reachable_host(resolve(config.host, config.port)[1][0])
    url = player_url("rtp", 5004, ipv6=":" in host)
    page = PAGE.format(where=show((host, int(http)))) if http != "0" else ""
    return GUIDE.format(host=host, port=control, url=url, page=page)


def _service_manager(stack: contextlib.ExitStack) -> socket.socket:
    """Return the socket that the relay will tell how it is."""
    manager = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    manager.settimeout(TURN)
    os.environ["NOTIFY_SOCKET"] = stack.enter_context(tempfile.TemporaryDirectory()) + "/notify"
    manager.bind(os.environ["NOTIFY_SOCKET"])
    return manager


def _ports(manager: socket.socket) -> list[str]:
    """Return the ports of control, ingest and HTTP ("0": none) when the relay says them."""
    with contextlib.suppress(TimeoutError):
        for line in manager.recv(4096).decode().splitlines():
            name, _, value = line.partition("=")
            if name == "X_RELAY_PORTS":
                return value.split()
    return []


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
