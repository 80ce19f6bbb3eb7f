"""Edges under attack, as `contrib` has them: whatever is asked, the relay is asked once for a name.

Each spelling, method and header here is one that a cache may tell from the usual request, and the
relay not, or the other way round.
"""

import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tools.hls_viewers import watch
from tools.lab.edge import Edge, Varnish
from tools.lab.media import studio
from tools.lab.process import ChildProcess, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.tap import HttpTap
from tools.lab.web import HttpViewer, http_port, request

pytestmark = pytest.mark.long

Kind = Callable[[Path, int], Edge | Varnish]

EDGES = [Edge, Varnish]

FAKE_VLC = (sys.executable, "tools/fake_vlc.py", "--loop", "127.0.0.1")


class Setting(NamedTuple):
    """An edge before a relay, and what it asks."""

    edge: Edge | Varnish
    tap: HttpTap
    relay: int

    def segments(self) -> list[str]:
        """The segments that there are now, as the relay itself tells."""
        with HttpViewer(self.relay) as browser:
            text = browser.get("/live.m3u8").body.decode()
        return [f"/{name}" for name in re.findall(r"^hls/\S+", text, re.MULTILINE)]


@contextmanager
def setting(kind: Kind) -> Iterator[Setting]:
    """Have an edge with a stream."""
    with studio() as room, ExitStack() as stack:
        relay = stack.enter_context(RelayProcess("--http", "127.0.0.1:0"))
        stack.enter_context(ChildProcess(*FAKE_VLC, str(relay.ingest_port)))
        tap = stack.enter_context(HttpTap(http_port(relay)))
        edge = kind(room, tap.port)
        stack.enter_context(edge)
        found = Setting(edge, tap, http_port(relay))
        with HttpViewer(found.relay) as browser:
            wait_for(lambda: browser.get("/live.m3u8").status == 200, "a segment")
        wait_for(lambda: len(found.segments()) >= 4, "some segments")
        yield found
        assert not relay.events("bug")


def spellings(path: str) -> Iterator[str]:
    """Write a path in other ways, which mean the same to somebody, or nothing at all."""
    last = path[-1]
    yield from (path + end for end in (
        "?", "?x", "?x=1", "?a=%zz", "?&&", "?_=%00", "??", "#x", "%23", "%3f", "%3Fx", "/", "//",
        ";x", ".", "%00", "%0a", "%0d%0aX:%20y", "%20", "%2e", "\\", "?" + "x" * 1500,
        "?" + "&".join("x" * 50),
    ))  # fmt: skip
    yield f"{path[:-1]}%{ord(last):02x}"
    yield f"{path[:-1]}%{ord(last):02X}"
    yield f"{path[:-1]}%25{ord(last):02x}"
    yield path.upper()
    yield f"/{path}"
    yield f"/.{path}"
    yield f"/x/..{path}"
    yield f"/%2e%2e{path}"
    yield f"/hls/../{path}"
    yield f"http://localhost{path}"
    yield f"http://tv.example:9{path}?x"
    yield path.replace("/", "%2f")
    yield path.replace("/", "\\")


HEADERS: list[dict[str, str]] = [
    {"Range": "bytes=0-0"},
    {"Range": "bytes=9-1"},
    {"Origin": "https://other.example"},
    {"Host": "other.example"},
    {"Host": "a b"},
    {"Cookie": "a=b"},
    {"Authorization": "Basic eA=="},
    {"Cache_Control": "no-cache, no-store, max-age=0"},
    {"Pragma": "no-cache"},
    {"If_None_Match": "*"},
    {"If_None_Match": '"x"'},
    {"If_Modified_Since": "Sun, 06 Nov 2044 08:49:37 GMT"},
    {"Accept_Encoding": "br, gzip;q=0"},
    {"X_Forwarded_For": "192.0.2.1"},
    {"X_HTTP_Method_Override": "DELETE"},
    {"Connection": "close, Host, X-Accel-Buffering"},
    {"Expect": "100-continue"},
    {"Upgrade": "websocket", "Connection": "upgrade"},
    {"TE": "trailers"},
    {"Content_Length": "0"},
    {"Content_Length": "1"},
    {"Content_Length": "x"},
    {"Transfer_Encoding": "chunked"},
    {"Transfer_Encoding": "chunked", "Content_Length": "5"},
    {"X": "x" * 3000},
    {"X": "x" * 7900},
    {"X": "x" * 12000},
    {"X": "\x7f\xff"},
    {f"X{number}": "y" for number in range(90)},
]

METHODS = ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PURGE", "BAN", "get", "CONNECT"]


