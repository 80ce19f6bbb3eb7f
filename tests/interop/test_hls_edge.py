"""Stock nginx or Varnish before the relay, as in `contrib`: who watches there costs no more."""

import os
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tools.hls_viewers import Tally, watch
from tools.lab.media import NOBODY, studio
from tools.lab.process import ROOT, Program, need, wait_for
from tools.lab.relay import Relay
from tools.lab.sockets import unused_port
from tools.lab.web import Browser, http_port

FAKE_VLC = (sys.executable, "tools/fake_vlc.py", "--loop", "127.0.0.1")

CONF = ROOT / "contrib/nginx.conf"

VCL = ROOT / "contrib/varnish.vcl"

SECONDS = 6.0

SUBSTITUTES = {
    "server 127.0.0.1:8080;": "server 127.0.0.1:{origin};",
    "listen 8081 ": "listen 127.0.0.1:{port} ",
    "worker_processes auto;": "worker_processes 1;",
    "access_log off;": 'log_format asked "$upstream_addr $uri"; access_log asked.log asked;',
}
"""What a test needs other than it stands there: ports, and what was asked of whom."""


def answers_404(port: int) -> bool:
    """Tell whether an edge is there: it has nothing but HLS."""
    try:
        with Browser(port) as browser:
            return browser.get("/").status == 404
    except ConnectionRefusedError:
        return False


def as_nobody() -> tuple[str, ...]:
    """Return what goes before a command so that root does not run it as root."""
    drop = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    return drop if os.geteuid() == 0 else ()


class Edge:
    """An nginx of the project's configuration, as nobody, in a folder of its own."""

    def __init__(self, room: Path, origin: int) -> None:
        need("nginx", "setpriv")
        self.port, self._origin = unused_port(), origin
        self._home = room / f"edge-{self.port}"
        text = CONF.read_text()
        for before, after in SUBSTITUTES.items():
            assert before in text
            text = text.replace(before, after.format(origin=origin, port=self.port))
        for folder in (self._home, self._home / "cache", self._home / "tmp"):
            folder.mkdir()
            if os.geteuid() == 0:
                os.chown(folder, NOBODY, NOBODY)
        (self._home / "nginx.conf").write_text(text)
        words = ("nginx", "-p", self._home, "-c", self._home / "nginx.conf", "-e", "stderr")
        self.program = Program(*as_nobody(), *words)
        try:
            wait_for(lambda: answers_404(self.port), "nginx")
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Edge":
        return self

    def __exit__(self, *exc: object) -> None:
        self.program.stop()  # not killed: its children would stay
        self.program.__exit__(*exc)

    def asked(self) -> Counter[str]:
        """Return what was asked of the origin since the last time, and how often."""
        log, found = self._home / "asked.log", Counter[str]()
        for line in log.read_text().splitlines():
            whom, path = line.split()
            found[path] += whom == f"127.0.0.1:{self._origin}"
        log.write_text("")
        return +found


@contextmanager
def edges(count: int) -> Iterator[tuple[list[Edge], Relay]]:
    """Have a relay with a stream, and so many edges, each behind the one before."""
    with studio() as room, ExitStack() as stack:
        relay = stack.enter_context(Relay("--http", "127.0.0.1:0"))
        stack.enter_context(Program(*FAKE_VLC, str(relay.ingest_port)))
        made, origin = list[Edge](), http_port(relay)
        for _ in range(count):
            made.append(stack.enter_context(Edge(room, origin)))
            origin = made[-1].port
        with Browser(http_port(relay)) as browser:
            wait_for(lambda: browser.get("/live.m3u8").status == 200, "a segment")
        yield made, relay
        assert not relay.events("bug")


class Varnish:
    """A Varnish of the project's configuration, and what it asks of the relay."""

    def __init__(self, room: Path, origin: int) -> None:
        need("varnishd", "varnishncsa", "setpriv")
        self.port = unused_port()
        home, text = room / "varnish", VCL.read_text()
        assert '.port = "8080"' in text
        (room / "edge.vcl").write_text(text.replace("8080", str(origin)))
        words = ("-F", "-n", home, "-a", f"127.0.0.1:{self.port}", "-f", room / "edge.vcl")
        with ExitStack() as stack:
            program = stack.enter_context(
                Program(*as_nobody(), "varnishd", *words, "-s", "malloc,64m")
            )
            stack.callback(program.stop)  # not killed: its child would stay
            wait_for(lambda: answers_404(self.port), "Varnish")
            self._log = stack.enter_context(Program("varnishncsa", "-b", "-n", home, "-F", "%U"))
            self._stack = stack.pop_all()

    def __enter__(self) -> "Varnish":
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def asked(self) -> Counter[str]:
        """Return what was asked of the relay, and how often."""
        return Counter(line.strip() for line in self._log.stdout)


def check(tally: Tally, asked: Counter[str]) -> None:
    """Insist that each segment was asked for once, and the playlist about once a second."""
    assert not tally.failures
    playlists = asked.pop("/live.m3u8")
    assert playlists <= SECONDS + 2
    assert set(asked.values()) <= {1}
    assert {f"/{name}" for name in tally.fetched} >= set(asked)


def test_a_thousand_viewers_cost_what_one_does() -> None:
    """1, 100 and 1,000 viewers through an edge: the relay sends each segment once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    with edges(1) as ((edge,), _):
        for viewers in (1, 100, 1000):
            edge.asked()
            tally = watch(("127.0.0.1", edge.port), viewers, SECONDS)
            check(tally, edge.asked())
            assert tally.fetched.total() >= viewers


@pytest.mark.parametrize("viewers", [50])
def test_an_edge_behind_an_edge(viewers: int) -> None:
    """The relay is asked by the first, the first by the second, and nobody asks more."""
    with edges(2) as ((near, far), _):
        near.asked()
        tally = watch(("127.0.0.1", far.port), viewers, SECONDS)
        check(tally, far.asked())
        check(tally, near.asked())


def test_varnish_collapses_requests_too() -> None:
    """A hundred who ask with and without a query, for a host or another, are one for the relay."""
    with edges(0) as (_, relay), studio() as room, Varnish(room, http_port(relay)) as edge:
        tally = watch(("127.0.0.1", edge.port), 100, SECONDS)
        assert tally.fetched.total() >= 100
        with Browser(edge.port) as browser:
            uri = next(iter(tally.fetched))
            answers = [browser.get(f"/{uri}?{n}", Host=f"tv{n}.example", Cookie="n") for n in "12"]
        assert [answer.status for answer in answers] == [200, 200]
        wait_for(lambda: edge.asked()["/live.m3u8"], "the log")
        check(tally, edge.asked())
