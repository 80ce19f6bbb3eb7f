"""Two real encoders, one behind a path that loses datagrams: the other one takes over."""

import socket
from itertools import groupby
from pathlib import Path

from tests.interop.test_takeover_ffmpeg import (
    ENOUGH,
    Recorder,
    encoder,
    encoder_of,
    letters,
)
from tools.lab.media import continuity_errors, split_packets
from tools.lab.process import need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import Work, reload
from tools.lab.sockets import udp_socket
from tools.lab.viewer import TestViewer


class Lossy(Work):
    """A path to the relay that loses one datagram of ten, once it is `bad`."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.bad = False
        self._to = ("127.0.0.1", port)
        self._sock = udp_socket()
        self._sock.settimeout(0.1)
        self.port: int = self._sock.getsockname()[1]

    def run(self) -> None:
        """Pass datagrams on."""
        count = 0
        with self._sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while not self.stopped():
                try:
                    datagram = self._sock.recv(65536)
                except TimeoutError:
                    continue
                count += 1
                if not self.bad or count % 10:
                    out.sendto(datagram, self._to)


def test_a_clean_standby_takes_over_from_a_source_with_errors(tmp_path: Path) -> None:
    """The viewer gets the first encoder until it is bad, then the second, whole from there on.

    While both are good nothing happens, a reload included.
    """
    need("ffmpeg")
    recording = tmp_path / "recording.ts"
    with (
        RelayProcess("--failover-errors", "2") as relay,
        TestViewer(relay.port) as viewer,
        Recorder(viewer.subscribe(), recording) as recorder,
        Lossy(relay.ingest_port) as path,
        encoder("A", path.port),
    ):
        wait_for(lambda: recorder.packets["A"] > ENOUGH, "the first encoder")
        with encoder("B", relay.ingest_port):
            relay.wait_event("source_rejected")
            reload(relay)
            more = recorder.packets["A"] + 5 * ENOUGH
            wait_for(lambda: recorder.packets["A"] > more, "both to have sent a while")
            assert relay.events("source_takeover") == []
            path.bad = True
            assert relay.wait_event("source_takeover")["reason"] == "errors"
            wait_for(lambda: recorder.packets["B"] > 5 * ENOUGH, "the second encoder")
        assert len(relay.events("source_takeover")) == 1
    packets = split_packets([recording.read_bytes()])
    assert [name for name, _ in groupby(letters(packets))] == ["A", "B"]
    assert continuity_errors([each for each in packets if encoder_of(each) == "A"])
    assert not continuity_errors([each for each in packets if encoder_of(each) == "B"])
