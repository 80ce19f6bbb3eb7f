"""The web of a relay as browsers, players and others meet it: over sockets."""

import contextlib
import re
import socket
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.lab.altered import Altered
from tools.lab.process import ChildProcess, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import descriptors
from tools.lab.sockets import source
from tools.lab.web import Answer, HttpViewer, Packets, Watching, http_port, numbers, request

WEB = ("--http", "127.0.0.1:0")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The HTTP port of a relay that the tests share, which has no source."""
    with RelayProcess(*WEB, "--http-host", "tv.example") as relay:
        yield http_port(relay)
        assert not relay.events("bug")


@pytest.fixture
def browser(port: int) -> Iterator[HttpViewer]:
    """A connection."""
    with HttpViewer(port) as it:
        yield it


# --- requests and responses


def test_a_connection_is_used_again(browser: HttpViewer) -> None:
    """One connection carries many requests, HEAD among them, which gets no body."""
    for method in ("GET", "HEAD", "GET"):
        status, headers, body = browser.get(method=method)
        assert (status, headers["content-length"]) == (503, "8")
        assert body == (b"" if method == "HEAD" else b"silence\n")
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "connection" not in headers


def test_pipelined_requests_are_answered_in_order(browser: HttpViewer) -> None:
    """A hundred requests at once get a hundred responses in their order."""
    browser.send(b"".join(request("/healthz" if n % 3 else f"/n{n}") for n in range(100)))
    assert [browser.answer().status for _ in range(100)] == [
        503 if n % 3 else 404 for n in range(100)
    ]


def test_who_has_said_all_is_answered(browser: HttpViewer) -> None:
    """A client that shuts its side down gets all responses, then the end."""
    browser.send(request() * 3)
    browser.sock.shutdown(socket.SHUT_WR)
    assert [browser.answer().status for _ in range(3)] == [503] * 3
    assert browser.at_end()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request("/nothing"), 404),
        (request("/live.ts/"), 404),
        (request(method="POST", Content_Length="0"), 405),
        (request(method="OPTIONS"), 405),
        (request(version="1.0"), 503),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 503),
        (request(Connection="close"), 503),
        (request(Host="tv.example"), 503),
        (request(Host="[::1]:80"), 503),
        (request(Host="evil.example"), 421),
        (request("http://localhost/healthz"), 400),
        (request("/../healthz"), 400),
        (request("/%2e%2e/healthz"), 400),
        (request("/live.ts?back=x"), 400),
        (request("/" + "a" * 3000), 414),
        (b"GET /" + b"a" * 9000, 414),
        (request(X="y" * 14000), 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2000, 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (request()[:-2] + b"Host: localhost\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (request(Content_Length="5", Transfer_Encoding="chunked") + b"0\r\n\r\n", 400),
        (request(Content_Length="5") + b"hello", 413),
        (request(method="POST", Content_Length="5") + b"hello", 405),
        (request(Transfer_Encoding="chunked") + b"0\r\n\r\n", 413),
        (request(Content_Length="-5"), 400),
        (request(Content_Length="1, 2"), 400),
        (b" GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n", 503),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", 400),
    ],
)  # fmt: skip
def test_each_fault_has_its_status(browser: HttpViewer, sent: bytes, status: int) -> None:
    """What is wrong is told by the right status and a sentence, and every header is strict."""
    browser.send(sent)
    got = browser.answer()
    assert got.status == status
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["referrer-policy"] == "no-referrer"
    assert got.body.endswith(b"\n")
    assert got.body.isascii()
    if status == 405:
        assert got.headers["allow"] == "GET, HEAD"
    if status == 503:
        assert got.headers["retry-after"]


@pytest.mark.parametrize(
    "smuggled",
    [
        request(method="POST", Content_Length=str(len(request()))) + request(),
        request(Content_Length="5", Transfer_Encoding="chunked") + b"0\r\n\r\n" + request(),
    ],
)
def test_a_body_is_not_taken_for_a_request(browser: HttpViewer, smuggled: bytes) -> None:
    """After a request with a body there is one response, and the end of the connection."""
    browser.send(smuggled)
    assert browser.answer().headers["connection"] == "close"
    assert browser.at_end()


PIECES = st.sampled_from(
    [b"GET ", b"/healthz", b"/live.ts", b"/..", b" HTTP/1.1", b"\r\n", b"\n", b"Host: localhost",
     b": ", b"Content-Length: 9", b"Transfer-Encoding: chunked", b"Connection: close", b"\0", b"%"]
) | st.binary(max_size=30)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(PIECES, max_size=12).map(b"".join), st.integers(1, 50))
def test_whatever_is_sent_is_answered_or_ended(port: int, data: bytes, size: int) -> None:
    """Any bytes, in any pieces, get responses of HTTP and the end; the next one is served."""
    with HttpViewer(port) as browser:
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(data), size):
                browser.send(data[at : at + size])
            browser.sock.shutdown(socket.SHUT_WR)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while more := browser.sock.recv(65536):
                got += more
        assert got == b"" or got.startswith(b"HTTP/1.1 ")
    with HttpViewer(port) as browser:
        assert browser.get().status == 503


# --- time and number


@pytest.fixture
def hasty_relay(tmp_path: Path) -> Iterator[RelayProcess]:
    """A relay whose patience is short."""
    hasty = (
        "from relaylib.web import connection, server\n"
        "connection.HEAD_TIME = connection.IDLE_TIME = 0.3; server.SWEEP = 0.05"
    )
    with RelayProcess(
        *WEB, "--max-http-clients", "5", prefix=Altered(tmp_path, hasty).prefix
    ) as program:
        yield program


def test_slow_requests_have_their_time(hasty_relay: RelayProcess) -> None:
    """A head that does not end gets 408; who asks nothing, or nothing more, is closed."""
    port, before = http_port(hasty_relay), descriptors(hasty_relay)
    with HttpViewer(port) as slow, HttpViewer(port) as silent, HttpViewer(port) as idle:
        slow.send(request()[:-3])
        assert idle.get().status == 503
        assert slow.answer().status == 408
        assert slow.at_end()
        assert silent.at_end()
        assert idle.at_end()
    wait_for(lambda: descriptors(hasty_relay) == before, "descriptors to be closed")


def test_who_waits_gives_way() -> None:
    """With all places taken the one that waits for longest goes; if all are watching, 503."""
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(RelayProcess(*WEB, "--max-http-clients", "2"))
        port = http_port(relay)
        first, second = (stack.enter_context(HttpViewer(port)) for _ in range(2))
        assert [first.get().status, second.get().status] == [503, 503]
        with HttpViewer(port) as third:
            assert third.get().status == 503
            assert first.at_end()
            assert second.get().status == 503
        second.sock.close()
        packets = stack.enter_context(Packets(relay.ingest_port))
        wait_for(lambda: packets.sent > 50, "the stream")
        watching = [stack.enter_context(Watching(port)) for _ in range(2)]
        with HttpViewer(port) as late:
            status, headers, body = late.answer()
            assert (status, body) == (503, b"relay lleno (2 conexiones)\n")
            assert headers["retry-after"]
        assert not any(viewer.ended for viewer in watching)
        relay.wait_event("http_declined", reason="full")


def test_each_address_has_its_limit() -> None:
    """A trusted proxy is no limit for those behind it; each of them has its own."""
    words = ("--max-http-clients-per-ip", "2", "--trusted-proxy", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(RelayProcess(*WEB, *words))
        packets = stack.enter_context(Packets(relay.ingest_port))
        wait_for(lambda: packets.sent > 50, "the stream")

        def watch(client: str) -> Answer | None:
            browser = stack.enter_context(HttpViewer(http_port(relay)))
            browser.send(request("/live.ts", X_Forwarded_For=f"6.6.6.6, {client}"))
            status, headers = browser.head()
            return Answer(status, headers, b"") if status != 200 else None

        assert [watch("203.0.113.1"), watch("203.0.113.1"), watch("203.0.113.2")] == [None] * 3
        refused = watch("203.0.113.1")
        assert refused is not None
        assert refused.status == 503
        relay.wait_event("http_declined", reason="per_ip", client="203.0.113.1:0")


def test_streams_by_http_count_for_the_way_out() -> None:
    """With --max-egress who comes too late is told to come again, and who watches stays."""
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(RelayProcess(*WEB, "--max-egress", "64k"))
        packets = stack.enter_context(Packets(relay.ingest_port))
        wait_for(lambda: packets.sent > 50, "the stream")
        first = stack.enter_context(Watching(http_port(relay)))

        def ask(target: str = "/live.ts", method: str = "GET") -> tuple[int, dict[str, str]]:
            with HttpViewer(http_port(relay)) as browser:
                browser.send(request(target, method))
                return browser.head()

        wait_for(lambda: ask()[0] == 503, "the rate to be known")
        assert "retry-after" in ask()[1]
        assert ask(method="HEAD")[0] == ask("/events")[0] == 200
        with HttpViewer(http_port(relay)) as late:
            sentence = late.get("/live.ts").body.decode()
        assert re.match(r"salida llena: se envian [1-9].* de 0.1 Mb/s", sentence)
        assert not first.ended
        relay.wait_event("http_declined", reason="egress")


def test_a_busy_port_is_one_line() -> None:
    """A port that is taken ends the program with status 1 and a sentence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with ChildProcess(sys.executable, "relay.py", "127.0.0.1", "0", "--http", where) as program:
            assert program.wait() == 1
            [line] = program.stderr
            assert "already in use" in line
            assert where in line


