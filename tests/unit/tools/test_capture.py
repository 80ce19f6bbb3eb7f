"""capture as a program, and the round trip: what capture records, fake_vlc replays."""

import os
import random
import re
import signal
import socket
import statistics
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tools.lab.process import ChildProcess, wait_for
from tools.lab.sockets import udp_socket
from tools.replay.captures import records
from tools.replay.packets import Datagram, Flow, decode

CAPTURE = (sys.executable, "tools/capture.py")
FAKE_VLC = (sys.executable, "tools/fake_vlc.py")


class Capture(ChildProcess):
    """A capture process that is listening."""

    def __init__(self, file: Path, *words: str, port: int = 0) -> None:
        super().__init__(*CAPTURE, str(port), file, *words)
        try:
            wait_for(lambda: self.stderr or self.process.poll() is not None, "the first line")
            found = re.match(r"recording (\S+):(\d+) to ", "".join(self.stderr))
            assert found, self.stderr
        except BaseException:
            self.__exit__()
            raise
        self.host, self.port = found[1], int(found[2])


def read(file: Path) -> list[tuple[int, Datagram]]:
    """Return the datagrams of a capture with their times."""
    messages = []
    with file.open("rb") as stream:
        for time_, link, frame in records(stream):
            message = decode(link, frame)
            assert isinstance(message, Datagram)
            messages.append((time_, message))
    return messages


def payloads(file: Path) -> list[bytes]:
    return [message.payload for _, message in read(file)]


def gaps(file: Path) -> list[int]:
    """The times between datagrams, in nanoseconds."""
    return [later - earlier for (earlier, _), (later, _) in pairwise(read(file))]


def send_like_an_encoder(port: int, datagrams: list[bytes]) -> None:
    """Send frames of one or two datagrams, with pauses between the frames."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        due, rng = time.monotonic(), random.Random(5)
        while datagrams:
            frame = rng.choice((1, 1, 2))
            for data in datagrams[:frame]:
                sock.send(data)
            datagrams = datagrams[frame:]
            due += rng.choice((0.02, 0.03, 0.04))
            time.sleep(max(0.0, due - time.monotonic()))


def test_a_replayed_capture_has_the_same_bytes_and_gaps(tmp_path: Path) -> None:
    """Recorded, replayed and recorded again: equal datagrams, and pauses where pauses were."""
    first, second, rng = tmp_path / "a.pcap", tmp_path / "b.pcapng", random.Random(9)
    sizes = [0, 1, 65507, *rng.choices((0, 1, 188, 1316, 1328, 1472, 9000), k=47)]
    sent = [rng.randbytes(size) for size in sizes]
    with Capture(first, "--count", str(len(sent))) as original:
        sender = threading.Thread(target=send_like_an_encoder, args=(original.port, sent))
        sender.start()
        assert original.wait() == 0
        sender.join()
    with Capture(second, "--count", str(len(sent))) as copy:
        with ChildProcess(*FAKE_VLC, "127.0.0.1", str(copy.port), first) as replay:
            assert replay.wait() == 0
        assert copy.wait() == 0
    assert payloads(first) == payloads(second) == sent
    differences = [abs(a - b) for a, b in zip(gaps(first), gaps(second), strict=True)]
    assert statistics.median(differences) < 8_000_000  # a pause takes at least 20 ms


def test_times_are_those_of_arrival(tmp_path: Path) -> None:
    """A datagram's time is when the kernel received it, however late the recorder gets to run."""
    file = tmp_path / "c.pcapng"
    with Capture(file, "--count", "3") as capture, udp_socket() as sender:
        capture.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: _state(capture.pid) == "T", "the recorder to stop")
        for _ in range(3):
            sender.sendto(b"x", ("127.0.0.1", capture.port))
            time.sleep(0.05)
        capture.process.send_signal(signal.SIGCONT)
        assert capture.wait() == 0
    assert min(gaps(file)) >= 50_000_000


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_records_who_sent_to_whom(tmp_path: Path, host: str) -> None:
    """Addresses and ports are those of the wire, over IPv4 and IPv6."""
    file = tmp_path / "c.pcap"
    wildcard = "::" if ":" in host else "0.0.0.0"
    with Capture(file, "--host", wildcard, "--count", "1") as capture, udp_socket(host) as sender:
        sender.sendto(b"hello", (host, capture.port))
        assert capture.wait() == 0
        source, packed = sender.getsockname()[1], socket.inet_pton(sender.family, host)
    assert read(file)[0][1] == Datagram(Flow(packed, source, packed, capture.port), b"hello")


def test_records_a_multicast_group(tmp_path: Path) -> None:
    """With --group it joins, records what is sent to the group and only that."""
    file = tmp_path / "c.pcapng"
    words = ("--group", "239.255.77.1", "--host", "127.0.0.1", "--count", "2")
    with Capture(file, *words) as capture, udp_socket() as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        for group in ("239.255.77.1", "239.255.77.2", "239.255.77.1"):
            sender.sendto(group.encode(), (group, capture.port))
        assert capture.wait() == 0
    assert [message.flow.ends[1] for _, message in read(file)] == [
        f"239.255.77.1:{capture.port}"
    ] * 2


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_recording_that_is_complete(tmp_path: Path, signum: int) -> None:
    """Ctrl-C and SIGTERM are ways to end: status 0, a summary, everything in the file."""
    file = tmp_path / "c.pcap"
    with Capture(file) as capture, udp_socket() as sender:
        for index in range(100):
            sender.sendto(bytes((index,)) * 1316, ("127.0.0.1", capture.port))
        wait_for(lambda: file.stat().st_size > 134_000, "the datagrams to be in the file")
        assert capture.stop(signum) == 0
    assert payloads(file) == [bytes((index,)) * 1316 for index in range(100)]
    assert capture.stderr[1].startswith("recorded 100 datagrams, 131.6 kB in ")
    assert len(capture.stderr) == 2


