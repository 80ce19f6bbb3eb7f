"""fake_vlc as a program: what it sends to a real socket, how it ends, what it says."""

import os
import pty
import re
import signal
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tools.fake_vlc import SAMPLE
from tools.lab.process import PATIENCE, ROOT, Program, wait_for
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
    with Program(*FAKE_VLC, *words) as program:
        return program.wait(), "".join(program.stderr)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_sends_the_sample_byte_for_byte_in_datagrams_of_seven_packets(host: str) -> None:
    """With no file the sample arrives whole, 1316 bytes a datagram, over IPv4 and IPv6."""
    with udp_socket(host) as player:
        with Program(*FAKE_VLC, *destination(player), "--speed", "8") as program:
            assert received(player, len(EXPECTED)) == EXPECTED
            assert program.wait() == 0
        assert program.stderr[0].startswith(f"sent {len(EXPECTED)} datagrams, 793.4 kB in ")
        assert program.stdout == []


def test_runs_without_anything_installed() -> None:
    """A transport stream needs only the standard library."""
    with udp_socket() as player:
        words = (sys.executable, "-I", "-S", ROOT / "tools" / "fake_vlc.py")
        with Program(*words, *destination(player), "--speed", "50") as program:
            assert received(player, len(EXPECTED)) == EXPECTED
            assert program.wait() == 0


def test_keeps_the_pace_of_the_stream() -> None:
    """The sample takes its own 8 s divided by the speed, and no burst hides inside."""
    with udp_socket() as player:
        with Program(*FAKE_VLC, *destination(player), "--speed", "4") as program:
            player.settimeout(PATIENCE)
            player.recv(65536)
            assert program.wait() == 0
        seconds = float(re.findall(r"in ([0-9.]+) s", program.stderr[0])[0])
        assert 1.9 <= seconds <= 4


def test_sends_rtp_as_vlc_does() -> None:
    """--rtp: 1328 bytes, payload type 33, sequence and time going up, the same stream inside."""
    with udp_socket() as player:
        words = ("--rtp", "--speed", "8")
        with Program(*FAKE_VLC, *destination(player), *words):
            datagrams = received(player, len(EXPECTED))
    assert [data[12:] for data in datagrams] == EXPECTED
    assert {data[:2] for data in datagrams} == {b"\x80\x21"}
    assert {data[8:12] for data in datagrams} == {datagrams[0][8:12]}
    sequence = [int.from_bytes(data[2:4], "big") for data in datagrams]
    assert {(b - a) % 2**16 for a, b in pairwise(sequence)} == {1}
    stamps = [int.from_bytes(data[4:8], "big") for data in datagrams]
    steps = [(b - a) % 2**32 for a, b in pairwise(stamps)]
    assert sum(steps) == pytest.approx(8 * 90_000 / 8, rel=0.02)  # 8 s of stream, 8 times as fast
    assert max(steps) < 90_000


def test_a_loop_has_no_seam_in_rtp() -> None:
    """Over the seam sequence and time go on as if there were none, and datagrams stay full."""
    with udp_socket() as player:
        words = ("--rtp", "--loop", "--speed", "40")
        with Program(*FAKE_VLC, *destination(player), *words) as program:
            datagrams = received(player, len(EXPECTED) * 3)
            assert program.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert {len(data) for data in datagrams} == {1328}
    sequence = [int.from_bytes(data[2:4], "big") for data in datagrams]
    assert {(b - a) % 2**16 for a, b in pairwise(sequence)} == {1}
    stamps = [int.from_bytes(data[4:8], "big") for data in datagrams]
    steps = [(b - a) % 2**32 for a, b in pairwise(stamps)]
    assert max(steps) < 90_000 * 0.08 / 40 * 2  # the largest step of one pass, with room
    assert sum(steps) == pytest.approx(24 * 90_000 / 40, rel=0.02)


def test_a_constant_rate_replaces_the_clock(tmp_path: Path) -> None:
    """With --bitrate even a stream without a clock is sent, in the time that its size takes."""
    film = tmp_path / "film.ts"
    film.write_bytes((b"\x47\x01\x00\x10" + bytes(184)) * 700)
    status, said = ended("127.0.0.1", "9", film, "--bitrate", "1M")
    assert status == 0
    seconds = float(re.findall(r"in ([0-9.]+) s", said)[0])
    assert 1.0 <= seconds <= 3  # 131,600 bytes


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
    with Program(*FAKE_VLC, *where, "--loop", "--speed", "4") as program:
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
        with Program(*FAKE_VLC, *destination(player)) as program:
            received(player, 3)
            assert program.stop(signal.SIGINT) == 130
        assert re.match(r"sent \d+ datagrams", program.stderr[0])
        assert len(program.stderr) == 1


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
        (["--flow", "2"], 1, "--flow chooses from a capture"),
    ],
)
def test_bad_input_is_one_line(words: list[str], status: int, line: str) -> None:
    """Wrong options end with status 2 and wrong files with 1; one line says what and why."""
    ended_with, said = ended(*words)
    assert (ended_with, said.count("\n")) == (status, 1)
    assert said.startswith("fake_vlc.py: ")
    assert line in said


def test_help_shows_examples() -> None:
    """--help explains where the stream goes and gives a line to copy for each use."""
    with Program(*FAKE_VLC, "--help") as program:
        assert program.wait() == 0
    text = "".join(program.stdout)
    for word in ("HOST PORT", "--rtp", "--loop", "--flow", "--drop 1%", "examples:"):
        assert word in text
