"""`/live.mp4` of a real relay: what its viewers hold is given back when they go."""

import sys
from contextlib import ExitStack

from relaylib.web.mp4 import MOST_PAST
from tools.lab.process import Program, wait_for
from tools.lab.relay import Relay
from tools.lab.web import Browser, http_port, request


def status(port: int, target: str) -> int:
    """Ask, and go."""
    with Browser(port) as browser:
        browser.send(request(target))
        return browser.head()[0]


def test_a_viewer_in_the_past_that_goes_makes_room() -> None:
    """Only some have the stream remuxed for themselves; those of the present are not counted."""
    with Relay("--http", "127.0.0.1:0") as relay, ExitStack() as stack:
        words = (sys.executable, "tools/fake_vlc.py", "--loop", "127.0.0.1", str(relay.ingest_port))
        stack.enter_context(Program(*words))
        port = http_port(relay)
        wait_for(lambda: status(port, "/live.mp4") == 200, "codecs")
        watching = [stack.enter_context(Browser(port)) for _ in range(MOST_PAST)]
        for browser in watching:
            browser.send(request("/live.mp4?back=60"))
            assert browser.head()[0] == 200
        assert status(port, "/live.mp4?back=60") == 503
        assert status(port, "/live.mp4") == 200
        watching[0].sock.close()
        wait_for(lambda: status(port, "/live.mp4?back=60") == 200, "room")
        assert not relay.events("bug")
