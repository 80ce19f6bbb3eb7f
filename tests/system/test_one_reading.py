"""What viewers by HTTP get, and what is said of it, is one and the same reading of the stream.

Over sockets: a recorded stream as real senders and networks spoil it, at its own pace. Both ends
are looked at: the verdict, and the bytes that come out.
"""

import random
import time
from collections.abc import Callable, Iterator

import pytest

from relaylib.media import rtp
from relaylib.media.health import Monitor
from tools.lab.process import ROOT, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import Work
from tools.lab.sockets import source
from tools.lab.viewer import TestViewer
from tools.lab.web import HttpViewer, Watching, http_port

SAMPLE = (ROOT / "tools" / "sample" / "sample.ts").read_bytes()
RATE = 120
"""Datagrams a second: about the sample's own pace."""

COUNT = 480

Datagrams = list[bytes]


def cut(size: int) -> Datagrams:
    """Cut the sample into pieces of this size, whatever packets they cut."""
    pieces = [SAMPLE[at : at + size] for at in range(0, len(SAMPLE), size)]
    return pieces[: COUNT * 1316 // size]


def in_rtp(first: int = 65_400, count: int = COUNT, ssrc: int = 7, stamp: int = 0) -> Datagrams:
    """Put the sample in RTP."""
    pieces = cut(1316)[:count]
    return [
        rtp.header(first + number, stamp + number * 90_000 // RATE, ssrc) + piece
        for number, piece in enumerate(pieces)
    ]


def swapped() -> Datagrams:
    """Of 50 datagrams one comes after the next one."""
    sent, rng = in_rtp(), random.Random(1)
    for at in range(5, len(sent) - 2):
        if rng.random() < 0.02:
            sent[at], sent[at + 1] = sent[at + 1], sent[at]
    return sent


def doubled() -> Datagrams:
    """Of 20 datagrams one comes twice."""
    rng = random.Random(2)
    return [each for one in in_rtp() for each in [one] * (1 + (rng.random() < 0.05))]


def between(others: Datagrams, sent: Datagrams) -> Datagrams:
    """Put other things between the datagrams of a stream."""
    found = Datagrams()
    for number, each in enumerate(sent):
        found.append(each)
        if not number % 10:
            found.append(others[number // 10 % len(others)])
    return found


FEC = [rtp.header(number, number * 90, 0, 96) + bytes(1328) for number in range(COUNT)]
RTCP = [b"\x80\xc8\x00\x06" + bytes(24)]
STUN = [b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(20)]

SPOILED: dict[str, tuple[str, Callable[[], Datagrams]]] = {
    "cut at 1472 bytes": ("ts", lambda: cut(1472)),
    "cut at 1024 bytes": ("ts", lambda: cut(1024)),
    "cut, and keepalives": ("ts", lambda: between([b"\0"], cut(1472))),
    "keepalives": ("ts", lambda: between([b"\0", b"keep alive"], cut(1316))),
    "swapped": ("rtp", swapped),
    "doubled": ("rtp", doubled),
    "FEC": ("rtp", lambda: between(FEC, in_rtp())),
    "RTCP, STUN and text": ("rtp", lambda: between([*RTCP, *STUN, b"hello\n"], in_rtp())),
}


class Sending(Work):
    """Sends datagrams, `RATE` of them a second; `forms` are those that ESTADO names meanwhile."""

    def __init__(self, port: int, datagrams: Datagrams) -> None:
        super().__init__()
        self._port, self._datagrams = port, datagrams
        self.is_done = False

    def run(self) -> None:
        """Send, and make up for what was late."""
        with source(self._port) as sock:
            started = time.monotonic()
            for number, each in enumerate(self._datagrams):
                if self.stopped(max(0.0, started + number / RATE - time.monotonic())):
                    return
                sock.send(each)
        self.is_done = True


def errors(data: bytes) -> dict[str, int]:
    """Return what is wrong with a transport stream that was read by HTTP."""
    monitor = Monitor()
    for at in range(0, len(data) - 1315, 1316):
        monitor.feed(data[at : at + 1316], at / 1e9)
    found = monitor.transport.errors.counts
    names = ("Continuity_count_error", "Sync_byte_error", "TS_sync_loss", "Transport_error")
    return {name: found[name] for name in names if found[name]}


@pytest.fixture
def relay() -> Iterator[RelayProcess]:
    """A relay that serves HTTP."""
    with RelayProcess("--http", "127.0.0.1:0") as relay:
        yield relay
        assert not relay.events("bug")


def status(port: int, path: str) -> int:
    with HttpViewer(port) as browser:
        return browser.get(path, "HEAD").status


def segments(port: int) -> bytes:
    """Return all segments that are listed, one behind the other."""
    with HttpViewer(port) as browser:
        text = browser.get("/live.m3u8").body.decode()
        assert "#EXT-X-DISCONTINUITY\n" not in text
        uris = [f"/{line}" for line in text.split("\n") if line.startswith("hls/")]
        found = [browser.get(uri).body for uri in uris]
    assert all(each[::188] == b"\x47" * (len(each) // 188) for each in found)
    return b"".join(found)


@pytest.mark.parametrize("name", SPOILED)
def test_nothing_is_torn_and_nobody_is_blamed(relay: RelayProcess, name: str) -> None:
    """Whatever can be put right is right in `/live.ts` and in each segment; the form stays."""
    form, make = SPOILED[name]
    port, forms = http_port(relay), set[str]()
    datagrams = make()
    with TestViewer(relay.port) as viewer, Sending(relay.ingest_port, datagrams) as sending:
        wait_for(lambda: status(port, "/live.ts") == 200, "a stream")
        with Watching(port) as watching:

            def finished() -> bool:
                forms.add(viewer.command("ESTADO").split("forma=")[1].split()[0])
                return sending.is_done

            wait_for(finished, "all to be sent", 30)
            estado = viewer.command("ESTADO")
            wait_for(lambda: len(watching.data) > 300 * 1316, "the rest to be read")
            listed = segments(port)
    assert forms == {form}
    assert "salud=sano" in estado
    body = bytes(watching.data)
    assert body[::188] == b"\x47" * (-(-len(body) // 188))
    assert SAMPLE.find(body[564 : 564 + 1316 * 200]) >= 0, "not the packets of the stream in order"
    assert errors(body) == {}
    assert errors(listed) == {}
    assert not relay.events("health_changed", verdict="fuente")


def test_rtp_without_a_transport_stream_is_named(relay: RelayProcess) -> None:
    """RTP that carries something else is recognised by its content, and HTTP says what to do."""
    datagrams = [rtp.header(n, n * 3000, 9, 96) + b"\x41" + bytes(900) for n in range(COUNT)]
    port = http_port(relay)
    with TestViewer(relay.port) as viewer, Sending(relay.ingest_port, datagrams):
        wait_for(lambda: "forma=rtp-sin-ts" in viewer.command("ESTADO"), "the form to be known")
        for path in ("/live.ts", "/live.m3u8", "/live.mp4"):
            with HttpViewer(port) as browser:
                answer = browser.get(path)
            assert answer.status == 503
            assert b"RTP sin MPEG-TS (tipo 96): use rtp_mpegts" in answer.body


def test_an_encoder_that_starts_again_goes_on(relay: RelayProcess) -> None:
    """With the same SSRC and a lower sequence number, its packets are new ones, and come out."""
    port = http_port(relay)
    before = in_rtp(first=5000, count=240)
    again = in_rtp(first=4700, count=240, stamp=1 << 30)
    with Sending(relay.ingest_port, before + again) as sending:
        wait_for(lambda: status(port, "/live.ts") == 200, "a stream")
        with Watching(port) as watching:
            wait_for(lambda: sending.is_done, "all to be sent", 30)
            end = in_rtp(count=240)[-1][-188:]
            wait_for(lambda: bytes(watching.data).count(end) == 2, "both streams to the end")
    body = bytes(watching.data)
    assert body[::188] == b"\x47" * (-(-len(body) // 188))
    assert body.count(before[100][12:]) == 2
