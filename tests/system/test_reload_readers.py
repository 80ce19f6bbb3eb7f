"""A reload with every kind of reader under way: nothing is missing, and nothing comes twice."""

import contextlib
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from relaylib.media import rtp
from tools.lab.media import make_clip
from tools.lab.process import wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import Work, reload
from tools.lab.sockets import source
from tools.lab.viewer import TestViewer
from tools.lab.web import HttpViewer, Watching, http_port, request

SIZE = 7 * 188
RELOADS = 3

LOST = 350
"""A datagram that is not sent, some seconds after the beginning: a fault, to be recorded."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A clip of half a minute, no two pieces of which are alike."""
    return make_clip(tmp_path_factory.mktemp("clip"), 30).read_bytes()


class Sending(Work):
    """Sends the clip in RTP in its own time, but for one datagram; `is_done` when it has ended."""

    def __init__(self, port: int, clip: bytes, without: int) -> None:
        super().__init__()
        self._port, self._clip, self._without = port, clip, without
        self.sent = 0

    def run(self) -> None:
        """Send, and make up for what was late."""
        count = len(self._clip) // SIZE
        with source(self._port) as sock:
            started = time.monotonic()
            for number in range(count):
                if self.stopped(max(0.0, started + number * 30 / count - time.monotonic())):
                    return
                piece = self._clip[number * SIZE : (number + 1) * SIZE]
                if number != self._without:
                    sock.send(rtp.header(number, number * 600, 7) + piece)
                self.sent = number + 1


class Playing(Work):
    """Receives RTP for a viewer; `numbers` are sequence numbers as they come."""

    def __init__(self, viewer: TestViewer) -> None:
        super().__init__()
        self.numbers = list[int]()
        self._player = viewer.player
        self._player.settimeout(0.1)

    def run(self) -> None:
        """Receive until told to stop."""
        while not self.stopped():
            with contextlib.suppress(TimeoutError):
                self.numbers.append(int.from_bytes(self._player.recv(2048)[2:4], "big"))

    def is_whole(self) -> bool:
        """Tell whether each number is the next one."""
        return all(after == before + 1 for before, after in pairwise(self.numbers))


def segments(port: int) -> Iterator[str]:
    """Yield the addresses of the segments that are listed."""
    with HttpViewer(port) as browser:
        text = browser.get("/live.m3u8").body.decode()
    yield from (f"/{line}" for line in text.split("\n") if line.startswith("hls/"))


def test_every_reader_goes_on(clip: bytes, tmp_path: Path) -> None:
    """Live and deferred by UDP, `/live.ts` now and behind, segments, MP4, and the recorder."""
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(
            RelayProcess(
                "--http", "127.0.0.1:0", "--timeshift", "60", "--record-faults", str(tmp_path)
            )
        )
        port = http_port(relay)
        sending = stack.enter_context(Sending(relay.ingest_port, clip, without=LOST))
        wait_for(lambda: len(list(segments(port))) >= 4, "some segments", 30)
        relay.wait_event("recording_started")
        viewers = [stack.enter_context(TestViewer(relay.port).subscribe()) for _ in range(2)]
        live, deferred = [stack.enter_context(Playing(viewer)) for viewer in viewers]
        wait_for(lambda: deferred.numbers and live.numbers, "datagrams")
        assert viewers[1].command("INTERRUMPIR") == "OK"
        begun = sending.sent
        wait_for(lambda: sending.sent > begun + 60, "a pause")
        assert viewers[1].command("CONTINUAR DIFERIDO") == "OK"
        watching = [
            stack.enter_context(Watching(port, target))
            for target in ("/live.ts", "/live.ts?back=2")
        ]
        films = [stack.enter_context(Watching(port, "/live.mp4"))]
        for _ in range(RELOADS):
            address = list(segments(port))[-1]
            half = stack.enter_context(HttpViewer(port, receive_buffer=4096))
            half.send(request(address))
            length = int(half.head()[1]["content-length"])
            part = half.read(20_000)
            reload(relay)
            wait_for(lambda: films[-1].ended, "the film to end")  # the page asks again
            films.append(stack.enter_context(Watching(port, "/live.mp4")))
            assert part + half.read(length - len(part)) == fetched(port, address)
        sent = sending.sent
        wait_for(lambda: deferred.numbers[-1] > sent and len(films[-1].data) > 50_000, "more", 30)
        listed = [fetched(port, address) for address in segments(port)]
        relay.wait_event("recorded")
    assert live.is_whole()
    assert deferred.is_whole()
    for each in watching:
        body = bytes(each.data)
        assert clip.find(body[2 * 188 :]) > 0, "not the clip, whole and in order"
    came = clip[: LOST * SIZE] + clip[(LOST + 1) * SIZE :]
    assert came.find(b"".join(each[2 * 188 :] for each in listed)) > 0
    assert all(b"moof" in film.data for film in films)
    assert not relay.events("bug")
    assert not relay.events("health_changed", verdict="relay")


def fetched(port: int, address: str) -> bytes:
    """Return a segment."""
    with HttpViewer(port) as browser:
        answer = browser.get(address)
    assert answer.status == 200
    return answer.body
