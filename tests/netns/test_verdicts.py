"""Whose fault it is: each verdict produced on purpose, and told right in ESTADO and in the log."""

import os
import signal
import sys

from tools.lab.netns import Host, NetnsViewers, Stage, set_up
from tools.lab.process import ChildProcess, wait_for

LOSS = 0.3
"""Of a stream that has 75 datagrams a second: that none is lost in a second never happens."""

NARROW = ("rate", "100kbit", "burst", "4kb", "limit", "20kb")
"""A link for an eighth of the stream."""


def send(stage: Stage, host: Host, *options: str) -> ChildProcess:
    """Send the sample in RTP, again and again without a seam, until the end."""
    words = (stage.relay_host.address, str(stage.relay.ingest_port), "--loop", "--rtp", *options)
    program = (*host.prefix, sys.executable, "tools/fake_vlc.py", *words)
    return stage.stack.enter_context(ChildProcess(*program))


def health(viewer: NetnsViewers) -> str:
    """Ask for it; "" if that was too often."""
    return viewer.command("ESTADO").partition("salud=")[2].partition(" ")[0]


def wait_health(viewer: NetnsViewers, word: str) -> None:
    wait_for(lambda: health(viewer) == word, f"salud={word} at {viewer.host.name}")


def told(stage: Stage) -> list[str]:
    """Return the verdicts in the log so far."""
    return [event["verdict"] for event in stage.relay.events("health_changed")]


def dropped(host: Host) -> int:
    """How many datagrams sockets on a host had no room for (proc_net(5), the last column)."""
    tables = host.exec("cat", "/proc/net/udp", "/proc/net/udp6").splitlines()
    return sum(int(line.split()[-1]) for line in tables if "drops" not in line)


def test_a_source_is_healthy_until_it_stops() -> None:
    """Before there is a source and when it has stopped it is silent, and healthy in between."""
    with set_up() as stage:
        viewer = stage.watch(stage.host("viewer"))
        assert health(viewer) == "silencio"
        with send(stage, stage.source_host):
            wait_health(viewer, "sano")
            viewer.wait_received(400)
            assert health(viewer) == "sano"
        wait_health(viewer, "silencio")
        assert told(stage) == ["healthy", "silence"]
        stage.relay.process.send_signal(signal.SIGUSR1)
        report = stage.relay.wait_event("report")
    assert (report["verdict"], report["form"], report["errors"]) == ("silence", "rtp", {})
    assert report["lost"] == 0
    assert report["viewers"] == {"streaming": 1}


def test_losses_on_the_way_in_are_the_source_s() -> None:
    """What was lost before the relay is told with its count, and forgotten when it has ended."""
    with set_up() as stage:
        viewers = [stage.watch(stage.host(f"viewer{n}")) for n in range(2)]
        far, impair = stage.far_host("far")
        send(stage, far)
        wait_health(viewers[0], "sano")
        impair(0, LOSS)
        for viewer in viewers:
            wait_health(viewer, "fuente")
        event = stage.relay.wait_event("health_changed", verdict="source")
        assert "RTP packets lost" in event["evidence"]
        impair(0, 0)
        wait_health(viewers[0], "sano")
        assert told(stage) == ["healthy", "source", "healthy"]


def test_a_full_link_is_its_viewer_s_path() -> None:
    """Who is behind a link that is too narrow is told so; the others are well.

    When nobody else is there any more, the log says it, too.
    """
    with set_up() as stage:
        others = [stage.watch(stage.host(f"viewer{n}")) for n in range(2)]
        host = stage.host("narrow")
        here, _ = stage.wire(stage.relay_host, host, number=78)
        stage.relay_host.exec("tc", "qdisc", "add", "dev", "eth1", "root", "tbf", *NARROW)
        narrow = stage.watch(host, here)
        send(stage, stage.source_host)
        wait_health(narrow, "red")
        assert [health(each) for each in others] == ["sano", "sano"]
        assert told(stage) == ["healthy"]
        for each in others:
            each.do("close")
        event = stage.relay.wait_event("health_changed", verdict="network")
        assert health(narrow) == "red"
    assert event["evidence"].startswith("1 of 1 outputs")


def test_a_player_that_is_gone_is_its_viewer_s_path() -> None:
    """Whose port is closed is told so."""
    with set_up() as stage:
        viewer, closed = stage.watch(stage.host("one")), stage.connect(stage.host("other"))
        closed.subscribe()
        send(stage, stage.source_host)
        wait_health(closed, "red")
        assert health(viewer) == "sano"
        assert told(stage) == ["healthy"]


def test_what_the_kernel_dropped_here_is_the_relay_s() -> None:
    """A relay that stood still until its buffer was full says so, and does not blame the source."""
    with set_up() as stage:
        viewer = stage.watch(stage.host("viewer"))
        send(stage, stage.source_host, "--bitrate", "50M")
        wait_health(viewer, "sano")
        before = dropped(stage.relay_host)
        stage.relay.process.send_signal(signal.SIGSTOP)
        try:
            wait_for(lambda: dropped(stage.relay_host) > before, "the kernel to drop something")
        finally:
            os.kill(stage.relay.pid, signal.SIGCONT)
        event = stage.relay.wait_event("health_changed", verdict="relay")
        assert health(viewer) == "rele"
        assert "dropped" in event["evidence"]
        assert event["remedy"]
        wait_health(viewer, "sano")
        assert told(stage) == ["healthy", "relay", "healthy"]
