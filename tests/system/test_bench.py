"""The benchmark's instruments: what they count is what was sent, and contenders really forward.

Nothing here asserts a speed.
"""

import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tools.benchmarks.contenders import AUTO, DEFERRED, NAMES, PROMPT, REFERENCE, missing, running
from tools.benchmarks.measure import greet
from tools.benchmarks.plan import FRAME, SIZE
from tools.benchmarks.servers import SERVERS
from tools.benchmarks.sinks import Sinks
from tools.benchmarks.stream import streaming
from tools.lab.machine import on_core
from tools.lab.process import PATIENCE, ChildProcess, need, wait_for
from tools.lab.sockets import source, udp_socket

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SO_MEMINFO is Linux's")


@pytest.fixture
def core() -> tuple[str, ...]:
    """What puts a contender on a core."""
    need("cc")
    return on_core(max(os.sched_getaffinity(0)))


def stamped(age: float = 0.0) -> bytes:
    """A datagram that says it was sent `age` seconds ago."""
    stamp = struct.pack("=q", time.time_ns() - round(age * 1e9))
    return bytes(4) + stamp + bytes(SIZE - 12)


def test_sinks_count_after_segmentation() -> None:
    """A burst that leaves the source as one UDP_SEGMENT send counts as its datagrams."""
    need("cc")
    with (
        Sinks(1) as sinks,
        source(sinks.ports[0]) as sock,
        streaming(sock, 200_000, 0.05) as total,
    ):
        sent = total()
        assert sent > 0
        assert sent % 16 == 0
        assert sinks.wait(sent, 1.0) == sent


def test_probes_tell_the_age_of_what_arrives() -> None:
    """First, middle and last destination measure latency, only of what was sent in the window."""
    with Sinks(5, probes=3) as sinks, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        begin = time.time_ns() - 10**9
        for port in sinks.ports:
            sender.sendto(stamped(age=0.5), ("127.0.0.1", port))
            sender.sendto(stamped(age=5.0), ("127.0.0.1", port))
        assert sinks.wait(10, 1.0) == 10
        latencies = sinks.latencies(begin, time.time_ns())
    assert len(latencies) == 3
    assert all(0.5 <= latency < 5.0 for latency in latencies)


def test_the_reference_forwards_byte_identically(core: tuple[str, ...]) -> None:
    """Runs of equal sizes, shorter ends and lone sizes reach every destination as they were."""
    rng = random.Random(3)
    sizes = [1316] * 60 + [700] + [1328] * 5 + [1, 65507, 1316, 9000, 2, 2, 1] + [1316] * 30
    datagrams = [rng.randbytes(size) for size in sizes]
    with (
        udp_socket() as first,
        udp_socket() as last,
        running(REFERENCE, [p.getsockname()[1] for p in (first, last)], core) as reference,
        source(reference.ingest_port) as sender,
    ):
        last.settimeout(0.05)

        def forwards() -> bool:
            with contextlib.suppress(ConnectionRefusedError, TimeoutError):
                sender.send(b"hello")
                return last.recv(64) == b"hello"
            return False

        wait_for(forwards, "the reference")
        for datagram in datagrams:
            sender.send(datagram)
        for player in (first, last):
            player.settimeout(PATIENCE)
            received = iter(partial(player.recv, 65536), datagrams[-1])
            assert [each for each in received if each != b"hello"] == datagrams[:-1]


@pytest.mark.parametrize("name", NAMES)
def test_every_contender_forwards_to_everyone(core: tuple[str, ...], name: str) -> None:
    """A contender as the benchmark starts it delivers each datagram of a calm stream."""
    if reason := missing(name):
        pytest.skip(reason)
    with (
        Sinks(4, probes=2) as sinks,
        running(name, sinks.ports, core) as contender,
        source(contender.ingest_port) as sock,
    ):
        before = greet(sock, sinks, contender.program)
        with streaming(sock, 100, 0.2) as total:
            expected = before + 4 * total()
        assert expected > before
        assert sinks.wait(expected, 2.0) == expected


def bench(*words: str | Path, patience: float = 100) -> tuple[int, ChildProcess]:
    """Run the program to its end."""
    with ChildProcess(sys.executable, "tools/bench.py", *words) as program:
        return program.wait(patience), program


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_smoke_run_writes_figures(tmp_path: Path) -> None:
    """The whole program, at its smallest, measures, prints, and writes valid JSON."""
    need("cc", "ffmpeg", "gst-launch-1.0", "nginx")
    only = f"{AUTO},{PROMPT},{REFERENCE}"
    words = ("--plan", "smoke", "--only", only, "--output", tmp_path)
    status, program = bench(*words, patience=280)
    assert status == 0, program.stderr
    assert "".join(program.stdout) == (tmp_path / "bench.md").read_text()
    document = json.loads((tmp_path / "bench.json").read_text())
    names = {sample["contender"] for sample in document["samples"]}
    assert names == {AUTO, PROMPT, DEFERRED, REFERENCE}
    assert {sample["server"] for sample in document["web"]} == set(SERVERS)
    assert all(sample["megabits"] > 0 for sample in document["web"])
    assert all(sample["egress"] > 0 for sample in document["samples"])
    assert document["failures"] == {}
    assert document["memory"]["rss_full"] > 0


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--plan", "huge"], 2, "invalid choice"),
        (["--only", "relay,netcat"], 2, "no contender 'netcat'"),
        (["--plan", "smoke", "--output", "Makefile/here"], 1, "Makefile"),
    ],
)
def test_what_cannot_be_is_one_line(words: list[str], status: int, says: str) -> None:
    """A wrong option or an output that cannot be written is one line that names it."""
    need("cc")
    ended, program = bench(*words)
    assert (ended, len(program.stderr)) == (status, 1)
    assert says in program.stderr[0]


def test_an_interrupted_run_leaves_no_process(tmp_path: Path) -> None:
    """SIGTERM in the middle of a measurement ends the contender and the source as well."""
    need("cc")
    words = ("--plan", "full", "--only", REFERENCE, "--output", tmp_path)
    with ChildProcess(sys.executable, "tools/bench.py", *words, process_group=0) as program:
        wait_for(lambda: {"reference", "source"} <= members(program.pid), "a measurement")
        assert program.stop() == 130
        assert members(program.pid) == set()


def members(group: int) -> set[str]:
    """The names of the programs of a process group."""
    words = ["ps", "-eo", "pgid=,comm="]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=1) for line in listed.splitlines()]
    return {name for pgid, name in rows if int(pgid) == group}


def test_the_source_sends_frames_with_shorter_ends() -> None:
    """In frames, the last datagram of each burst is shorter, and no packet is missing."""
    need("cc")
    with (
        udp_socket() as player,
        source(player.getsockname()[1]) as sock,
        streaming(sock, 1000, 0.1, frames=True) as total,
    ):
        datagrams = [player.recv(2048) for _ in range(total())]
    count, tail = FRAME
    assert [len(each) for each in datagrams[:count]] == [SIZE] * (count - 1) + [tail * 188]
    stream = b"".join(datagrams)
    counters = [stream[at + 3] & 15 for at in range(0, len(stream), 188)]
    assert counters == [n % 16 for n in range(len(counters))]
