"""Two real encoders at one ingest: a viewer's recording is of one, then of the other, never mixed.

Their transport streams are told apart packet by packet: each has PIDs of its own, and its own
transport_stream_id in the tables that have fixed PIDs (ISO/IEC 13818-1, 2.4.4.3).
"""

import contextlib
import signal
import time
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from tools.lab.media import NULL_PID, continuity_errors, pid_of, split_packets
from tools.lab.process import ChildProcess, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import Work, reload
from tools.lab.viewer import TestViewer

TIMEOUT = 1.0
"""Seconds of silence after which the standby takes over."""

IDS = {"A": 0x0A01, "B": 0x0B01}
PIDS = {"A": 0x0200, "B": 0x0300}
"""First of 256 that are the encoder's own."""


ENOUGH = 500
"""Packets: a second of the stream."""


def encoder(name: str, port: int) -> ChildProcess:
    """An ffmpeg that encodes a test picture in real time, until it is ended."""
    words = ["-re", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-c:v", "mpeg2video"]
    words += ["-b:v", "1M", "-f", "mpegts", "-mpegts_transport_stream_id", str(IDS[name])]
    words += ["-mpegts_start_pid", str(PIDS[name]), "-mpegts_pmt_start_pid", str(PIDS[name] + 128)]
    words += ["-metadata", f"service_name={name}", f"udp://127.0.0.1:{port}?pkt_size=1316"]
    return ChildProcess("ffmpeg", "-nostdin", "-v", "error", *words)


def encoder_of(packet: bytes) -> str | None:
    """Tell whose packet it is; None for stuffing, which says nothing."""
    pid = pid_of(packet)
    if pid == NULL_PID:
        return None
    if pid >= 0x20:
        return {first: name for name, first in PIDS.items()}[pid & ~0xFF]
    # A table that begins with the packet: pointer_field 0, table_id, length, then the ID, which is
    # in the same place in both tables that ffmpeg sends (PAT and SDT).
    assert (packet[1] & 0x40, packet[3] & 0x30, packet[4]) == (0x40, 0x10, 0)
    return {number: name for name, number in IDS.items()}[int.from_bytes(packet[8:10], "big")]


def letters(packets: list[bytes]) -> str:
    """Whose each packet is, as one letter for each."""
    return "".join(name for packet in packets if (name := encoder_of(packet)))


class Recorder(Work):
    """Records what a viewer gets; `times` are when each encoder's first and last datagram came."""

    def __init__(self, viewer: TestViewer, file: Path) -> None:
        super().__init__()
        self.times: dict[str, list[float]] = {}
        self.packets: Counter[str] = Counter()
        self._player = viewer.player
        self._player.settimeout(0.1)
        self._file = file

    def run(self) -> None:
        """Record."""
        with self._file.open("wb") as file:
            while not self.stopped():
                with contextlib.suppress(TimeoutError):
                    self._take(file, self._player.recv(65536))

    def _take(self, file: BinaryIO, datagram: bytes) -> None:
        file.write(datagram)
        found = letters(split_packets([datagram]))
        self.packets.update(found)
        for name in set(found):
            now = time.monotonic()
            self.times[name] = [self.times.get(name, [now])[0], now]


def test_a_standby_takes_over_and_never_interferes(tmp_path: Path) -> None:
    """While two encoders send, the viewer gets the first alone; once that is dead, the second.

    A reload of the relay in between changes nothing.
    """
    need("ffmpeg")
    recording = tmp_path / "recording.ts"
    with (
        RelayProcess("--source-timeout", str(TIMEOUT)) as relay,
        TestViewer(relay.port) as viewer,
        Recorder(viewer.subscribe(), recording) as recorder,
        encoder("A", relay.ingest_port) as first,
    ):
        wait_for(lambda: recorder.packets["A"] > ENOUGH, "the first encoder")
        with encoder("B", relay.ingest_port):
            relay.wait_event("source_rejected")
            reload(relay)
            both = recorder.packets["A"]
            wait_for(lambda: recorder.packets["A"] > both + ENOUGH, "both to have sent a while")
            first.stop(signal.SIGKILL)
            wait_for(lambda: recorder.packets["B"] > ENOUGH, "the second encoder")
        takeover = relay.wait_event("source_takeover")
        assert takeover["previous"] == relay.events("source_locked")[0]["source"]
        assert takeover["source"] == relay.events("source_locked")[1]["source"]
        pause = recorder.times["B"][0] - recorder.times["A"][1]
        print(f"pause {pause:.3f} s, packets {dict(recorder.packets)}")
        assert TIMEOUT / 2 < pause < TIMEOUT + 1
    packets = split_packets([recording.read_bytes()])
    assert [name for name, _ in groupby(letters(packets))] == ["A", "B"]
    for name in IDS:
        assert not continuity_errors([each for each in packets if encoder_of(each) == name])


def test_who_comes_back_is_the_standby(tmp_path: Path) -> None:
    """The encoder that was replaced does not get the ingest back just by sending again."""
    need("ffmpeg")
    with (
        RelayProcess("--source-timeout", "0.5") as relay,
        TestViewer(relay.port) as viewer,
        Recorder(viewer.subscribe(), tmp_path / "recording.ts") as recorder,
    ):
        with encoder("A", relay.ingest_port):
            wait_for(lambda: recorder.packets["A"] > ENOUGH, "the first encoder")
        relay.wait_event("ingest_silent")
        with encoder("B", relay.ingest_port):
            wait_for(lambda: recorder.packets["B"], "the second encoder")
            before = recorder.packets["A"]
            with encoder("A", relay.ingest_port):
                relay.wait_event("source_rejected")
                more = recorder.packets["B"] + ENOUGH
                wait_for(lambda: recorder.packets["B"] > more, "both to have sent a while")
        assert recorder.packets["A"] == before
        assert len(relay.events("source_takeover")) == 1
