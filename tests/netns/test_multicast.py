"""The stream comes from a multicast group: over a switch, with what the kernel lists as joined."""

import contextlib
import ipaddress
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relaylib.net.mrl import parse
from tools.lab.netns import Host, NetnsViewers, Stage, finish, set_up
from tools.lab.process import ChildProcess, need, wait_for

PORT = "5004"

RELAY, SOURCE, RELAY6, SOURCE6 = "10.77.0.2", "10.77.0.3", "fd77::2", "fd77::3"
"""Addresses of the hosts that `Stage` makes first and second, behind the switch."""

OTHER_GROUP, OTHER_GROUP6 = "239.9.9.9", "ff15::9"

ENOUGH = 100
"""Datagrams: those of 0.1 s."""


def listed(host: Host, group: str) -> bool:
    """Whether a host is a member of a group, as its kernel lists it."""
    packed = ipaddress.ip_address(group).packed
    if len(packed) == 16:
        return packed.hex() in host.exec("cat", "/proc/net/igmp6")
    return packed[::-1].hex().upper() in host.exec("cat", "/proc/net/igmp")


def lead_out(host: Host) -> None:
    """Give a host a default route, which groups need to be sent to."""
    host.ip("route", "add", "default", "dev", "eth0")
    host.ip("-6", "route", "add", "default", "dev", "eth0")


def send_to(stage: Stage, host: Host, group: str, port: str = PORT) -> ChildProcess:
    """Start a source."""
    return stage.start(host, "tools.lab.netns_source", group, port)


def wait_until_received(host: Host, group: str, file: Path) -> None:
    """Wait until a program on a host has joined a group, at the relay's port, and receives it."""
    words = (sys.executable, "tools/capture.py", PORT, str(file), "--group", group)
    host.exec(*words, "--host", "eth0", "--count", str(ENOUGH))


@contextlib.contextmanager
def member(*options: str) -> Iterator[tuple[Stage, NetnsViewers]]:
    """A relay, and a viewer on its own host, which needs no network."""
    with set_up(*options) as stage:
        lead_out(stage.source_host)
        yield stage, stage.watch(stage.relay_host, "127.0.0.1")


@pytest.mark.parametrize(
    "mrl",
    [
        f"udp://@239.1.1.1:{PORT}?iface=eth0",
        f"udp://@239.1.1.1:{PORT}?iface={RELAY}",
        f"rtp://{SOURCE}@232.1.1.1:{PORT}?iface=eth0",
        f"udp://@[ff15::1]:{PORT}?iface={RELAY6}",
        f"udp://@[ff02::7777%eth0]:{PORT}",
        f"rtp://[{SOURCE6}]@[ff35::1]:{PORT}?iface=eth0",
    ],
)
def test_a_group_gets_in_and_nothing_else(mrl: str, tmp_path: Path) -> None:
    """The group's stream arrives whole; another group, at a port where its datagrams are wanted by
    another program, does not, nor does what is sent to the host, nor another source of a group that
    is one source's. The membership is there, and ends with the relay.
    """
    where = parse(mrl)
    with member("--ingest", mrl) as (stage, viewer):
        assert listed(stage.relay_host, where.host)
        stranger = stage.host("stranger")
        lead_out(stranger)
        groups = [OTHER_GROUP6 if ":" in where.host else OTHER_GROUP]
        groups += [where.host] if where.source else []
        for group in groups:
            flood = send_to(stage, stranger, group)
            wait_until_received(stage.relay_host, group, tmp_path / "unused.pcap")
            assert finish(flood) >= ENOUGH
        stage.peer(stranger).do("connect", 1)
        stage.peer(stranger).do("datagram", int(PORT), "stray", ENOUGH)
        zone = "%eth0" if where.host.startswith("ff02") else ""
        source = send_to(stage, stage.source_host, where.host + zone)
        viewer.wait_received(ENOUGH)
        sent = finish(source)
        assert viewer.wait_last(sent)["received"] == sent
        assert stage.relay.stop() == 0
        assert not listed(stage.relay_host, where.host)
    stopped = stage.relay.wait_event("stopped")
    assert (stopped["received"], stopped["rejected"]) == (sent, 0)


@pytest.mark.parametrize("group", [OTHER_GROUP, OTHER_GROUP6])
def test_an_ordinary_ingest_hears_no_group(group: str, tmp_path: Path) -> None:
    """What is sent to a group at the relay's port does not get in, though another program of the
    machine has joined that group.
    """
    with member() as (stage, viewer):
        host, port = stage.relay_host, str(stage.relay.ingest_port)
        words = ("tools/capture.py", "7777", str(tmp_path / "unused.pcap"), "--group", group)
        stage.stack.enter_context(
            ChildProcess(*host.prefix, sys.executable, *words, "--host", "eth0")
        )
        wait_for(lambda: listed(host, group), "the other program to join")
        before = host.packets_received()
        flood = send_to(stage, stage.source_host, group, port)
        wait_for(lambda: host.packets_received() >= before + ENOUGH, "the group to come in")
        finish(flood)
        source = stage.stream()
        viewer.wait_received(ENOUGH)
        sent = finish(source)
        assert viewer.wait_last(sent)["received"] == sent
        assert stage.relay.stop() == 0
    stopped = stage.relay.wait_event("stopped")
    assert (stopped["received"], stopped["rejected"]) == (sent, 0)


