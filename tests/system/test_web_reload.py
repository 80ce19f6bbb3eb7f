"""A reload with people who watch by HTTP: nothing is missing and nothing comes twice."""

import contextlib
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tools.lab.process import wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import descriptors, reload
from tools.lab.sockets import unused_port
from tools.lab.web import PACKETS, HttpViewer, Packets, Watching, http_port, numbers, request

RELOADS = 3


@pytest.fixture
def relay() -> Iterator[RelayProcess]:
    """A relay that serves HTTP."""
    with RelayProcess("--http", "127.0.0.1:0") as program:
        yield program


@pytest.mark.long
@pytest.mark.parametrize("in_rtp", [False, True], ids=["ts", "rtp"])
def test_streams_go_on(relay: RelayProcess, in_rtp: bool) -> None:
    """Viewers at the newest, behind, and stalled with a write half done get each packet once."""
    port = http_port(relay)
    with contextlib.ExitStack() as stack:
        packets = stack.enter_context(Packets(relay.ingest_port, in_rtp=in_rtp))
        wait_for(lambda: packets.sent > 500, "a second of the stream")
        viewers = [
            stack.enter_context(Watching(port, target))
            for target in ("/live.ts", "/live.ts", "/live.ts?back=0.7")
        ]
        slow = stack.enter_context(HttpViewer(port, receive_buffer=4096))
        slow.send(request("/live.ts?back=1"))
        assert slow.head()[0] == 200
        before, slow_data = descriptors(relay), b""
        for _ in range(RELOADS):
            reload(relay)
            slow_data += slow.read(1 << 16)  # enough for a sign of life, or it would be closed
        assert descriptors(relay) == before
        sent = packets.sent
        late = stack.enter_context(Watching(port))
        wait_for(lambda: packets.sent > sent + 200, "some more of the stream")
        wait_for(lambda: min(len(v.data) for v in (*viewers, late)) > 100_000, "the stream")
        assert not any(viewer.ended for viewer in (*viewers, late))
        slow_data += slow.read(1 << 20)
    for data in (*(viewer.data for viewer in viewers), late.data, slow_data):
        got = list(numbers(bytes(data)))
        assert all(after == before + 1 for before, after in pairwise(got))
        assert got[0] % PACKETS == 0
    for viewer in viewers:
        assert max(numbers(bytes(viewer.data))) > PACKETS * sent
    assert not relay.events("http_client_gone", reason="bug")
    assert not relay.events("bug")


def test_requests_travel_half_written(relay: RelayProcess) -> None:
    """A request that was begun before a reload is answered when its rest comes."""
    whole = request("/healthz")
    with contextlib.ExitStack() as stack:
        browsers = [stack.enter_context(HttpViewer(http_port(relay))) for _ in range(5)]
        cuts = [0, 1, 20, len(whole) - 1, len(whole) + 7]
        for browser, cut in zip(browsers, cuts, strict=True):
            browser.send((whole * 2)[:cut])
        assert browsers[-1].answer().status == 503  # so the others have been read, too
        reload(relay)
        for browser, cut in zip(browsers, cuts, strict=True):
            browser.send((whole * 2)[cut:])
            assert browser.answer().status == 503
            if cut < len(whole):
                assert browser.answer().status == 503


def test_http_comes_moves_and_goes(tmp_path: Path) -> None:
    """A reload turns HTTP on, moves it while streams go on, and turns it off."""
    conf = tmp_path / "relay.conf"
    conf.write_text("")
    first, second = unused_port(), unused_port()
    with RelayProcess(f"@{conf}") as relay, Packets(relay.ingest_port):
        conf.write_text(f"--http 127.0.0.1:{first}\n")
        reload(relay)
        wait_for(lambda: relay.events("ingest_started"), "the stream")
        with Watching(first) as viewer:
            conf.write_text(f"--http 127.0.0.1:{second}\n")
            reload(relay)
            with pytest.raises(ConnectionRefusedError):
                HttpViewer(first)
            size = len(viewer.data)
            wait_for(lambda: len(viewer.data) > size + 50_000, "the stream to go on")
            with HttpViewer(second) as browser:
                assert browser.get("/nothing").status == 404
            conf.write_text("")
            reload(relay)
            wait_for(lambda: viewer.ended, "the end of the stream")
        with pytest.raises(ConnectionRefusedError):
            HttpViewer(second)


def test_a_port_that_is_taken_leaves_http_where_it_was(tmp_path: Path) -> None:
    """A reload that cannot have the new port says so, and nobody is cut off."""
    conf = tmp_path / "relay.conf"
    first = unused_port()
    conf.write_text(f"--http 127.0.0.1:{first}\n")
    with RelayProcess(f"@{conf}") as relay, socket.create_server(("127.0.0.1", 0)) as other:
        with HttpViewer(first) as browser:
            conf.write_text(f"--http 127.0.0.1:{other.getsockname()[1]}\n")
            reload(relay)
            assert "already in use" in relay.wait_event("http_unavailable")["reason"]
            assert browser.get().status == 503
        with HttpViewer(first) as browser:
            assert browser.get().status == 503
