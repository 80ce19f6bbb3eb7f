"""The benchmark's instruments: what they count is what was sent, and contenders really forward.

Nothing here asserts a speed.
"""

import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools.benchmarks import contenders, machine
from tools.benchmarks.sinks import Sinks
from tools.benchmarks.source import SIZE, Source
from tools.lab.process import Program, need, wait_for
from tools.lab.sockets import udp_socket

CORE = max(os.sched_getaffinity(0)) if sys.platform == "linux" else 0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SO_MEMINFO is Linux's")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two C programs, compiled."""
    need("cc")
    into = tmp_path_factory.mktemp("built")
    return {name: machine.compile_c(name, into) for name in ("reference", "source")}


def stamped(age: float = 0.0) -> bytes:
    """A datagram that says it was sent `age` seconds ago."""
    stamp = struct.pack("=q", time.time_ns() - round(age * 1e9))
    return bytes(4) + stamp + bytes(SIZE - 12)


def test_a_sink_counts_every_datagram_and_keeps_none() -> None:
    """Each of the datagrams sent to each sink is counted once, and none waits to be read."""
    with Sinks(3) as sinks, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for count, port in enumerate(sinks.ports, start=100):
            for _ in range(count):
                sender.sendto(b"x" * SIZE, ("127.0.0.1", port))
        assert sinks.update_counters(303, 1.0) == 303


def test_sinks_count_after_segmentation(built: dict[str, Path]) -> None:
    """A burst that leaves the source as one UDP_SEGMENT send counts as its datagrams."""
    with Sinks(1) as sinks, Source(built["source"], sinks.ports[0]) as source:
        source.start(200_000, 0.05)
        sent = source.finish()
        assert sent > 0
        assert sent % 16 == 0
        assert sinks.update_counters(sent, 1.0) == sent


def test_probes_tell_the_age_of_what_arrives() -> None:
    """First, middle and last destination measure latency, only of what was sent in the window."""
    with Sinks(5, probes=3) as sinks, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        begin = time.time_ns() - 10**9
        for port in sinks.ports:
            sender.sendto(stamped(age=0.5), ("127.0.0.1", port))
            sender.sendto(stamped(age=5.0), ("127.0.0.1", port))
        assert sinks.update_counters(10, 1.0) == 10
        latencies = sinks.latencies(begin, time.time_ns())
    assert len(latencies) == 3
    assert all(0.5 <= latency < 5.0 for latency in latencies)


def test_the_source_sends_a_transport_stream(built: dict[str, Path]) -> None:
    """The source's datagrams are MPEG-TS without a gap in the continuity counter."""
    with udp_socket() as player, Source(built["source"], player.getsockname()[1]) as source:
        source.start(1000, 0.1)
        sent = source.finish()
        packets = []
        for _ in range(sent):
            datagram = player.recv(2048)
            packets += [datagram[at : at + 188] for at in range(0, SIZE, 188)]
    assert {packet[0] for packet in packets} == {0x47}
    assert [packet[3] & 15 for packet in packets] == [n % 16 for n in range(7 * sent)]


def test_the_reference_forwards_byte_identically(built: dict[str, Path]) -> None:
    """Runs of equal sizes, shorter ends and lone sizes reach every destination as they were."""
    rng = random.Random(3)
    sizes = [1316] * 60 + [700] + [1328] * 5 + [1, 65507, 1316, 9000, 2, 2, 1] + [1316] * 30
    datagrams = [rng.randbytes(size) for size in sizes]
    players = [udp_socket() for _ in range(3)]
    ports = [player.getsockname()[1] for player in players]
    reference = contenders.line_up(built["reference"])[contenders.REFERENCE]
    with reference.running(ports, CORE) as running, udp_socket() as sender:
        greet(sender, running.ingest_port, players)
        for datagram in datagrams:
            sender.sendto(datagram, ("127.0.0.1", running.ingest_port))
        for player in players:
            assert [player.recv(65536) for _ in datagrams] == datagrams
            player.close()


def test_cpu_time_is_what_the_process_spent() -> None:
    """The CPU time read from outside is the one that the process knows of itself."""
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
    with Program(sys.executable, "-c", burn, stdin=subprocess.PIPE) as program:
        wait_for(lambda: program.stdout, "the process to have worked")
        assert 0.29 < machine.cpu_seconds(program.pid) < 0.6


