"""The Dockerfile: what it copies and starts; and the relay as the first process of a container."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tools.lab.process import ROOT, ChildProcess, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.viewer import TestViewer
from tools.lab.web import Packets

TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
STEPS: list[tuple[str, str]] = re.findall(r"^([A-Z]+) (.*)$", TEXT, re.MULTILINE)


def last(instruction: str) -> str:
    """Return the arguments of the last instruction of that name."""
    return [words for name, words in STEPS if name == instruction][-1]


def kept() -> list[str]:
    """Return what of the project goes into the build."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    return [line[1:] for line in lines if line.startswith("!")]


def test_what_is_built_is_there() -> None:
    """The build gets the whole program and what pyproject.toml names, and has no other files."""
    assert [name for name in kept() if not (ROOT / name).exists()] == []
    assert {"relay.py", "client.py", "relaylib", "pyproject.toml", "README.md"} <= set(kept())


def test_the_image_starts_the_relay_without_root() -> None:
    """Its command is a right configuration, its user is not root, its signal ends the relay."""
    assert last("USER") == "relay"
    assert last("STOPSIGNAL") == "SIGTERM"
    assert json.loads(last("ENTRYPOINT")) == ["relay"]
    words: list[str] = json.loads(last("CMD"))
    with ChildProcess(sys.executable, "relay.py", *words, "--check") as check:
        assert check.wait() == 0, check.stderr


def test_the_health_check_needs_an_answer() -> None:
    """It succeeds while a relay answers, even without a stream, and fails where none does."""
    python, *words = json.loads(last("HEALTHCHECK").partition(" CMD ")[2])
    with RelayProcess() as relay:
        words[-1] = words[-1].replace("9000", str(relay.port))
        with ChildProcess(python, *words) as check:
            assert check.wait() == 0, check.stderr
    with ChildProcess(python, *words) as check:
        assert check.wait() == 1


@pytest.mark.long
def test_the_first_process_of_a_container() -> None:
    """As PID 1 the relay relays, reloads, leaves no zombie, and ends at the image's signal."""
    need("unshare")
    space = ("unshare", "--pid", "--mount-proc", "--fork", "--kill-child")
    with RelayProcess(prefix=space) as relay:
        children = Path(f"/proc/{relay.pid}/task/{relay.pid}/children").read_text()
        pid = int(children.split()[0])
        with TestViewer(relay.port) as viewer, Packets(relay.ingest_port):
            viewer.subscribe().receive()
            for count in (1, 2):
                os.kill(pid, signal.SIGHUP)
                relay.wait_event("reloaded", count, clients=1)
                viewer.receive()
            of_it = Path(f"/proc/{pid}/task/{pid}/children")
            wait_for(lambda: of_it.read_text() == "", "no child and no zombie")
        os.kill(pid, signal.Signals[last("STOPSIGNAL")])
        assert relay.wait() == 0
        assert relay.events("stopped")
