"""probe as a program: ports, files and captures in; a table or JSON, and an exit status, out."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import pytest

from relaylib.media.health import Monitor
from relaylib.media.tr101290 import NAMES
from tools.fake_vlc import SAMPLE
from tools.lab.process import PATIENCE, ROOT, ChildProcess, wait_for
from tools.lab.sockets import is_bound, udp_socket, unused_port
from tools.probing.inputs import LiveInput, mrl
from tools.probing.table import WORDS, Style, View, table
from tools.replay.captures import FORMATS
from tools.replay.packets import Datagram, Flow, encode
from tools.replay.tap import Arrival, Tap

PROBE = (sys.executable, "tools/probe.py")
FAKE_VLC = (sys.executable, "tools/fake_vlc.py")
PACKETS = [SAMPLE.read_bytes()[at : at + 188] for at in range(0, SAMPLE.stat().st_size, 188)]
DATAGRAMS = [b"".join(PACKETS[at : at + 7]) for at in range(0, len(PACKETS), 7)]


def ended(*words: str | Path) -> tuple[int, str, str]:
    """Run probe to its end; return exit status, standard output, standard error."""
    done = subprocess.run(
        [*PROBE, *map(str, words)],
        capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=ROOT,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


class Probe(ChildProcess):
    """A probe that listens at a port of its own."""

    def __init__(self, *words: str, **options: Any) -> None:
        self.port = unused_port()
        super().__init__(*PROBE, "127.0.0.1", str(self.port), *words, **options)
        try:
            wait_for(lambda: is_bound(self.port), "probe to listen")
        except BaseException:
            self.__exit__()
            raise

    def stopped(self) -> tuple[int, Any]:
        """Press Ctrl-C; return the exit status and what is on standard output as JSON."""
        status = self.stop(signal.SIGINT)
        return status, json.loads("".join(self.stdout))


def capture(to: Path, payloads: list[bytes], step: int = 13_000_000) -> Path:
    """Write datagrams to a capture, `step` nanoseconds apart, and one of another flow."""
    with to.open("wb") as file:
        write = FORMATS[to.suffix](file)
        for index, payload in enumerate(payloads):
            flow = Flow(bytes((192, 0, 2, 1)), 4000, bytes((192, 0, 2, 2)), 5004)
            write(10**18 + index * step, encode(Datagram(flow, payload)))
        write(10**18, encode(Datagram(flow._replace(destination_port=53), b"query")))
    return to


def test_json_is_one_object_with_its_keys() -> None:
    """Every key is there, in every form of input the same ones; a healthy stream ends with 0."""
    status, out, said = ended(SAMPLE, "--json")
    assert (status, said, out.count("\n")) == (0, "", 1)
    found = json.loads(out)
    assert [*found] == ["form", "datagrams", "bytes", "seconds", "rtp", "ts"]
    assert (found["form"], found["rtp"]) == ("ts", None)
    ts = found["ts"]
    assert [*ts] == [
        "packets", "bitrate", "programs", "tr_101_290", "random_access", "scrambled",
    ]  # fmt: skip
    assert ts["programs"] == [
        {
            "number": 1,
            "pmt_pid": 4096,
            "pcr_pid": 256,
            "streams": [
                {"pid": 256, "type": 27, "codec": "H.264"},
                {"pid": 257, "type": 15, "codec": "AAC"},
            ],
        }
    ]
    assert ts["tr_101_290"] == dict.fromkeys(NAMES, 0)
    assert ts["random_access"]["count"] == 8
    assert ts["random_access"]["interval_s"] == pytest.approx(1, abs=0.01)
    assert (found["bytes"], ts["packets"], ts["scrambled"]) == (len(PACKETS) * 188, 4220, 0)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_capture_is_looked_at_in_its_own_time(tmp_path: Path, suffix: str) -> None:
    """The largest flow, or the one that is named; `--seconds` ends it."""
    file = capture(tmp_path / f"c{suffix}", DATAGRAMS)
    found = json.loads(ended(file, "--json")[1])
    assert (found["datagrams"], found["seconds"]) == (603, pytest.approx(602 * 0.013))
    short = json.loads(ended(file, "--json", "--seconds", "2")[1])
    assert short["datagrams"] == 154
    status, out, _ = ended(file, "--json", "--flow", "2")
    assert (status, json.loads(out)["form"]) == (1, "opaque")


def test_faults_end_with_status_1(tmp_path: Path) -> None:
    """Damage in a file and losses in a capture are found, and told in words."""
    film, packets = tmp_path / "film.ts", list(PACKETS)
    packets[1000] = b"x" + packets[1000][1:]
    film.write_bytes(b"".join(packets))
    status, out, _ = ended(film)
    assert status == 1
    assert "NOT HEALTHY" in out
    assert re.search(rf"Sync_byte_error +1 +0:0[0-9.]+  {WORDS['Sync_byte_error']}\n", out)
    lossy = capture(tmp_path / "lossy.pcap", DATAGRAMS[:100] + DATAGRAMS[101:])
    status, out, _ = ended(lossy, "--json")
    assert status == 1
    assert json.loads(out)["ts"]["tr_101_290"]["Continuity_count_error"] > 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "arguments are required"),
        (["a", "5004", "c"], "too many arguments: 'c'"),
        (["70000"], "not a port (1 to 65535): '70000'"),
        (["127.0.0.1", "x"], "not a port (1 to 65535): 'x'"),
        (["http://x"], "not an MRL"),
        (["5004", "--flow", "1"], "--flow chooses from a capture"),
        (["5004", "--seconds", "x"], "not a number above 0: 'x'"),
        (["nowhere.ts"], "cannot read nowhere.ts: No such file or directory"),
        (["tools"], "cannot read tools: Is a directory"),
        (["pyproject.toml"], "pyproject.toml: neither MPEG-TS nor a capture (pcap, pcapng)"),
        (["/dev/null"], "/dev/null: the file is empty"),
        (["/proc/self/mem"], "cannot read /proc/self/mem: Input/output error"),
        (["tools/sample/sample.ts", "--flow", "1"], "--flow chooses from a capture"),
        (["192.0.2.1", "5004"], "cannot listen at 192.0.2.1:5004"),
        (["no.such.host.invalid", "5004"], "unknown host: no.such.host.invalid"),
    ],
)
def test_what_cannot_be_looked_at_is_one_line(words: list[str], line: str) -> None:
    """Wrong words, and files and ports that are none, end with status 2 and say why."""
    status, out, said = ended(*words)
    assert (status, out, said.count("\n")) == (2, "", 1)
    assert said.startswith("probe.py: ")
    assert line in said


@pytest.mark.parametrize("protocol", ["rtp", "udp"])
def test_a_port_is_watched_until_ctrl_c(protocol: str) -> None:
    """What fake_vlc did to a stream is what is found: so many lost, reordered, duplicated.

    The seed spares the first and the last datagram: nobody can know of these.
    """
    faults = ("--drop", "2%", "--duplicate", "2%", "--reorder", "2%", "--seed", "3")
    rtp = ("--rtp",) if protocol == "rtp" else ()
    with Probe("--json") as probe:
        words = (*FAKE_VLC, "127.0.0.1", str(probe.port), "--speed", "4", *rtp, *faults)
        with ChildProcess(*words) as source:
            assert source.wait() == 0
        done = re.search(
            r"dropped (\d+), duplicated (\d+), reordered (\d+)", "".join(source.stderr)
        )
        sent = re.search(r"sent (\d+) datagrams", "".join(source.stderr))
        status, found = probe.stopped()
    assert done
    assert sent
    assert (status, found["datagrams"]) == (1, int(sent[1]))
    assert found["ts"]["tr_101_290"]["Continuity_count_error"] > 0
    if protocol == "rtp":
        names = ("lost", "duplicated", "reordered")
        assert [found["rtp"][name] for name in names] == [int(number) for number in done.groups()]


def test_nothing_and_noise_are_not_healthy() -> None:
    """A port at which nothing comes, or no stream, ends with status 1."""
    with Probe("--seconds", "0.1") as probe:
        assert probe.wait() == 1
    assert "NOTHING  no datagram has arrived" in "".join(probe.stdout)
    with Probe("--json") as probe, udp_socket() as sender:
        sender.sendto(b"hello\n", ("127.0.0.1", probe.port))
        wait_for(lambda: not _unread(probe.port), "probe to read")
        status, found = probe.stopped()
    assert (status, found["form"], found["datagrams"], found["ts"]) == (1, "opaque", 1, None)


def _unread(port: int) -> bool:
    """Tell whether a datagram waits at a port (proc(5))."""
    rows = Path("/proc/net/udp").read_text().splitlines()
    row = next(row for row in rows if f":{port:04X} 00000000:0000" in row)
    return not row.split()[4].endswith(":00000000")


def test_on_a_terminal_the_table_is_redrawn_and_the_last_one_stays() -> None:
    """It is drawn on a screen of its own, in colour, and left behind as lines at the end."""
    terminal, theirs = pty.openpty()
    port = unused_port()
    words = [*PROBE, "127.0.0.1", str(port)]
    with subprocess.Popen(
        words, stdout=theirs, cwd=ROOT, env={**os.environ, "TERM": "xterm"}
    ) as probe:
        os.close(theirs)
        wait_for(lambda: is_bound(port), "probe to listen")
        with udp_socket() as sender:
            for datagram in DATAGRAMS:
                sender.sendto(datagram, ("127.0.0.1", port))
        shown = ""
        while "H.264" not in shown:
            shown += os.read(terminal, 65536).decode()
        probe.send_signal(signal.SIGINT)
        while "\x1b[?1049l" not in shown or "PCR_accuracy_error" not in shown.partition("1049l")[2]:
            shown += os.read(terminal, 65536).decode()
        probe.wait(PATIENCE)
    os.close(terminal)
    drawn, _, left = shown.partition("\x1b[?1049l")
    assert drawn.startswith("\x1b[?1049h")
    assert drawn.count("\x1b[H") >= 2
    assert "640x360, 25 pictures/s" in left
    assert "\x1b[H" not in left


@pytest.mark.parametrize(
    "text", ["udp://@:0", "udp://@239.1.1.1?ttl=1", "udp://10.0.0.5@:1", "udp://@:1?iface=eth0"]
)
def test_what_cannot_be_listened_to_is_an_error(text: str) -> None:
    """What is no MRL; one for sending; a source or an interface without a group."""
    with pytest.raises(ArgumentTypeError):
        mrl(text)


class PlayedTap(Tap):
    """A tap at which arrivals are played."""

    def __init__(self, arrivals: list[tuple[float, int, bytes]]) -> None:
        self.lost = 0
        self._arrivals = [
            Arrival(int(time * 1e9), Datagram(Flow(b"\x7f\0\0\1", port, b"\x7f\0\0\1", 9), payload))
            for time, port, payload in arrivals
        ]

    def receive(self) -> Arrival | None:
        return self._arrivals.pop(0) if self._arrivals else None


def test_one_source_at_a_time() -> None:
    """A stray takes nothing from the stream, nor does a second source until the first is silent."""
    arrivals = [(0.0, 1, b"hello")]
    arrivals += [(1 + index / 100, 2, DATAGRAMS[index]) for index in range(100)]
    arrivals += [(1.5, 3, DATAGRAMS[200])]
    arrivals.sort()
    arrivals += [(9 + index / 100, 3, DATAGRAMS[300 + index]) for index in range(100)]
    monitor = Monitor()
    live = LiveInput(PlayedTap(arrivals), monitor)
    live.take()
    assert (live.source, live.others) == ("127.0.0.1:3", 1)
    report = monitor.report()
    assert report.datagrams == 201
    assert report.ts is not None
    assert report.ts.tr_101_290["Continuity_count_error"] == 0


def test_the_table_is_in_columns_and_fits() -> None:
    """No line is wider than a terminal of 120 columns, and numbers end where their heads do."""
    monitor = Monitor()
    for index, datagram in enumerate(DATAGRAMS):
        if index % 50:
            monitor.feed(datagram, index * 0.013)
    lines = table(monitor, View("port 5004", "127.0.0.1:40000", live=True), Style(False))
    assert max(map(len, lines)) <= 120
    (head,) = (line for line in lines if line.endswith("average"))
    (video,) = (line for line in lines if "H.264" in line)
    assert len(head) == len(video)
    (errors,) = (line for line in lines if line.startswith("TR 101 290"))
    (found,) = (line for line in lines if "Continuity_count_error" in line and "packets" in line)
    assert re.match(r".*\d", found[: errors.index("errors") + len("errors")])
    assert found[errors.index("last at") + len("last at") :].startswith("  packets")
    assert set(WORDS) == set(NAMES)
