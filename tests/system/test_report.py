"""One line of everything: when it is asked for, and what a reload does to it."""

import signal

from relaylib.media import rtp
from tools.lab.process import ROOT
from tools.lab.relay import RelayProcess
from tools.lab.reloads import Held, NumberedStream, reload
from tools.lab.sockets import source, unused_port
from tools.lab.traffic import exchange
from tools.lab.viewer import TestViewer

SAMPLE = (ROOT / "tools" / "sample" / "sample.ts").read_bytes()
SIZE = 7 * 188
DATAGRAMS = [
    rtp.header(number, 1200 * number, 7) + SAMPLE[number * SIZE : (number + 1) * SIZE]
    for number in range(600)
]


def ask(relay: RelayProcess, count: int) -> None:
    """Ask for a report, when there were so many; wait for it."""
    relay.process.send_signal(signal.SIGUSR1)
    relay.wait_event("report", count + 1)


def test_it_comes_regularly_and_when_asked_for() -> None:
    """With --report, and at SIGUSR1; without anything to tell, too."""
    with RelayProcess("--report", "0.2") as relay:
        report = relay.wait_event("report", 3)
    assert report["verdict"] == "silence"
    assert report["source"] is None
    with RelayProcess("--no-inspect") as relay:
        ask(relay, 0)
        assert "verdict" not in relay.events("report")[0]
        with TestViewer(relay.port) as viewer:
            assert " salud=- " in viewer.command("ESTADO")


def test_a_reload_inspects_everything_once(held: Held) -> None:
    """What came before it, by the stand-in and after it is counted; what was lost, exactly."""
    relay = held.relay
    with TestViewer(relay.port) as viewer, source(relay.ingest_port) as encoder:
        viewer.subscribe()
        exchange(encoder, [viewer], DATAGRAMS[:100] + DATAGRAMS[103:200])
        held.hang_up()
        exchange(encoder, [viewer], DATAGRAMS[200:250] + DATAGRAMS[252:400])
        relay.process.send_signal(signal.SIGUSR1)  # must not kill the program that begins
        held.let_go()
        exchange(encoder, [viewer], DATAGRAMS[400:500] + DATAGRAMS[501:])
        reload(relay)
        relay.wait_event("report")
        for count in range(1, 100):  # until all has been looked at
            ask(relay, count)
            report = relay.events("report")[-1]
            if report["lost"] == 6:
                break
    assert (report["received"], report["lost"], report["unseen"]) == (594, 6, 0)
    assert (report["reordered"], report["duplicated"]) == (0, 0)
    assert report["errors"]["Continuity_count_error"] > 0
    assert report["access_points"] == 8


def test_fixed_outputs_count() -> None:
    """What a screen did not get is counted like what a viewer did not get."""
    port = unused_port()
    with (
        RelayProcess("--to", f"udp://127.0.0.1:{port}") as relay,
        NumberedStream(relay.ingest_port),
    ):
        relay.wait_event("output_unreachable", destination=f"127.0.0.1:{port}")
        ask(relay, 0)
        assert relay.events("report")[0]["unreachable"] > 0
