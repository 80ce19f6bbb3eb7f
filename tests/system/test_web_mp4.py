"""`/live.mp4` of a real relay: what its viewers hold is given back when they go."""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from relaylib.web.mp4 import MOST_PAST
from tools.lab.process import ChildProcess, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.web import HttpViewer, http_port, request

SAMPLE = Path("tools/sample/sample.ts")
SIZE = 7 * 188
NULL = b"\x47\x1f\xff\x10" + bytes(184)


def status(port: int, target: str) -> int:
    """Ask, and go."""
    with HttpViewer(port) as browser:
        browser.send(request(target))
        return browser.head()[0]


@contextmanager
def source_without_codecs() -> Iterator[tuple[RelayProcess, socket.socket]]:
    """A relay, and the socket of a source that has sent nothing but stuffing so far."""
    with (
        RelayProcess("--http", "127.0.0.1:0") as relay,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
    ):
        source.connect(("127.0.0.1", relay.ingest_port))
        for _ in range(3):
            source.send(7 * NULL)
        wait_for(lambda: status(http_port(relay), "/live.ts") == 200, "the source")
        yield relay, source
        assert not relay.events("bug")


def test_who_asks_before_codecs_are_known_waits_for_them() -> None:
    """A moment later there is a picture; and what else was asked for meanwhile is in order."""
    sample = SAMPLE.read_bytes()[: 1000 * SIZE]
    with source_without_codecs() as (relay, source), HttpViewer(http_port(relay)) as browser:
        browser.send(request("/live.mp4", "HEAD"))
        assert status(http_port(relay), "/live.ts") == 200  # the request before is under way
        for at in range(0, len(sample), SIZE):
            source.send(sample[at : at + SIZE])
        code, headers = browser.head()
        assert code == 200
        assert headers["content-type"].startswith("video/mp4; codecs=")


def test_who_waits_in_vain_is_told_to_come_again() -> None:
    """Nobody waits for ever, and the connection is good for what follows."""
    with source_without_codecs() as (relay, _), HttpViewer(http_port(relay)) as browser:
        browser.send(request("/live.mp4") + request("/live.mp4?back=-1") + request("/live.mp4"))
        for expected in (503, 400, 503):
            answer = browser.answer()
            assert answer.status == expected
            assert ("retry-after" in answer.headers) == (expected == 503)


def test_a_viewer_in_the_past_that_goes_makes_room() -> None:
    """Only some have the stream remuxed for themselves; those of the present are not counted."""
    with RelayProcess("--http", "127.0.0.1:0") as relay, ExitStack() as stack:
        words = (sys.executable, "tools/fake_vlc.py", "--loop", "127.0.0.1", str(relay.ingest_port))
        stack.enter_context(ChildProcess(*words))
        port = http_port(relay)
        wait_for(lambda: status(port, "/live.mp4") == 200, "codecs")
        watching = [stack.enter_context(HttpViewer(port)) for _ in range(MOST_PAST)]
        for browser in watching:
            browser.send(request("/live.mp4?back=60"))
            assert browser.head()[0] == 200
        assert status(port, "/live.mp4?back=60") == 503
        assert status(port, "/live.mp4") == 200
        watching[0].sock.close()
        wait_for(lambda: status(port, "/live.mp4?back=60") == 200, "room")
        assert not relay.events("bug")
