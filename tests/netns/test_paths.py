"""One viewer's path is bad, or its player is late; the others must not notice."""

import pytest

from tools.lab.netns import assert_got_everything, finish, set_up
from tools.lab.process import wait_for

DELAY_MS, LOSS = 1000, 0.1

ENOUGH = 2000
"""Datagrams: 2.5 s of the stream. Of so many a loss of 10 % is 7 to 13 %."""

ALL_LOST = 50
"""So many datagrams in a row are never all lost."""

SLOW_LINK_QUEUES = 1.0
"""Seconds that a datagram waits at the slow link, at least, once that has filled up."""

OPEN_WITHIN = 1.0
"""Seconds from the opening of a player to its first datagram. It is 0.3 s, plus what a loaded
machine takes to run seven processes."""


def test_delay_and_loss_on_one_path_stay_there() -> None:
    """A viewer far away gets what its path lets through; the others get everything, in time."""
    with set_up() as stage:
        healthy = [stage.watch(stage.host(f"viewer{n}")) for n in range(3)]
        host, impair = stage.far_host("far")
        far = stage.watch(host)
        impair(DELAY_MS, LOSS)  # of the stream: what TCP makes of it is not the question
        source = stage.stream()
        healthy[0].wait_received(ENOUGH)
        sent = finish(source)
        assert_got_everything(healthy, sent)
        stats = wait_for(
            lambda: (found := far.stats())["last"] > sent - ALL_LOST and found, "what is on its way"
        )
        impair(0, 0)
        assert far.count("perdidos") == 0
        delays = [viewer.stats()["worst_delay"] for viewer in healthy]
    print(f"far: {stats}; worst delay of the others {max(delays) * 1000:.1f} ms")
    assert stats["damaged"] == 0
    assert LOSS / 2 < stats["missing"] / sent < LOSS * 2
    assert stats["worst_delay"] > DELAY_MS / 1000 > max(delays)


def test_a_slow_link_drops_for_its_viewer_alone() -> None:
    """What a link cannot carry is dropped, and counted, for its viewer; the others never wait."""
    with set_up() as stage:
        healthy = [stage.watch(stage.host(f"viewer{n}")) for n in range(3)]
        host = stage.host("slow")
        here, _ = stage.wire(stage.relay_host, host, number=78)
        bucket = ("rate", "4mbit", "burst", "32kb", "latency", "10s")
        stage.relay_host.exec("tc", "qdisc", "add", "dev", "eth1", "root", "tbf", *bucket)
        slow = stage.watch(host, here)
        source = stage.stream()
        wait_for(lambda: slow.count("perdidos") > ENOUGH / 4, "the link to fill up")
        sent = finish(source)
        assert_got_everything(healthy, sent)
        delivered, dropped = slow.count("enviados"), slow.count("perdidos")
        stats = slow.wait_received(delivered)  # what the link has queued
        delays = [viewer.stats()["worst_delay"] for viewer in healthy]
    print(f"slow: {stats}; worst delay of the others {max(delays) * 1000:.1f} ms")
    assert stats["received"] == delivered
    assert delivered + dropped == sent
    assert stats["damaged"] == stats["disordered"] == 0
    assert max(delays) < SLOW_LINK_QUEUES


def test_players_that_open_late_get_the_stream_at_once() -> None:
    """A viewer whose port was closed gets the stream as it opens; the others all of it."""
    with set_up() as stage:
        healthy = [stage.watch(stage.host(f"viewer{n}")) for n in range(3)]
        late = [stage.connect(stage.host(f"late{n}")) for n in range(4)]
        for viewer in late:
            viewer.subscribe()
        source = stage.stream()
        healthy[0].wait_received(ENOUGH)
        waits = []
        for viewer in late:
            assert viewer.count("perdidos") > 0
            opened = viewer.open()
            waits.append(viewer.wait_received()["first_at"] - opened)
        sent = finish(source)
        assert_got_everything(healthy, sent)
    print("the stream came after", ", ".join(f"{wait * 1000:.0f} ms" for wait in waits))
    assert max(waits) < OPEN_WITHIN


@pytest.mark.parametrize("device", ["eth0", "eth1"])
def test_a_link_local_viewer_gets_the_stream(device: str) -> None:
    """A viewer that connects by link-local address is served on the link that it came by."""
    with set_up() as stage:
        host = stage.host("viewer")
        stage.wire(stage.relay_host, host, number=78)
        viewer = stage.watch(host, f"{stage.relay_host.link_local(device)}%{device}")
        source = stage.stream()
        viewer.wait_received(100)
        assert_got_everything([viewer], finish(source))
        assert host.link_local(device) in viewer.command("ESTADO")