def odd_requests(path: str) -> Iterator[bytes]:
    """Ask for a path in every odd way."""
    yield from (request(each) for each in spellings(path))
    yield from (request(path, **each) for each in HEADERS)
    yield from (request(path, method) for method in METHODS)
    yield from (request(path, method, Content_Length="1") + b"x" for method in METHODS)
    yield request(path, version="1.0")
    yield f"GET {path} HTTP/1.0\r\n\r\n".encode()
    yield f"GET {path}\r\n\r\n".encode()
    yield f"GET\t{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def ask(port: int, data: bytes) -> None:
    """Ask, and wait until the answer begins, or for a moment; whatever it is."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(0.5)
        sock.sendall(data)
        sock.recv(100)


@pytest.mark.parametrize("kind", EDGES)
def test_odd_requests_ask_the_relay_once_for_a_name(kind: Kind) -> None:
    """A segment is asked for once, by its name, however it is spelled; who asks plainly gets it."""
    with setting(kind) as at:
        name = at.segments()[-1]
        for data in odd_requests(name):
            ask(at.edge.port, data)
        with HttpViewer(at.edge.port) as browser, HttpViewer(at.relay) as direct:
            answer, wanted = browser.get(name), direct.get(name)
        assert (answer.status, answer.body) == (200, wanted.body)
        for header in ("content-type", "cache-control", "etag"):
            assert answer.headers[header].removeprefix("W/") == wanted.headers[header]
        assert at.tap.asked() == {f"GET {name}": 1}


@pytest.mark.parametrize("kind", EDGES)
def test_odd_requests_for_the_playlist_are_one_a_second(kind: Kind) -> None:
    """The playlist is asked for no more than once a second, by its name."""
    with setting(kind) as at:
        begun = time.monotonic()
        for data in odd_requests("/live.m3u8"):
            ask(at.edge.port, data)
        with HttpViewer(at.edge.port) as browser:
            assert browser.get("/live.m3u8").status == 200
        took = time.monotonic() - begun
        asked = at.tap.asked()
        assert set(asked) == {"GET /live.m3u8"}
        assert asked.total() <= took + 2


@pytest.mark.parametrize("kind", EDGES)
def test_what_does_not_exist_is_asked_for_once_a_second(kind: Kind) -> None:
    """A hundred who ask for a segment that is not there are one; so is a missing playlist."""
    with setting(kind) as at:
        name = at.segments()[-1].rpartition("/")[0] + "/999999.ts"
        begun = time.monotonic()
        with ExitStack() as stack:
            browsers = [stack.enter_context(HttpViewer(at.edge.port)) for _ in range(100)]
            for number, browser in enumerate(browsers):
                browser.send(request(f"{name}?{number}"))
            assert {browser.answer().status for browser in browsers} == {404}
        for data in odd_requests(name):
            ask(at.edge.port, data)
        took = time.monotonic() - begun
        asked = at.tap.asked()
        assert set(asked) == {f"GET {name}"}
        assert asked.total() <= took + 2


@pytest.mark.parametrize("kind", EDGES)
def test_who_reads_nothing_holds_up_nobody(kind: Kind) -> None:
    """Who asks first for a segment, and leaves or does not read, is no reason to wait."""
    with setting(kind) as at:
        first, second = at.segments()[-2:]
        with (
            HttpViewer(at.edge.port, receive_buffer=1) as stuck,
            HttpViewer(at.edge.port) as browser,
        ):
            stuck.send(request(first))
            assert browser.get(first).status == 200
            with HttpViewer(at.edge.port) as leaving:
                leaving.send(request(second))
            assert browser.get(second).status == 200
        asked = at.tap.asked()
        assert asked[f"GET {first}"] == asked[f"GET {second}"] == 1


@pytest.mark.parametrize("kind", EDGES)
def test_healthy_viewers_notice_nothing(kind: Kind) -> None:
    """While somebody asks for the segments in odd ways, those who watch get all of them."""
    with setting(kind) as at, ExitStack() as stack:
        port = at.edge.port
        flood = [data for name in (*at.segments(), "/live.m3u8") for data in odd_requests(name)]
        sock = [stack.enter_context(HttpViewer(port)) for _ in range(50)]
        for browser, data in zip(sock, flood, strict=False):
            browser.send(data)
        tally = watch(("127.0.0.1", port), 20, 4.0)
        assert not tally.failures
        assert tally.fetched.total() >= 20
        names = {each for each in at.tap.asked() if "/hls/" in each}
        assert all(at.tap.asked()[each] == 1 for each in names)
