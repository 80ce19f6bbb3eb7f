"""Segments over sockets: finite, fast, on connections that are used again, and over a reload."""

import contextlib
import gzip
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tools.lab.altered import Altered
from tools.lab.media import make_clip
from tools.lab.process import ChildProcess, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import Work, reload
from tools.lab.viewer import TestViewer
from tools.lab.web import HttpViewer, http_port, request

FAKE_VLC = (sys.executable, "tools/fake_vlc.py", "--loop", "127.0.0.1")

BYTES = "relay_http_stream_bytes_total "

RATE = "16M"
"""A segment of a second has 2 MB: more than any buffer on the way to a reader."""


SLOW = """
import time
from relaylib.web import hls

restore = hls.Hls.restore

def slowly(self, saved):
    for _ in range(100):
        time.sleep(0.002)
        self._loop.read_priority()
    return restore(self, saved)

hls.Hls.restore = slowly
"""
"""To go on with a segment takes 0.2 s, in which the ingest would be read between two pieces."""


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stream of large segments."""
    need("ffmpeg")
    folder = tmp_path_factory.mktemp("clip")
    clip, padded = make_clip(folder, 4), folder / "padded.ts"
    words = ("-i", clip, "-c", "copy", "-muxrate", RATE, "-f", "mpegts", padded)
    subprocess.run(["ffmpeg", "-v", "error", *words], check=True, timeout=60)
    return padded


@pytest.fixture(scope="module")
def relay(padded: Path) -> Iterator[RelayProcess]:
    """A relay whose source sends large segments."""
    with RelayProcess("--http", "127.0.0.1:0") as program:
        with ChildProcess(*FAKE_VLC, str(program.ingest_port), padded):
            wait_for(lambda: len(listed(program)) >= 6, "some segments")
            yield program
        assert not program.events("bug")


def listed(relay: RelayProcess) -> list[str]:
    """Return the segments that the playlist lists."""
    with HttpViewer(http_port(relay)) as browser:
        text = browser.get("/live.m3u8").body.decode()
    return [f"/{line}" for line in text.split("\n") if line.startswith("hls/")]


def test_one_connection_carries_playlists_and_segments(relay: RelayProcess) -> None:
    """Whole or conditional, one by one or at once: each answer has its length and its end."""
    first, second = listed(relay)[-2:]
    with HttpViewer(http_port(relay)) as browser:
        whole = browser.get(first)
        assert whole.headers["content-type"] == "video/mp2t"
        assert "connection" not in whole.headers
        assert len(whole.body) > 1_000_000
        assert whole.body[::188] == b"\x47" * (len(whole.body) // 188)
        head = browser.get(first, "HEAD")
        assert head.headers["content-length"] == str(len(whole.body))
        assert browser.get(first, If_None_Match=whole.headers["etag"]).status == 304
        browser.send(
            request(second) + request(first) + request("/live.m3u8", Accept_Encoding="gzip")
        )
        assert browser.answer().status == 200
        assert browser.answer().body == whole.body
        playlist = browser.answer()
        assert playlist.headers["content-encoding"] == "gzip"
        assert gzip.decompress(playlist.body).startswith(b"#EXTM3U\n")
        assert browser.get("/hls/0/0.ts").status == 404
        assert browser.get("/live.m3u8").status == 200


def test_bytes_of_segments_are_counted(relay: RelayProcess) -> None:
    """As those of live streams are, whole segments and nothing else of what HLS takes."""
    uri = listed(relay)[-1]

    with HttpViewer(http_port(relay)) as browser:

        def counted() -> int:
            text = browser.get("/metrics").body.decode()
            [line] = [line for line in text.split("\n") if line.startswith(BYTES)]
            return int(float(line.split()[1]))

        before = counted()
        segment = browser.get(uri)
        browser.get(uri, "HEAD")
        browser.get("/live.m3u8")
        wait_for(lambda: counted() > before, "the next figures")
        assert counted() - before == len(segment.body)


def test_a_reload_changes_nothing(relay: RelayProcess) -> None:
    """Same addresses, same bytes, also for one that was half read, and who then asks for more."""
    uris = listed(relay)
    with HttpViewer(http_port(relay)) as browser:
        before = {uri: browser.get(uri).body for uri in uris[-3:]}
    with HttpViewer(http_port(relay), receive_buffer=4096) as slow:
        slow.send(request(uris[-1]) + request(uris[-2]))
        _, headers = slow.head()
        got = slow.read(100_000)
        reload(relay)
        after = listed(relay)
        assert after[: len(uris)] == uris[: len(after)]
        got += slow.read(int(headers["content-length"]) - len(got))
        assert got == before[uris[-1]]
        assert slow.answer().body == before[uris[-2]]
    with HttpViewer(http_port(relay)) as browser:
        assert {uri: browser.get(uri).body for uri in uris[-3:]} == before


class Sequence(Work):
    """Receives RTP for a viewer; `numbers` are the sequence numbers, as they came."""

    def __init__(self, viewer: TestViewer) -> None:
        super().__init__()
        self.numbers: list[int] = []
        self._player = viewer.player
        self._player.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._player.settimeout(0.1)

    def run(self) -> None:
        while not self.stopped():
            with contextlib.suppress(TimeoutError):
                self.numbers.append(int.from_bytes(self._player.recv(2048)[2:4], "big"))

    def gaps(self) -> list[tuple[int, int]]:
        """Return each number that does not follow the one before, and that one."""
        return [each for each in pairwise(self.numbers) if each[1] != (each[0] + 1) % (1 << 16)]


def test_a_reload_with_a_segment_under_way_costs_no_datagram(padded: Path, tmp_path: Path) -> None:
    """However long the new program takes to find the segment, only the stand-in reads meanwhile."""
    program = Altered(tmp_path)
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(RelayProcess("--http", "127.0.0.1:0", prefix=program.prefix))
        viewer = stack.enter_context(TestViewer(relay.port).subscribe())
        got = stack.enter_context(Sequence(viewer))
        source = (*FAKE_VLC, "--rtp", str(relay.ingest_port), padded)
        stack.enter_context(ChildProcess(*source))
        wait_for(lambda: len(listed(relay)) >= 3, "some segments")
        slow = stack.enter_context(HttpViewer(http_port(relay), receive_buffer=4096))
        slow.send(request(listed(relay)[-1]))
        _, headers = slow.head()
        program.become(SLOW)
        for _ in range(2):
            reload(relay)
        before = len(got.numbers)
        slow.read(int(headers["content-length"]))
        wait_for(lambda: len(got.numbers) > before + 100, "the stream")
        assert got.gaps() == []
        assert not relay.events("bug")


@pytest.mark.long
def test_a_reader_that_stalls_is_closed(relay: RelayProcess) -> None:
    """Who takes nothing of a segment for ten seconds is let go; nobody else notices."""
    uri = listed(relay)[-1]
    with HttpViewer(http_port(relay), receive_buffer=4096) as slow:
        slow.send(request(uri))
        length = int(slow.head()[1]["content-length"])
        wait_for(lambda: len(established(slow)) == 0, "the relay to close the connection", 30)
        with pytest.raises((AssertionError, ConnectionError)):
            slow.read(length)


def established(browser: HttpViewer) -> list[str]:
    """Return the relay's end of a connection, if it still has it."""
    port = f":{browser.sock.getsockname()[1]:04X} 01 "
    rows = Path("/proc/net/tcp").read_text().splitlines()
    return [row for row in rows if port in row]
