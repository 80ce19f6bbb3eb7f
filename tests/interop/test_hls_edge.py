"""Stock nginx or Varnish before the relay, as in `contrib`: who watches there costs no more."""

import resource
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tools.hls_viewers import HlsTally, watch
from tools.lab.edge import Edge, Varnish
from tools.lab.media import studio
from tools.lab.process import ChildProcess, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.web import HttpViewer, http_port

FAKE_VLC = (sys.executable, "tools/fake_vlc.py", "--loop", "127.0.0.1")

SECONDS = 6.0


@contextmanager
def edges(count: int) -> Iterator[tuple[list[Edge], RelayProcess]]:
    """Have a relay with a stream, and so many edges, each behind the one before."""
    with studio() as room, ExitStack() as stack:
        relay = stack.enter_context(RelayProcess("--http", "127.0.0.1:0"))
        stack.enter_context(ChildProcess(*FAKE_VLC, str(relay.ingest_port)))
        made, origin = list[Edge](), http_port(relay)
        for _ in range(count):
            made.append(stack.enter_context(Edge(room, origin)))
            origin = made[-1].port
        with HttpViewer(http_port(relay)) as browser:
            wait_for(lambda: browser.get("/live.m3u8").status == 200, "a segment")
        yield made, relay
        assert not relay.events("bug")


def check(tally: HlsTally, asked: Counter[str]) -> None:
    """Insist that each segment was asked for once, and the playlist about once a second."""
    assert not tally.failures
    playlists = asked.pop("/live.m3u8")
    assert playlists <= SECONDS + 2
    assert set(asked.values()) <= {1}
    assert {f"/{name}" for name in tally.asked} >= set(asked)


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
        with HttpViewer(edge.port) as browser:
            uri = next(iter(tally.fetched))
            answers = [browser.get(f"/{uri}?{n}", Host=f"tv{n}.example", Cookie="n") for n in "12"]
        assert [answer.status for answer in answers] == [200, 200]
        wait_for(lambda: edge.asked()["/live.m3u8"], "the log")
        check(tally, edge.asked())