def greet(sender: socket.socket, port: int, players: list[socket.socket]) -> None:
    """Wait until a first datagram comes through, then until no more of them are under way."""
    for player in players:
        player.settimeout(0.05)
    for _ in range(400):
        sender.sendto(b"hello", ("127.0.0.1", port))
        try:
            players[-1].recv(64)
            break
        except TimeoutError:
            continue
    for player in players:
        drain(player)
        player.settimeout(20)


def drain(player: socket.socket) -> None:
    """Read until nothing has come for a moment."""
    while True:
        try:
            player.recv(64)
        except TimeoutError:
            return


@pytest.mark.parametrize("name", contenders.NAMES)
def test_every_contender_forwards_to_everyone(built: dict[str, Path], name: str) -> None:
    """A contender as the benchmark starts it delivers each datagram of a calm stream."""
    contender = contenders.line_up(built["reference"])[name]
    if reason := contender.missing():
        pytest.skip(reason)
    with (
        Sinks(4, probes=2) as sinks,
        contender.running(sinks.ports, CORE) as running,
        Source(built["source"], running.ingest_port) as source,
    ):
        before = source.wait_until_forwarded(sinks, running.process)
        source.start(100, 0.2)
        expected = before + 4 * source.finish()
        assert expected > before
        assert sinks.update_counters(expected, 2.0) == expected


def bench(*words: str | Path) -> tuple[int, Program]:
    """Run the program to its end."""
    with Program(sys.executable, "tools/bench.py", *words) as program:
        return program.wait(100), program


def test_a_smoke_run_writes_figures_and_a_chart(tmp_path: Path) -> None:
    """The whole program, at its smallest, measures, prints, and writes valid JSON and SVG."""
    need("cc")
    pytest.importorskip("matplotlib")
    only = f"{contenders.AUTO},{contenders.REFERENCE}"
    status, program = bench("--plan", "smoke", "--only", only, "--output", tmp_path)
    assert status == 0, program.stderr
    assert "".join(program.stdout) == (tmp_path / "bench.md").read_text()
    document = json.loads((tmp_path / "bench.json").read_text())
    assert {sample["contender"] for sample in document["samples"]} == set(only.split(","))
    assert all(sample["egress"] > 0 for sample in document["samples"])
    assert document["failures"] == {}
    assert len(document["targets"]) == 13
    assert document["memory"]["rss_full"] > 0
    chart = ElementTree.parse(tmp_path / "bench.svg").getroot()
    assert chart.tag.endswith("svg")
    assert "C reference" in [element.text for element in chart.iter()]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--plan", "huge"], "invalid choice"),
        (["--rounds", "0"], "not a whole number above 0"),
        (["--seconds", "61"], "more than a minute"),
        (["--only", "relay,netcat"], "no contender 'netcat'"),
    ],
)
def test_a_bad_option_is_one_line(words: list[str], says: str) -> None:
    """A wrong option ends with status 2 and one line that names it."""
    status, program = bench(*words)
    assert (status, len(program.stderr)) == (2, 1)
    assert says in program.stderr[0]


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A file where the output directory should be ends with status 1 and one line."""
    pytest.importorskip("matplotlib")
    (tmp_path / "file").touch()
    status, program = bench("--plan", "smoke", "--output", tmp_path / "file")
    assert (status, len(program.stderr)) == (1, 1)


def test_an_interrupted_run_leaves_no_process(tmp_path: Path) -> None:
    """SIGTERM in the middle of a measurement ends the contender and the source as well."""
    need("cc")
    pytest.importorskip("matplotlib")
    words = ("--plan", "full", "--only", contenders.REFERENCE, "--output", tmp_path)
    with Program(sys.executable, "tools/bench.py", *words) as program:
        mine = f"{tmp_path}/reference"
        deadline = time.monotonic() + 20
        while mine not in running_commands() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert mine in running_commands()
        assert program.stop() == 130
    assert mine not in running_commands()
    assert f"{tmp_path}/source" not in running_commands()


def running_commands() -> set[str]:
    """The programs of all processes."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in listed.stdout.splitlines() if line.strip()}