def test_stops_after_the_time_asked_for(tmp_path: Path) -> None:
    """--seconds ends the recording although nothing arrives; an empty capture is one."""
    file = tmp_path / "c.pcap"
    with Capture(file, "--seconds", "0.2") as capture:
        assert capture.wait() == 0
    assert payloads(file) == []
    assert "recorded 0 datagrams" in capture.stderr[1]


def test_losses_are_counted(tmp_path: Path) -> None:
    """What the kernel had to drop since the recorder stood still is in the summary."""
    file = tmp_path / "c.pcap"
    with Capture(file) as capture, udp_socket() as sender:
        capture.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: _state(capture.pid) == "T", "the recorder to stop")
        for _ in range(600):  # 39 MB into a buffer of at most 16
            sender.sendto(bytes(65000), ("127.0.0.1", capture.port))
        capture.process.send_signal(signal.SIGCONT)

        def caught_up() -> bool:
            """The count of losses arrives with the next datagram that finds room."""
            sender.sendto(b"last", ("127.0.0.1", capture.port))
            return b"last" in file.read_bytes()[-100:]

        wait_for(caught_up, "the recorder to catch up")
        assert capture.stop(signal.SIGINT) == 0
    lost = re.fullmatch(r"lost (\d+) datagrams: .*\n", capture.stderr[2])
    assert lost
    large = [payload for payload in payloads(file) if len(payload) == 65000]
    assert len(large) + int(lost[1]) >= 600


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (["5004"], 2, "required: FILE"),
        (["x", "c.pcap"], 2, "not a port (0 to 65535): 'x'"),
        (["5004", "c.cap"], 2, "not a name ending in .pcap or .pcapng: 'c.cap'"),
        (["5004", "c.pcap", "--seconds", "0"], 2, "--seconds: not a number above 0: '0'"),
        (["5004", "c.pcap", "--count", "0"], 2, "--count: not a whole number above 0: '0'"),
        (["0", "/no/such/dir/c.pcap"], 1, "cannot record to /no/such/dir/c.pcap: No such file"),
        (["0", "c.pcap", "--host", "192.0.2.1"], 1, "cannot listen at 192.0.2.1:0: Cannot"),
        (["0", "c.pcap", "--host", "no.such.invalid"], 1, "unknown host: no.such.invalid"),
        (["0", "c.pcap", "--group", "192.0.2.1"], 2, "not a multicast group: '192.0.2.1'"),
    ],
)
def test_bad_input_is_one_line(words: list[str], status: int, line: str) -> None:
    """Wrong options end with status 2, wrong addresses and files with 1; one line says why."""
    with ChildProcess(*CAPTURE, *words) as program:
        assert program.wait() == status
    assert len(program.stderr) == 1
    assert program.stderr[0].startswith("capture.py: ")
    assert line in program.stderr[0]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A full disk ends the recording; a named pipe, which would wait for a reader, is refused."""
    full, pipe = tmp_path / "full.pcap", tmp_path / "pipe.pcap"
    full.symlink_to("/dev/full")
    os.mkfifo(pipe)
    for file, why in ((full, "No space left on device"), (pipe, "a named pipe; name a file")):
        with ChildProcess(*CAPTURE, "0", file) as program:
            assert program.wait() == 1
        assert program.stderr == [f"capture.py: cannot record to {file}: {why}\n"]


def test_a_busy_port_is_one_line_and_costs_no_file(tmp_path: Path) -> None:
    """A port that is taken is said, and a capture that exists is not truncated for nothing."""
    file = tmp_path / "precious.pcap"
    file.write_bytes(b"precious")
    with udp_socket() as other:
        port = str(other.getsockname()[1])
        with ChildProcess(*CAPTURE, port, file, "--host", "127.0.0.1") as program:
            assert program.wait() == 1
    line = f"capture.py: cannot listen at 127.0.0.1:{port}: Address already in use\n"
    assert program.stderr == [line]
    assert file.read_bytes() == b"precious"


def test_captures_need_dpkt_and_say_so(tmp_path: Path) -> None:
    """Without the package both programs name it in one line."""
    (tmp_path / "dpkt.py").write_text("raise ImportError\n")
    capture = tmp_path / "c.pcap"
    capture.write_bytes(b"\xd4\xc3\xb2\xa1" + bytes(20))
    environment = {"PYTHONPATH": str(tmp_path)}
    for words in ((*FAKE_VLC, capture), (*CAPTURE, "0", tmp_path / "new.pcap")):
        with ChildProcess(*words, env=environment) as program:
            assert program.wait() == 1
        assert len(program.stderr) == 1
        assert "captures need the Python package dpkt" in program.stderr[0]
    assert not (tmp_path / "new.pcap").exists()
