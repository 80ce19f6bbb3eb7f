"""The Dockerfile: its steps, and the relay as a container's first process."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.lab.image import Image
from tools.lab.process import Program, wait_for
from tools.lab.relay import Relay
from tools.lab.viewer import Viewer
from tools.lab.web import Packets

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

SOURCE = """
import socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    sock.sendto(b"G" + bytes(187) * 7, ("127.0.0.1", 9000))
    time.sleep(0.01)
"""


@contextlib.contextmanager
def first_process(program: Program) -> Iterator[int]:
    """The process that is PID 1 in there, by its number out here; with it the container ends."""
    path = Path(f"/proc/{program.pid}/task/{program.pid}/children")
    pid = int(wait_for(path.read_text, "the container").split()[0])
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_the_image(tmp_path: Path) -> None:
    """It builds; as PID 1 and as nobody in particular the relay relays, reloads, reaps and ends."""
    with contextlib.ExitStack() as stack:
        image = Image(stack, tmp_path)
        assert image.run("id", "-u") == "9000\n"
        assert image.command == ("relay", "0.0.0.0", "9000", "--http", "8080")
        assert image.run(*image.command, "--check") == "the configuration is right\n"
        given = ("sh", "-c", 'shift 2; exec "$0" "$@"', image.command[0])
        relay = stack.enter_context(Relay(prefix=image.container(*given)))
        pid = stack.enter_context(first_process(relay))
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^Uid:\s+9000\s+9000\s.*^NSpid:\s+\d+\s+1$", status, re.M | re.S)
        with Viewer(relay.port) as viewer, Packets(relay.ingest_port):
            viewer.subscribe().receive()
            for count in (1, 2):
                os.kill(pid, signal.SIGHUP)
                relay.wait_event("reloaded", count, clients=1)
                viewer.receive()
            assert viewer.command("ESTADO").startswith("OK estado=transmitiendo ")
            children = Path(f"/proc/{pid}/task/{pid}/children")
            wait_for(lambda: children.read_text() == "", "no child and no zombie")
        os.kill(pid, signal.Signals[image.stop_signal])
        assert relay.wait() == 0
        assert relay.events("stopped")
        sees_its_health(image)


def sees_its_health(image: Image) -> None:
    """Show that the health check tells a relay that answers, even without a stream, from none."""
    command = image.container(*image.command, network=False)
    with Program(*command) as container, first_process(container) as pid:
        into = ("nsenter", f"--target={pid}", "--net", "--mount", "--root", "--wd")

        def healthy() -> bool:
            words = (*into, "env", f"PATH={image.environment['PATH']}", *image.health)
            return subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode == 0

        wait_for(healthy, "health without a source")
        with Program(*into, "python3", "-c", SOURCE):
            wait_for(lambda: '"ingest_started"' in "".join(container.stderr), "the source")
            assert healthy()
        os.kill(pid, signal.SIGSTOP)
        assert not healthy()
