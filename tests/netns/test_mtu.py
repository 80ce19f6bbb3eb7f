"""A viewer behind a link with a small MTU: a tunnel, PPPoE, a mobile network.

How batches show: a run that the relay hands over whole travels as one packet until the viewer's
kernel takes it apart, so its network device counts far fewer packets than datagrams. Sent one by
one, there is a packet for each; and two for each that had to be fragmented.
"""

import pytest

from tools.lab.netns import LAN6, Host, Stage, assert_got_everything, finish, set_up

MTU = 1280
"""The least that IPv6 allows, which is why tunnels use it. 1316 bytes and headers do not fit."""

ENOUGH = 800
"""Datagrams: a second of the stream."""

WHOLE, FRAGMENTED = 0.5, 1.5
"""Packets for each datagram: at most, in batches; at least, in fragments."""


def stream_past(stage: Stage, devices: dict[Host, str]) -> tuple[int, dict[Host, float]]:
    """Stream for a while; return how much, and the packets for each datagram at these devices."""
    before = {host: host.packets_received(device) for host, device in devices.items()}
    source = stage.stream()
    stage.viewers[0].wait_received(ENOUGH)
    sent = finish(source)
    for viewer in stage.viewers:
        viewer.wait_last(sent)
    return sent, {
        host: (host.packets_received(device) - before[host]) / sent
        for host, device in devices.items()
    }


def router_to(stage: Stage, far: Host) -> tuple[Host, str, str]:
    """Put a host behind a router, by a wire with the small MTU; return it and the wire's ends."""
    router = stage.host("router")
    router.set("ipv4/ip_forward", 1)
    router.set("ipv6/conf/all/forwarding", 1)
    return router, *stage.wire(router, far, number=78, mtu=MTU)


def test_a_small_mtu_on_the_relays_link_costs_one_viewer_its_batches() -> None:
    """A viewer whose link the relay itself cannot fill gets single datagrams, and every byte."""
    with set_up() as stage:
        healthy = stage.watch(stage.host("healthy"))
        host = stage.host("narrow")
        here, there = stage.wire(stage.relay_host, host, number=78, mtu=MTU)
        narrow = stage.watch(host, here)
        sent, packets = stream_past(stage, {healthy.host: "eth0", host: "eth1"})
        assert_got_everything([healthy, narrow], sent)
        unsegmentable = stage.relay.events("path_unsegmentable")
    assert [event["destination"].split(":")[0] for event in unsegmentable] == [there]
    assert packets[healthy.host] < WHOLE
    assert packets[host] > FRAGMENTED


@pytest.mark.parametrize("options", [(), ("--no-segmentation",)], ids=["batches", "singles"])
def test_a_small_mtu_at_a_router_costs_nothing(options: tuple[str, ...]) -> None:
    """A router in between fragments what is too large for the next link; the relay never knows."""
    with set_up(*options) as stage:
        healthy = stage.watch(stage.host("healthy"))
        host = stage.host("narrow")
        router, near, there = router_to(stage, host)
        host.ip("route", "add", stage.relay_host.address, "via", near)
        stage.relay_host.ip("route", "add", there, "via", router.address)
        narrow = stage.watch(host)
        sent, packets = stream_past(stage, {healthy.host: "eth0", host: "eth1", router: "eth0"})
        assert_got_everything([healthy, narrow], sent)
        assert stage.relay.events("path_unsegmentable") == []
    if not options:
        assert packets[healthy.host] < WHOLE
        assert packets[router] < WHOLE
    assert packets[host] > FRAGMENTED


def test_ipv6_loses_only_what_teaches_the_path() -> None:
    """IPv6 routers fragment nothing: the first datagrams are lost, then the relay knows better."""
    with set_up() as stage:
        healthy = stage.watch(stage.host("healthy"), stage.relay_host.address6)
        host = stage.host("narrow")
        router, _, _ = router_to(stage, host)
        near, there = f"{LAN6}:1::1", f"{LAN6}:1::2"
        router.up("eth1", f"{near}/64")
        host.up("eth1", f"{there}/64")
        host.ip("route", "add", stage.relay_host.address6, "via", near)
        stage.relay_host.ip("route", "add", there, "via", router.address6)
        narrow = stage.watch(host, stage.relay_host.address6)
        sent, packets = stream_past(stage, {healthy.host: "eth0", host: "eth1"})
        assert_got_everything([healthy], sent)
        stats = narrow.stats()
        unsegmentable = stage.relay.events("path_unsegmentable")
    assert [event["destination"].split("]")[0] for event in unsegmentable] == [f"[{there}"]
    assert stats["received"] + stats["missing"] + stats["first"] == sent
    assert stats["first"] < 50
    assert stats["missing"] == stats["damaged"] == stats["disordered"] == 0
    assert packets[healthy.host] < WHOLE
    assert packets[host] > FRAGMENTED
