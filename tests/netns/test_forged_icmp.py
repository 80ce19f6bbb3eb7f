"""ICMP errors that somebody else on the LAN forges: the viewer whose port they deny goes on."""

import time

import pytest

from tools.lab.netns import Host, NetnsViewers, Stage, ask, finish, set_up
from tools.lab.process import ChildProcess

LOST_AT_MOST = 0.10
"""Share of the stream that a viewer may lose."""


def output_port(stage: Stage, viewer: NetnsViewers) -> tuple[int, int]:
    """Return the relay's port that a viewer's stream comes from, and the viewer's own."""
    port = int(viewer.command("ESTADO").split("destino=")[1].split()[0].rpartition(":")[2])
    for line in stage.relay_host.exec("cat", "/proc/net/udp").splitlines()[1:]:
        local, remote = (end.rpartition(":") for end in line.split()[1:3])
        if int(remote[2], 16) == port:
            return int(local[2], 16), port
    raise AssertionError("the viewer has no output")


def forge(stage: Stage, attacker: Host, viewer: NetnsViewers, rate: int) -> ChildProcess:
    """Deny the viewer's port, so many times a second."""
    ours, port = output_port(stage, viewer)
    words = (stage.relay_host.address, str(ours), viewer.host.address, str(port), str(rate))
    return stage.start(attacker, "tools.lab.netns_forger", *words)


@pytest.mark.parametrize("rate", [10, 40, 200])
def test_forged_refusals_hardly_cost_a_viewer_anything(rate: int) -> None:
    """However often its port is said to be closed, a viewer gets nine tenths of the stream."""
    with set_up() as stage:
        viewer = stage.watch(stage.host("viewer"))
        source = stage.stream()
        viewer.wait_received()
        forger = forge(stage, stage.host("attacker"), viewer, rate)
        before = viewer.stats()["last"]
        time.sleep(5)
        forged = ask(forger, "end")["sent"]
        sent = finish(source)
        status = viewer.command("ESTADO")
        stats = viewer.stats()
    offered, got = sent - before, stats["received"] - before
    print(f"{forged} forged: {got} of {offered} datagrams; {status}")
    assert forged > rate
    assert status.startswith("OK estado=transmitiendo")
    assert got >= offered * (1 - LOST_AT_MOST)
