"""An upgrade: the program of an earlier release becomes this one, while it is in use."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.lab.process import ROOT, NeedError, need
from tools.lab.relay import RelayProcess
from tools.lab.reloads import (
    CountingViewers,
    NumberedStream,
    Typing,
    Typist,
    nonsense,
    reload,
    zapping,
)
from tools.lab.viewer import TestViewer

EARLIER = "2be42f1b7b05cc4e0de6768c9bd65ed4ca77818f"
"""A commit with a handed-over state of version 3. A later one is put here with each release."""

PROGRAM = ("relay.py", "relaylib")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The earlier program in a directory."""
    need("git", "tar")
    git = ("git", "-C", str(ROOT))
    known = subprocess.run([*git, "cat-file", "-e", f"{EARLIER}^{{commit}}"], check=False)
    if known.returncode:
        raise NeedError(f"needs the history back to commit {EARLIER}")
    archive = subprocess.run(
        [*git, "archive", EARLIER, *PROGRAM], check=True, stdout=subprocess.PIPE
    )
    subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=archive.stdout, check=True)
    return tmp_path


def upgrade(directory: Path) -> None:
    """Put this program in the place of that one."""
    shutil.rmtree(directory / "relaylib")
    shutil.copytree(
        ROOT / "relaylib", directory / "relaylib", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "relay.py", directory)


def test_an_upgrade_costs_nobody_anything(installed: Path) -> None:
    """Fifty viewers lose no datagram, connection or half-typed command, then or at the next one."""
    prefix = ("sh", "-c", f'cd {installed} && exec "$@"', "sh")
    with RelayProcess(prefix=prefix) as relay, contextlib.ExitStack() as stack:
        viewers = [stack.enter_context(TestViewer(relay.port)) for _ in range(50)]
        watching, paused, typing = viewers[:35], viewers[35:40], viewers[40:]
        for viewer in (*watching, *paused):
            viewer.subscribe()
        for viewer in paused:
            assert viewer.command("INTERRUMPIR") == "OK"
        typists = [Typist(viewer, nonsense()) for viewer in typing[:5]]
        typists += [Typist(viewer, zapping(viewer.port)) for viewer in typing[5:]]
        audience = stack.enter_context(CountingViewers(watching))
        stream = stack.enter_context(NumberedStream(relay.ingest_port))
        with Typing(typists):
            relay.wait_event("ingest_started")
            upgrade(installed)
            reload(relay)
            reload(relay)
        stream.__exit__()
        audience.expect(stream.sent)
        assert all(typist.finish() for typist in typists)
        for viewer in watching:
            assert f"enviados={stream.sent} perdidos=0 " in viewer.command("ESTADO")
        for viewer in paused:
            assert viewer.command("ESTADO").startswith("OK estado=pausado ")
        assert not relay.events("client_gone")
