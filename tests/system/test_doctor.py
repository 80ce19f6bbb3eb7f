"""The doctor as people run it: on this machine, beside who has the port, beside a relay."""

import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from tools.lab.process import PATIENCE, ROOT
from tools.lab.relay import RelayProcess
from tools.lab.sockets import unused_port

HEALTHY = {"python", "segmentation", "receive_buffer", "send_buffer", "descriptors", "memory"}
HEALTHY |= {"cores", "clock", "control_port", "ingest_port", "addresses", "senders", "firewall"}
HEALTHY |= {"selftest", "capacity"}
"""Names that programs may rely on."""


def doctor(*words: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    argv = (sys.executable, "relay.py", *words)
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT, check=False
    )


def checks(*words: str, status: int = 0) -> dict[str, dict[str, Any]]:
    """Run it for a program; return its findings by name."""
    done = doctor(*words, "--doctor", "--json")
    found = json.loads(done.stdout)
    assert (done.stderr, done.returncode, found["status"]) == ("", status, status), found
    return {check["name"]: check for check in found["checks"]}


def test_a_healthy_machine_has_nothing_wrong() -> None:
    """All is looked at, a stream passes a real relay whole, and its cost is known."""
    found = checks("127.0.0.1", str(unused_port()), "--http", "0", "--record-faults", "/tmp")
    assert set(found) >= HEALTHY | {"http_port", "disk"}
    assert found["recordings"]["grade"] == "hint"
    figures = found["selftest"]["figures"]
    assert figures["identical"]
    assert figures["lost"] <= figures["sent"] * 0.01
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert found["capacity"]["figures"]["tried"] >= 100


@pytest.mark.long
def test_who_has_the_port_is_named() -> None:
    """A port that another program has is a fault, with its process; the rest is looked at, too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = checks("127.0.0.1", str(port), status=1)
    assert found["control_port"]["grade"] == "wrong"
    assert found["control_port"]["figures"]["pid"] == os.getpid()
    assert found["ingest_port"]["grade"] == "ok"
    assert found["selftest"]["grade"] != "wrong"


def test_a_relay_that_runs_tells_its_verdict() -> None:
    """Its port is no fault, what it says by HTTP is found, and only a light stream is tested."""
    with RelayProcess("--http", "0") as relay:
        found = checks(relay.host, str(relay.port))
        assert found["control_port"]["grade"] == "ok"
        assert found["relay"]["figures"]["verdict"] == "silence"
        assert found["relay"]["figures"]["source"] == "absent"
        assert found["relay"]["figures"]["evidence"] == "no source sends"
        assert f"udp://127.0.0.1:{relay.ingest_port}" in found["relay"]["commands"][0]
        assert found["viewers"]["figures"]["total"] == 0
        assert found["selftest"]["figures"]["identical"]
        assert found["capacity"]["figures"]["viewers"] is None
        assert relay.events("bug") == []


def test_json_is_for_the_doctor_alone() -> None:
    """Elsewhere the option is wrong: one line, status 2."""
    done = doctor("--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == ["relay.py: --json goes with --doctor (--help shows how)"]


def shell(before: str, words: str, after: str = "") -> subprocess.Popen[str]:
    """Start it by a shell, which closes what a person might, and limits what a system does."""
    command = f"{before} exec {sys.executable} relay.py {words} --doctor {after}"
    pipe = subprocess.PIPE
    return subprocess.Popen(("sh", "-c", command), stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


@pytest.mark.long
def test_it_ends_in_order_whatever_it_is_refused() -> None:
    """Few descriptors, or a stdout that is closed or full: no traceback, and the right status."""
    alien = f"192.0.2.77 {unused_port()}"
    limited = shell("ulimit -n 40;", "127.0.0.1 0", "--json")
    others = [shell("", alien, ">&-"), shell("", alien, ">/dev/full"), shell("", ":: 80", "2>&1")]
    for program, output, status in zip(others, ("", "", None), (1, 1, None), strict=True):
        said, errors = program.communicate(timeout=PATIENCE)
        assert errors == ""
        assert "Traceback" not in said
        assert output in (None, said)
        assert status in (None, program.returncode)
    said, errors = limited.communicate(timeout=PATIENCE)
    found = {check["name"]: check for check in json.loads(said)["checks"]}
    assert errors == ""
    assert found["descriptors"]["figures"]["limit"] == 40