# --- the stream


def test_the_stream_by_http() -> None:
    """It has no length and ends with its connection; HTTP/1.0 and HEAD are served, too."""
    with (
        RelayProcess(*WEB, "--cors", "https://example.org") as relay,
        Packets(relay.ingest_port) as packets,
    ):
        wait_for(lambda: packets.sent > 500, "the stream")
        http = http_port(relay)
        with Watching(http) as viewer, Watching(http, "/live.ts?back=0.5") as past:
            wait_for(lambda: len(viewer.data) > 300_000 < len(past.data), "the stream")
        assert viewer.headers["content-type"] == "video/mp2t"
        assert viewer.headers["connection"] == "close"
        assert "content-length" not in viewer.headers
        assert "transfer-encoding" not in viewer.headers
        got = list(numbers(bytes(viewer.data)))
        assert all(after - before == 1 for before, after in pairwise(got))
        assert next(numbers(bytes(past.data))) < got[0]
        relay.wait_event("http_client_gone", count=2, skipped=0)
        with HttpViewer(http) as browser:
            status, headers, _ = browser.get("/live.ts", "HEAD", Origin="https://example.org")
            assert (status, headers["access-control-allow-origin"]) == (200, "https://example.org")
            assert browser.at_end()
        with HttpViewer(http) as browser:
            browser.send(b"GET /live.ts HTTP/1.0\r\n\r\n")
            assert browser.head()[0] == 200
            assert len(browser.read(50_000)) == 50_000
        with HttpViewer(http) as browser:
            assert browser.get("/healthz")[::2] == (200, b"healthy\n")


def test_an_opaque_stream_is_not_to_be_had() -> None:
    """What is no transport stream is refused in a sentence."""
    with RelayProcess(*WEB) as relay, source(relay.ingest_port) as encoder:
        for _ in range(20):
            encoder.send(b"opaque")
        relay.wait_event("ingest_started")
        with HttpViewer(http_port(relay)) as browser:
            status, _, body = browser.get("/live.ts")
            assert status == 503
            assert b"MPEG-TS" in body
