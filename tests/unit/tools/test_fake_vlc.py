"""fake_vlc as a program: what it sends to a real socket, how it ends, what it says."""

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from relaylib.media import rtp
from tests.unit.tools.test_capture_files import interface, packet, section
from tools.fake_vlc import SAMPLE
from tools.lab.process import PATIENCE, ROOT, ChildProcess, wait_for
from tools.lab.sockets import udp_socket

FAKE_VLC = (sys.executable, "tools/fake_vlc.py")
DATA = SAMPLE.read_bytes()
EXPECTED = [DATA[at : at + 1316] for at in range(0, len(DATA), 1316)]


def destination(sock: socket.socket) -> tuple[str, str]:
    """Return HOST and PORT of a socket as command line words."""
    host, port = sock.getsockname()[:2]
    return host, str(port)


def received(sock: socket.socket, count: int) -> list[bytes]:
    """Return the next `count` datagrams."""
    sock.settimeout(PATIENCE)
    return [sock.recv(65536) for _ in range(count)]


def ended(*words: str | Path) -> tuple[int, str]:
    """Run fake_vlc to its end; return its exit status and what it said."""
    with ChildProcess(*FAKE_VLC, *words) as program:
        return program.wait(), "".join(program.stderr)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_sends_the_sample_byte_for_byte_in_datagrams_of_seven_packets(host: str) -> None:
    """With no file the sample arrives whole, 1316 bytes a datagram, over IPv4 and IPv6."""
    with udp_socket(host) as player:
        with ChildProcess(*FAKE_VLC, *destination(player), "--speed", "8") as program:
            assert received(player, len(EXPECTED)) == EXPECTED
            assert program.wait() == 0
        assert program.stderr[0].startswith(f"sent {len(EXPECTED)} datagrams, 793.4 kB in ")
        assert program.stdout == []


def test_runs_without_anything_installed() -> None:
    """A transport stream needs only the standard library."""
    with udp_socket() as player:
        words = (sys.executable, "-I", "-S", ROOT / "tools" / "fake_vlc.py")
        with ChildProcess(*words, *destination(player), "--speed", "50") as program:
            assert received(player, len(EXPECTED)) == EXPECTED
            assert program.wait() == 0


