"""The unit files: right, tight, and not too tight for what the relay does."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.lab.process import ROOT, ChildProcess, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import CountingViewers, NumberedStream, reload
from tools.lab.sockets import source, unused_port
from tools.lab.viewer import TestViewer


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The unit files, with the paths of this machine in place of those of an installed relay."""
    for unit in (ROOT / "systemd").iterdir():
        text = unit.read_text().replace("/opt/relay/.venv/bin/python", sys.executable)
        (tmp_path / unit.name).write_text(text.replace("/opt/relay", str(ROOT)))
    return tmp_path


def analyze(*words: str | Path) -> str:
    """Run systemd-analyze; return what it says."""
    need("systemd-analyze")
    command = ["systemd-analyze", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_units_are_right(units: Path) -> None:
    """systemd finds nothing to say about them."""
    channel = units / "relay@news.socket"  # as relay@.service says to make one
    channel.write_text((units / "relay.socket").read_text())
    assert analyze("verify", "--man=no", *units.iterdir()) == ""


def test_the_service_is_sandboxed(units: Path) -> None:
    """systemd rates the service's exposure at 1.5 of 10 at most."""
    said = analyze("security", "--offline=yes", "--threshold=15", units / "relay.service")
    assert "Overall exposure level" in said


def test_a_channel_is_the_same_service(units: Path) -> None:
    """The template differs in its description and in where the options are, and in nothing else."""
    one, many = (
        (units / name).read_text().partition("[Unit]")[2].splitlines()
        for name in ("relay.service", "relay@.service")
    )
    changed = [pair for pair in zip(one, many, strict=True) if pair[0] != pair[1]]
    (_, description), (command, of_channel) = changed
    assert description == "Description=Live video relay, channel %I"
    assert of_channel == command.replace("/etc/relay.conf", "/etc/relay/%i.conf")


def test_channels_side_by_side(units: Path, tmp_path: Path) -> None:
    """Two instances by the command of the unit, each with its file: each has its own stream."""
    words = re.search("^ExecStart=(.+)$", (units / "relay@.service").read_text(), re.MULTILINE)
    assert words is not None
    with contextlib.ExitStack() as stack:
        ports = {"news": unused_port(), "sport": unused_port()}
        for name, port in ports.items():
            conf = tmp_path / f"{name}.conf"
            conf.write_text(f"127.0.0.1 {port} --log-format json\n")
            command = words[1].replace("/etc/relay/%i.conf", str(conf)).split()
            program = stack.enter_context(ChildProcess(*command))
            wait_for(lambda it=program: "listening" in "".join(it.stderr), name)  # type: ignore[misc]
        viewers = {name: stack.enter_context(TestViewer(port)) for name, port in ports.items()}
        for name, viewer in viewers.items():
            viewer.subscribe()
            with source(ports[name]) as sock:
                sock.send(name.encode())
        assert {name: viewer.receive().decode() for name, viewer in viewers.items()} == {
            name: name for name in ports
        }
        assert all(viewer.nothing_arrives() for viewer in viewers.values())


def allowed() -> set[str]:
    """Return the system calls that the service's filter lets pass (systemd.exec(5))."""
    calls = members("@default")
    service = (ROOT / "systemd/relay.service").read_text()
    for sign, names in re.findall(r"^SystemCallFilter=(~?)(.+)$", service, re.MULTILINE):
        for name in names.split():
            calls = calls - members(name) if sign else calls | members(name)
    return calls | members("@default")


def members(name: str) -> set[str]:
    """Return the system calls of a set; sets contain sets."""
    if not name.startswith("@"):
        return {name}
    lines = (line.strip() for line in analyze("syscall-filter", name).splitlines()[1:])
    return set().union(*(members(line) for line in lines if line and not line.startswith("#")))


def test_the_sandbox_lets_the_relay_work(tmp_path: Path) -> None:
    """The relay serves, reloads and ends with the system calls and families that it may use."""
    need("strace", "systemd-analyze")
    trace = tmp_path / "trace"
    with RelayProcess(host="::", prefix=("strace", "-D", "-f", "-qq", "-o", str(trace))) as relay:
        with TestViewer(relay.port) as viewer, CountingViewers([viewer.subscribe()]) as audience:
            with NumberedStream(relay.ingest_port) as stream:
                relay.wait_event("ingest_started")
                reload(relay)
            audience.expect(stream.sent)
        assert relay.stop() == 0
    wait_for(lambda: "exit_group(0)" in trace.read_text(), "the whole trace")
    calls = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
    families = set(re.findall(r"socket\((AF_\w+)", trace.read_text()))
    assert {"execve", "sendto", "recvfrom", "accept4"} < calls
    assert not calls - allowed()
    assert families == {"AF_INET", "AF_INET6"}
