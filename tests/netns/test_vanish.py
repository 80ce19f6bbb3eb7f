"""Viewers that vanish from the network without a word."""

import time
from collections.abc import Callable

from tools.lab.netns import NetnsViewers, Stage, assert_got_everything, finish, set_up

GONE_WITHIN = 15.0
"""Seconds of silence after which a vanished viewer has been found out."""

ENOUGH = 800
"""Datagrams: a second of the stream."""


def lose_address(stage: Stage, viewer: NetnsViewers) -> None:
    """The host is there, its address is not: nobody answers ARP."""
    viewer.host.ip("address", "flush", "dev", "eth0")


def switch_off(stage: Stage, viewer: NetnsViewers) -> None:
    """The host's network device goes down."""
    viewer.host.ip("link", "set", "eth0", "down")


def pull_plug(stage: Stage, viewer: NetnsViewers) -> None:
    """The switch no longer knows the cable."""
    stage.switch.ip("link", "set", viewer.host.name, "nomaster")


WAYS: tuple[Callable[[Stage, NetnsViewers], None], ...] = (lose_address, switch_off, pull_plug)


def test_vanished_viewers_are_found_out_and_hurt_nobody() -> None:
    """Of six viewers three vanish; they are gone within 15 s, and the others lose nothing."""
    with set_up() as stage:
        viewers = [stage.watch(stage.host(f"viewer{n}")) for n in range(6)]
        healthy, doomed = viewers[:3], viewers[3:]
        source = stage.stream()
        for viewer in viewers:
            viewer.wait_received(ENOUGH)
        vanished = time.monotonic()
        for way, viewer in zip(WAYS, doomed, strict=True):
            assert viewer.count("perdidos") == 0  # the relay has just heard of it
            way(stage, viewer)
        stage.relay.wait_event("client_gone", count=3)
        found_out = time.monotonic() - vanished
        gone = stage.relay.events("client_gone")
        so_far = healthy[0].stats()["received"]
        healthy[0].wait_received(so_far + ENOUGH)
        sent = finish(source)
        assert_got_everything(healthy, sent)
        delay = max(viewer.stats()["worst_delay"] for viewer in healthy)
    print(f"gone after {found_out:.2f} s; {sent} datagrams, worst delay {delay * 1000:.1f} ms")
    assert found_out < GONE_WITHIN
    assert {event["reason"] for event in gone} == {"vanished"}
    assert {event["client"].split(":")[0] for event in gone} == {
        viewer.host.address for viewer in doomed
    }