def test_keeps_the_pace_of_the_stream() -> None:
    """The sample is not sent faster than its own 8 s divided by the speed, not even in part."""
    with udp_socket() as player:
        begun = time.monotonic()
        with ChildProcess(*FAKE_VLC, *destination(player), "--speed", "4") as program:
            received(player, len(EXPECTED) // 2)
            half = time.monotonic() - begun
            assert program.wait() == 0
        assert half > 0.5
        assert float(re.findall(r"in ([0-9.]+) s", program.stderr[0])[0]) >= 1.9


def test_sends_rtp_as_vlc_does_and_loops_without_a_seam() -> None:
    """--rtp: 1328 bytes, the same stream inside, sequence and time going on over the seam."""
    with udp_socket() as player:
        words = ("--rtp", "--loop", "--speed", "40")
        with ChildProcess(*FAKE_VLC, *destination(player), *words) as program:
            datagrams = received(player, len(EXPECTED) * 3)
            assert program.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert {len(data) for data in datagrams} == {1328}
    assert b"".join(data[12:] for data in datagrams).startswith(DATA)
    packets = [packet for data in datagrams if (packet := rtp.parse(data))]
    assert len(packets) == len(datagrams)
    assert {packet.payload_type for packet in packets} == {rtp.MP2T}
    assert {packet.ssrc for packet in packets} == {packets[0].ssrc}
    assert {(b.sequence - a.sequence) % 2**16 for a, b in pairwise(packets)} == {1}
    steps = [(b.timestamp - a.timestamp) % 2**32 for a, b in pairwise(packets)]
    assert max(steps) < 90_000 * 0.08 / 40 * 2  # the largest step of one pass, with room
    assert sum(steps) == pytest.approx(24 * 90_000 / 40, rel=0.02)


def test_faults_are_repeatable_and_reported() -> None:
    """The same seed loses the same datagrams; the summary tells how many, and the seed."""
    runs = []
    with udp_socket() as player:
        for _ in range(2):
            words = ("--speed", "40", "--drop", "5%", "--duplicate", "0.05", "--seed", "11")
            status, said = ended(*destination(player), *words)
            found = re.search(r"dropped (\d+), duplicated (\d+), reordered 0 \(seed 11\)", said)
            assert status == 0
            assert found
            dropped, doubled = map(int, found.groups())
            assert dropped
            assert doubled
            runs.append(received(player, len(EXPECTED) - dropped + doubled))
    assert runs[0] == runs[1]
    assert set(runs[0]) < set(EXPECTED)


def test_nobody_listening_is_said_once_and_loses_nothing() -> None:
    """A refused datagram does not end the replay, and a player that opens gets the rest."""
    with udp_socket() as closed:
        where = destination(closed)
    with ChildProcess(*FAKE_VLC, *where, "--loop", "--speed", "4") as program:
        wait_for(lambda: program.stderr, "the warning")
        with udp_socket(port=int(where[1])) as player:
            datagrams = received(player, 700)
            program.stop(signal.SIGINT)
    assert program.stderr[0] == f"127.0.0.1:{where[1]}: nobody listens; sending on\n"
    assert sum("nobody" in line for line in program.stderr) == 1
    assert not any("could not send" in line for line in program.stderr)
    assert set(datagrams[:20]) <= set(EXPECTED)
    assert len(set(datagrams)) == 700


def test_ctrl_c_ends_with_a_summary() -> None:
    """SIGINT stops the replay at once: a summary, status 130, no traceback."""
    with udp_socket() as player:
        with ChildProcess(*FAKE_VLC, *destination(player)) as program:
            received(player, 3)
            assert program.stop(signal.SIGINT) == 130
        assert re.match(r"sent \d+ datagrams", program.stderr[0])
        assert all(line.startswith("fell behind") for line in program.stderr[1:])


def test_shows_progress_on_a_terminal_and_only_there() -> None:
    """On a terminal one line is rewritten in place, and gone before the summary."""
    terminal, theirs = pty.openpty()
    with udp_socket() as player:
        words = (*FAKE_VLC, *destination(player), "--speed", "10")
        subprocess.run(words, stderr=theirs, check=True, timeout=PATIENCE, cwd=ROOT)
    os.close(theirs)
    shown = os.read(terminal, 65536).decode()
    os.close(terminal)
    updates, _, summary = shown.rpartition("\r\x1b[K")
    assert re.search(r"\r\d+:\d\d  [0-9.]+ [kM]b/s  \d+ datagrams\x1b\[K", updates)
    assert summary.startswith("sent ")


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (["127.0.0.1", "0"], 2, "not a port (1 to 65535): '0'"),
        (["127.0.0.1", "http"], 2, "not a port (1 to 65535): 'http'"),
        (["a", "1", "b", "c"], 2, "too many arguments: 'c'"),
        (["--speed", "0"], 2, "--speed: not a number above 0: '0'"),
        (["--speed", "2", "--bitrate", "5M"], 2, "not allowed with argument"),
        (["--drop", "2"], 2, "--drop: not a probability (0.02 or 2%): '2'"),
        (["--jitter", "-1"], 2, "--jitter: not a time between 0 and 60000 ms: '-1'"),
        (["--sped", "2"], 2, "--sped"),
        (["no.such.host.invalid", "9000"], 1, "unknown host: no.such.host.invalid"),
        (["missing.ts"], 1, "cannot read missing.ts: No such file or directory"),
        (["tools"], 1, "cannot read tools: Is a directory"),
        (["pyproject.toml"], 1, "pyproject.toml: neither MPEG-TS nor a capture (pcap, pcapng)"),
        (["/dev/null"], 1, "/dev/null: the file is empty"),
        (["/proc/self/mem"], 1, "cannot read /proc/self/mem: Input/output error"),
        (["--flow", "2"], 1, "--flow chooses from a capture"),
    ],
)
def test_bad_input_is_one_line(words: list[str], status: int, line: str) -> None:
    """Wrong options end with status 2 and wrong files with 1; one line says what and why."""
    ended_with, said = ended(*words)
    assert (ended_with, said.count("\n")) == (status, 1)
    assert said.startswith("fake_vlc.py: ")
    assert line in said


def test_a_capture_whose_clock_is_broken_is_one_line(tmp_path: Path) -> None:
    """A time stamp of the year 500,000 is no gap to wait for but a broken file."""
    capture = tmp_path / "c.pcapng"
    capture.write_bytes(section("<") + interface("<", 101) + packet("<", 0, (1 << 64) - 1, b"x"))
    why = "the capture is broken: a time stamp out of range"
    assert ended("127.0.0.1", "9", capture) == (1, f"fake_vlc.py: {capture}: {why}\n")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("fake_vlc.py", ("HOST PORT", "--rtp", "--loop", "--flow", "--drop 1%")),
        ("capture.py", ("--group 239.1.1.1", "--seconds 10", "--count 1000", "fake_vlc.py")),
    ],
)
def test_help_shows_examples(program: str, words: tuple[str, ...]) -> None:
    """--help gives a line to copy for each use."""
    with ChildProcess(sys.executable, f"tools/{program}", "--help") as process:
        assert process.wait() == 0
    for word in words:
        assert word in "".join(process.stdout)
