"""The flight recorder of a real relay: what it records gives another relay the same verdict."""

import sys
from pathlib import Path

import pytest

from tools.lab.process import ChildProcess, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import reload
from tools.replay.flows import survey_capture

FAKE_VLC = (sys.executable, "tools/fake_vlc.py", "127.0.0.1")

ONE_LOSS = ("--loop", "--drop", "0.2%", "--seed", "28")
"""The sample without its datagram of the third second; none of the next six seconds is missing."""


def found(relay: RelayProcess) -> str:
    """Wait for the verdict after `healthy`.

    The sentence beside it has what was counted until that moment: it may come between two counts.
    """
    return str(relay.wait_event("health_changed", previous="healthy")["verdict"])


@pytest.mark.parametrize(
    "form",
    [pytest.param((), id="ts"), pytest.param(("--rtp",), id="rtp", marks=pytest.mark.long)],
)
def test_a_recording_replayed_gives_the_same_verdict(form: tuple[str], tmp_path: Path) -> None:
    """A relay that is sent the recording comes to the verdict for which it was made."""
    with RelayProcess("--record-faults", str(tmp_path)) as first:
        with ChildProcess(*FAKE_VLC, str(first.ingest_port), *ONE_LOSS, *form):
            verdict = found(first)
            recorded = first.wait_event("recorded")
        assert verdict == first.events("recording_started")[0]["reason"] == "source"
        [file] = tmp_path.iterdir()
        assert str(file) == recorded["file"]
        source = first.events("source_locked")[0]["source"]
        with file.open("rb") as capture:
            [flow] = survey_capture(capture).flows
        assert flow.ends == (source, f"127.0.0.1:{first.ingest_port}")
    with RelayProcess() as second, ChildProcess(*FAKE_VLC, str(second.ingest_port), str(file)):
        assert found(second) == verdict


def test_a_reload_and_the_end_leave_whole_files(tmp_path: Path) -> None:
    """What is being recorded when the relay reloads is complete at once; no other file is there."""
    with RelayProcess("--record-faults", str(tmp_path)) as relay:
        with ChildProcess(*FAKE_VLC, str(relay.ingest_port), *ONE_LOSS):
            part = Path(relay.wait_event("recording_started")["file"] + ".part")
            wait_for(lambda: part.stat().st_size > 100_000, "the recording")
            reload(relay)
            file = Path(relay.wait_event("recorded")["file"])
            assert list(tmp_path.iterdir()) == [file]
        assert relay.stop() == 0
    assert list(tmp_path.iterdir()) == [file]
