"""What the doctor finds on hosts where something is wrong, each in a namespace of its own."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tools.lab.netns import Host, Network
from tools.lab.process import PATIENCE, ROOT, need

PORT = "9000"
GROUP = "239.1.1.1"


@contextlib.contextmanager
def patient() -> Iterator[Host]:
    """A host on a LAN."""
    with contextlib.ExitStack() as stack:
        yield Network(stack).host("patient")


def examine(
    host: Host, *words: str, before: tuple[str, ...] = ()
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run the doctor on a host; return its status, and its findings by name."""
    argv = (*host.prefix, *before, sys.executable, "relay.py", *words, "--doctor", "--json")
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT, check=False
    )
    assert done.stderr == ""
    return done.returncode, {each["name"]: each for each in json.loads(done.stdout)["checks"]}


def test_a_firewall_in_the_way_is_found() -> None:
    """What it drops is named, protocol and address, and so is the command that lets it in."""
    need("nft")
    with patient() as host:
        for rule in (
            "add table inet filter",
            "add chain inet filter input { type filter hook input priority 0; }",
            f"add rule inet filter input udp dport {PORT} drop",
        ):
            host.exec("nft", rule)
        status, found = examine(host, "0.0.0.0", PORT)
        assert (status, found["firewall"]["grade"]) == (1, "wrong")
        assert found["firewall"]["figures"]["blocked"] == [f"UDP {host.address}:{PORT} (lost)"]
        for command in found["firewall"]["commands"]:
            if command.startswith("nft insert"):
                host.exec(*command.split())
        status, found = examine(host, "0.0.0.0", PORT)
        assert (status, found["firewall"]["grade"]) == (0, "ok")
        host.exec("nft", f"insert rule inet filter input tcp dport {PORT} drop")
        status, found = examine(host, "::", PORT)
        assert status == 1
        assert found["firewall"]["figures"]["blocked"] == [
            f"TCP {host.address}:{PORT} (no answer)",
            f"TCP [{host.address6}]:{PORT} (no answer)",
        ]


def test_a_group_without_a_way_is_found() -> None:
    """No route to a group is wrong, and the command that is told mends it."""
    with patient() as host:
        words = ("0.0.0.0", PORT, "--ingest", f"udp://@{GROUP}:5004")
        status, found = examine(host, *words)
        assert (status, found["group_in"]["grade"]) == (1, "wrong")
        host.exec(*found["group_in"]["commands"][0].split())
        status, found = examine(host, *words)
        assert (status, found["group_in"]["grade"]) == (0, "ok")
        assert found["group_in"]["figures"]["interface"] == "eth0"
        assert found["querier"]["grade"] == "hint"
        assert found["querier"]["figures"]["listened_s"] >= 2


def test_a_querier_is_heard() -> None:
    """Where somebody asks who wants the group, it is said who."""
    with contextlib.ExitStack() as stack:
        network = Network(stack)
        host, switch = network.host("patient"), network.switch
        switch.up("lan", "10.77.0.254/24")
        often = ("mcast_startup_query_interval", "100", "mcast_query_interval", "100")  # of 10 ms
        asks = ("mcast_query_use_ifaddr", "1", "mcast_querier", "1")
        switch.ip("link", "set", "lan", "type", "bridge", *often, *asks)
        words = ("0.0.0.0", PORT, "--ingest", f"udp://@{GROUP}:5004?iface=eth0")
        _, found = examine(host, *words)
    assert found["querier"]["figures"]["heard"] == "10.77.0.254"
    assert found["querier"]["grade"] == "ok"


def test_a_source_whose_way_back_leads_elsewhere_is_found() -> None:
    """With a strict reverse path filter the kernel would drop what it sends."""
    with patient() as host:
        host.set("ipv4/conf/eth0/rp_filter", 1)
        mrl = "udp://10.99.0.1@232.1.1.1:5004?iface=eth0"
        status, found = examine(host, "0.0.0.0", PORT, "--ingest", mrl)
    assert (status, found["reverse_path"]["grade"]) == (1, "wrong")
    assert "rp_filter=2" in found["reverse_path"]["commands"][0]


def test_a_small_mtu_and_a_missing_cable_are_found() -> None:
    """Both are hints, with the command."""
    with contextlib.ExitStack() as stack:
        network = Network(stack)
        host = network.host("patient")
        host.ip("link", "set", "eth0", "mtu", "1280")
        _, found = examine(host, "0.0.0.0", PORT)
        assert found["link"]["figures"] == {"name": "eth0", "mtu": 1280, "up": True}
        assert found["link"]["commands"] == ["ip link set eth0 mtu 1500"]
        network.switch.ip("link", "set", host.name, "down")
        _, found = examine(host, "0.0.0.0", PORT)
        assert (found["link"]["grade"], found["link"]["found"]) == ("hint", "no link")
        assert found["link"]["commands"] == ["ip link set eth0 up"]


def test_somebody_without_privilege_is_told_as_much() -> None:
    """Whoever may not enlarge the buffer, nor listen for queries, gets a hint, not a failure."""
    nobody = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=0")
    with patient() as host:
        host.ip("route", "add", "default", "dev", "eth0")
        _, found = examine(host, "0.0.0.0", PORT, "--ingest", f"udp://@{GROUP}:5004", before=nobody)
    assert (
        found["receive_buffer"]["figures"]["granted"] < found["receive_buffer"]["figures"]["wanted"]
    )
    assert "sysctl" in found["receive_buffer"]["commands"][0]
    assert found["querier"]["found"] == "not known: to listen takes root"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_machine_without_network_is_one(address: str) -> None:
    """On a host with nothing but its loopback, without IPv6, it says so and ends in order."""
    with contextlib.ExitStack() as stack:
        host = Network(stack).switch
        host.set("ipv6/conf/all/disable_ipv6", 1)
        status, found = examine(host, address, PORT)
    assert status == (1 if ":" in address else 0)
    if ":" in address:
        assert found["control_port"]["found"].startswith("not an address of this machine")
    else:
        assert "Only this machine" in found["addresses"]["advice"]
