"""Viewers who are behind the live stream, over real connections, and through reloads."""

import contextlib
import time
from pathlib import Path

import pytest

from relaylib.net.linux import grow_receive_buffer
from tools.lab.process import wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import CountingViewers, NumberedStream, reload
from tools.lab.viewer import TestViewer

CROWD = 12
"""Viewers, each with a delay of its own."""

STEP = 0.05
"""Seconds by which their delays differ."""


def delay(viewer: TestViewer) -> str:
    """Ask how many seconds a viewer is behind."""
    return viewer.command("ESTADO").split("retraso=")[1].split()[0]


def test_everyone_gets_everything_at_their_own_delay_through_reloads() -> None:
    """Paused and resumed at different times, deferred or live: nothing is missing or double.

    One of them stays paused over a reload.
    """
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(RelayProcess("--timeshift", "60"))
        viewers = [
            stack.enter_context(TestViewer(relay.port)).subscribe() for _ in range(CROWD + 1)
        ]
        for viewer in viewers:
            grow_receive_buffer(viewer.player, 4 << 20)
        *crowd, live = viewers
        audience = stack.enter_context(CountingViewers(viewers))
        with NumberedStream(relay.ingest_port) as stream:
            for viewer in crowd:
                time.sleep(STEP)
                assert viewer.command("INTERRUMPIR") == "OK"
            for viewer in crowd[1:]:
                assert viewer.command("CONTINUAR DIFERIDO") == "OK"
            reload(relay)
            assert crowd[0].command("CONTINUAR DIFERIDO") == "OK"
            assert crowd[-1].command("INTERRUMPIR") == "OK"
            reload(relay)
            assert crowd[-1].command("CONTINUAR DIFERIDO") == "OK"
            assert float(delay(crowd[0])) > float(delay(crowd[1])) >= float(delay(crowd[-2])) > 0
            assert delay(live) == "0.0"
            for viewer in crowd:
                assert viewer.command("ESTADO").startswith("OK estado=diferido ")
        audience.expect(stream.sent)
        for viewer in viewers:
            assert f"enviados={stream.sent} perdidos=0" in viewer.command("ESTADO")
    assert not relay.events("history_overtaken")


def test_back_and_live_again() -> None:
    """RETROCEDER goes back from where the viewer is, CONTINUAR is live, INTERRUMPIR keeps."""
    with RelayProcess("--timeshift", "60") as relay, TestViewer(relay.port).subscribe() as viewer:
        assert viewer.command("RETROCEDER 1").startswith("ERROR todavia no hay nada ")
        with NumberedStream(relay.ingest_port) as stream:
            wait_for(lambda: stream.sent > 500, "a second of the stream")
            assert viewer.command("RETROCEDER 0.4") == "OK"
            assert delay(viewer) in ("0.4", "0.5")
            assert viewer.command("RETROCEDER 0,4") == "OK"
            assert 0.8 <= float(delay(viewer)) <= 1.0
            assert relay.wait_event("deferred", 2)["seconds"] == float(delay(viewer))
            assert viewer.command("INTERRUMPIR") == "OK"
            assert float(delay(viewer)) >= 0.8
            assert viewer.command("RETROCEDER 100") == "OK"
            assert viewer.command("CONTINUAR") == "OK"
            assert viewer.command("ESTADO").endswith("retraso=0.0")
            assert viewer.command("INTERRUMPIR") == viewer.command("CONTINUAR DIFERIDO") == "OK"
            assert viewer.command(f"CONECTAR {viewer.port}") == "OK"
            assert viewer.command("ESTADO").startswith("OK estado=transmitiendo ")


def test_a_reload_without_a_history_makes_everyone_live(tmp_path: Path) -> None:
    """Who was deferred streams live, who was paused can be deferred no more; and none is lost."""
    options = tmp_path / "relay.conf"
    options.write_text("--timeshift 60\n")
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(RelayProcess(f"@{options}"))
        deferred, paused = (
            stack.enter_context(TestViewer(relay.port)).subscribe() for _ in range(2)
        )
        stack.enter_context(NumberedStream(relay.ingest_port))
        deferred.receive_all(100)
        assert deferred.command("RETROCEDER 5") == paused.command("INTERRUMPIR") == "OK"
        options.write_text("--timeshift 60 --timeshift-mib 64\n")
        reload(relay)
        assert deferred.command("ESTADO").startswith("OK estado=diferido ")
        options.write_text("--timeshift 0\n")
        reload(relay)
        assert deferred.command("ESTADO").startswith("OK estado=transmitiendo ")
        assert delay(deferred) == "0.0"
        assert paused.command("CONTINUAR DIFERIDO").startswith("ERROR ")
        assert delay(paused) == "-"
        assert paused.command("CONTINUAR") == "OK"


@pytest.mark.long
def test_who_is_behind_goes_on_through_a_reload_when_the_source_is_silent() -> None:
    """A stand-in sends what is left in the history, though there is nothing to read any more."""
    with (
        RelayProcess("--timeshift", "60", "--source-timeout", "0.2") as relay,
        TestViewer(relay.port).subscribe() as viewer,
        CountingViewers([viewer]) as audience,
    ):
        with NumberedStream(relay.ingest_port) as stream:
            assert viewer.command("INTERRUMPIR") == "OK"
            wait_for(lambda: stream.sent > 4000, "more of the stream than a reload takes")
        assert viewer.command("CONTINUAR DIFERIDO") == "OK"
        relay.wait_event("ingest_silent")
        audience.longest_gap = 0.0
        reload(relay)
        print(f"longest gap {audience.longest_gap:.3f} s")
        assert not audience.has(stream.sent)
        audience.expect(stream.sent)
        assert not relay.events("stand_in_lost")