@pytest.mark.parametrize(
    "mrl",
    [
        f"udp://@239.1.1.1:{PORT}?iface=eth0",
        f"udp://{SOURCE}@232.1.1.1:{PORT}?iface={RELAY}",
        f"udp://@[ff02::7777%eth0]:{PORT}",
    ],
)
def test_an_interface_that_comes_back_is_joined_again(mrl: str) -> None:
    """Down and up, the kernel keeps the membership; deleted and created again, the relay joins the
    new interface. It says what is wrong each time, and a reload changes nothing of that.
    """
    where = parse(mrl)
    with member("--ingest", mrl) as (stage, viewer):
        host, relay = stage.relay_host, stage.relay
        zone = "%eth0" if where.host.startswith("ff02") else ""
        send_to(stage, stage.source_host, where.host + zone)
        viewer.wait_received(ENOUGH)

        host.ip("link", "set", "eth0", "down")
        assert relay.wait_event("ingest_silent")["remedy"] == "interface eth0 is down"
        host.ip("link", "set", "eth0", "up")
        viewer.wait_received(viewer.stats()["received"] + ENOUGH)
        assert not relay.events("group_lost")
        assert listed(host, where.host)

        relay.process.send_signal(signal.SIGHUP)
        relay.wait_event("reloaded")
        host.ip("link", "delete", "eth0")
        relay.wait_event("group_lost")
        assert relay.wait_event("ingest_silent", 2)["remedy"].startswith("the interface is gone")
        stage.add_cable(host)
        assert relay.wait_event("group_joined")["interface"] == "eth0"
        viewer.wait_received(viewer.stats()["received"] + ENOUGH)
        assert listed(host, where.host)
        assert len(relay.events("group_lost")) == 1

        assert relay.stop() == 0
        assert not listed(host, where.host)


def test_the_system_chooses_the_interface_that_leads_there() -> None:
    """Without ?iface the group is joined where the system would send to it; where nothing leads,
    the relay does not start and says what to do.
    """
    words = (sys.executable, "relay.py", "--ingest", f"udp://@239.1.1.1:{PORT}")
    with set_up() as stage:
        host = stage.relay_host
        failing = stage.stack.enter_context(ChildProcess(*host.prefix, *words))
        assert failing.wait() == 1
        assert len(failing.stderr) == 1
        assert "no interface leads there, ?iface=NAME chooses one" in failing.stderr[0]
        lead_out(host)
        relay = stage.stack.enter_context(ChildProcess(*host.prefix, *words))
        wait_for(lambda: listed(host, "239.1.1.1"), "the membership")
        assert relay.stop() == 0


def test_a_switch_that_has_forgotten_the_group_learns_of_it_again() -> None:
    """A switch that snoops on IGMP and forgets who wants the group stops the stream. The log says
    what the switch lacks, and the relay's next report brings the stream back.
    """
    with member("--ingest", f"udp://@239.1.1.1:{PORT}?iface=eth0") as (stage, viewer):
        # The querier is what makes a Linux bridge snoop; it asks too seldom to play a part here.
        for words in (
            ("mcast_query_response_interval", "10", "mcast_query_interval", "100000",
             "mcast_membership_interval", "100000", "mcast_startup_query_interval", "100000"),
            ("mcast_querier", "1"),
        ):  # fmt: skip
            stage.switch.ip("link", "set", "lan", "type", "bridge", *words)
        send_to(stage, stage.source_host, "239.1.1.1")
        viewer.wait_received(ENOUGH)
        wait_for(lambda: "239.1.1.1" in stage.switch.exec("bridge", "mdb", "show"), "the switch")
        forget = ("bridge", "mdb", "del", "dev", "lan", "port", "relay", "grp", "239.1.1.1")
        stage.switch.exec(*forget)
        assert "enable an IGMP querier" in stage.relay.wait_event("ingest_silent")["remedy"]
        stage.relay.wait_event("ingest_resumed")
        viewer.wait_received(viewer.stats()["received"] + ENOUGH)
        assert "239.1.1.1" in stage.switch.exec("bridge", "mdb", "show")


@pytest.mark.parametrize(
    ("mrl", "destination"),
    [
        (f"udp://{SOURCE}@232.1.1.1:{PORT}?iface=eth0", f"232.1.1.1:{PORT}"),
        (f"udp://@[ff15::1]:{PORT}?iface=eth0", f"[ff15::1]:{PORT}"),
    ],
)
def test_ffmpeg_to_a_group(mrl: str, destination: str) -> None:
    """An encoder sends to a group; a viewer of the relay, and probe in the group itself, both see a
    stream from which nothing is missing.
    """
    need("ffmpeg")

    def probe(where: str) -> ChildProcess:
        words = ("tools/probe.py", where, "--json")
        return stack.enter_context(ChildProcess(*host.prefix, sys.executable, *words))

    with contextlib.ExitStack() as stack:
        stage = Stage(stack, "--ingest", mrl)
        host = stage.relay_host
        lead_out(stage.source_host)
        viewer = stage.connect(host, "127.0.0.1")
        assert viewer.command("CONECTAR 6000") == "OK"
        probes = [probe("6000"), probe(mrl)]
        for each in probes:
            wait_for(lambda each=each: each.stderr, "probe to listen")  # type: ignore[misc]
        encode = ("-re", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-c:v", "mpeg2video")
        url = f"udp://{destination}?pkt_size=1316&ttl=2"
        words = ("ffmpeg", "-nostdin", "-v", "error", *encode, "-f", "mpegts", url)
        stack.enter_context(ChildProcess(*stage.source_host.prefix, *words))
        wait_for(lambda: viewer.count("enviados") >= ENOUGH, "the encoder's stream")
        reports: list[dict[str, Any]] = []
        for each in probes:
            each.stop(signal.SIGINT)
            reports.append(json.loads("".join(each.stdout)))
    for report in reports:
        assert report["form"] == "ts"
        assert report["datagrams"] > ENOUGH / 2  # the last ones may not have been read yet
        assert report["ts"]["tr_101_290"]["Continuity_count_error"] == 0
        assert report["ts"]["programs"][0]["streams"][0]["codec"].startswith("MPEG-2")
