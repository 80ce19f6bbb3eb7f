"""Fixed outputs (`--to`) from host to host: groups, and interfaces that come and go."""

import pytest

from tools.lab.netns import LAN, assert_got_everything, finish, set_up

ENOUGH = 1000
"""Datagrams: more than a second of the stream."""


@pytest.mark.parametrize("group", ["239.2.2.2:5004", "[ff15::2:2]:5004"])
def test_every_member_of_a_group_gets_each_datagram_once(group: str) -> None:
    """As far as it may go (ttl), through the interface that is asked for and through no other."""
    with set_up("--to", f"udp://{group}?ttl=4&iface=eth0") as stage:
        members = [
            stage.screen(stage.host(f"screen{n}"), f"rtp://@{group}?iface=eth0") for n in range(3)
        ]
        elsewhere = stage.host("elsewhere")
        stage.wire(stage.relay_host, elsewhere, number=78)
        bystander = stage.screen(elsewhere, f"udp://@{group}?iface=eth1")
        asking = stage.watch(elsewhere)
        source = stage.stream()
        members[0].wait_received(ENOUGH)
        sent = finish(source)
        assert_got_everything([*members, asking], sent)
        assert [member.do("ttls") for member in members] == [[4]] * 3
        assert bystander.stats()["received"] == 0
        assert stage.relay.stop() == 0
        counted = stage.relay.events("output_removed", fixed=True)
        assert [(each["sent"], each["unreachable"]) for each in counted] == [(sent, 0)]


def test_interfaces_and_routes_may_come_and_go() -> None:
    """Without a way the relay begins all the same, and goes on; with one the stream is there."""
    group, screen, far = "239.2.2.2:5004", f"{LAN}.4:5004", "198.51.100.7:5004"
    words = (f"udp://{group}?iface=eth0", f"udp://{screen}", f"udp://{far}")
    with set_up(*(word for each in words for word in ("--to", each))) as stage:
        relay, here = stage.relay, stage.relay_host
        assert relay.wait_event("output_unreachable")["reason"] == "Network is unreachable"
        here.ip("route", "add", "198.51.100.0/24", "dev", "eth0")
        relay.wait_event("output_added", destination=far)

        host = stage.host("screen")
        ways_in = (f"udp://@{group}?iface=eth0", f"udp://@{screen}")
        screens = [stage.screen(host, mrl) for mrl in ways_in]
        stage.start(here, "tools.lab.netns_source", "127.0.0.1", str(relay.ingest_port))
        for each in screens:
            each.wait_received(ENOUGH)
        here.ip("link", "set", "eth0", "down")
        for where in (group, screen):
            relay.wait_event("output_unreachable", destination=where)
        stage.replace_cable(here, 99)
        for where in (group, screen):
            relay.wait_event("output_reachable", destination=where)
        for each in screens:
            before = each.stats()
            after = each.wait_received(before["received"] + ENOUGH)
            assert after["missing"] == before["missing"] > 0
            assert after["damaged"] == after["disordered"] == 0
        for where in (group, screen):
            assert len(relay.events("output_unreachable", destination=where)) == 1
