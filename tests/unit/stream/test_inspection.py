"""Looking into the stream: all of it is seen once, and what was not seen is no fault."""

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from unittest import mock

import pytest

from relaylib.media import rtp
from relaylib.net.loop import Loop
from relaylib.stream import inspection as module
from relaylib.stream.batch import MAX_BYTES, Run
from relaylib.stream.history import History
from relaylib.stream.inspection import Counts, Inspection, InspectionState
from tools.lab.inprocess import running_loop, turn_for, turn_until
from tools.lab.process import ROOT

SAMPLE = (ROOT / "tools" / "sample" / "sample.ts").read_bytes()
SIZE = 7 * 188
DATAGRAMS = [SAMPLE[at : at + SIZE] for at in range(0, len(SAMPLE), SIZE)][:-1]
IN_RTP = [rtp.header(65_000 + n, 1200 * n, 7) + each for n, each in enumerate(DATAGRAMS)]


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """A loop; however slow the machine is, nothing is given up for that."""
    monkeypatch.setattr(module, "LAG", float("inf"))
    with running_loop() as loop:
        yield loop


def write(loop: Loop, history: History, datagrams: list[bytes], together: int = 32) -> None:
    """Let datagrams arrive in runs of so many."""
    for at in range(0, len(datagrams), together):
        part = datagrams[at : at + together]
        data = b"".join(part)
        assert len(data) <= MAX_BYTES
        history.append([Run(memoryview(data), len(part[0]), len(part))], loop.time())


def see(loop: Loop, inspection: Inspection, datagrams: int) -> Counts:
    turn_until(loop, lambda: inspection.counts.datagrams >= datagrams, "all to be seen")
    return inspection.counts


def handed_over(saved: InspectionState, history: History) -> tuple[History, InspectionState]:
    """Return what the next program has of both."""
    memory = history.export()
    assert memory is not None
    memory = replace(memory, memory=type(memory.memory)(os.dup(memory.memory)))
    return History.restore(memory, float("inf"), 1 << 24), saved


@pytest.mark.parametrize("stream", [DATAGRAMS, IN_RTP], ids=["ts", "rtp"])
@pytest.mark.parametrize("cut", [96, 192, 544])
def test_a_restart_sees_everything_once(loop: Loop, stream: list[bytes], cut: int) -> None:
    """However far the last program got: counts and access points as if there was no restart."""
    lossy = stream[:50] + stream[51:300] + stream[303:]
    whole = History(float("inf"), 1 << 24)
    write(loop, whole, lossy)
    expected = see(loop, Inspection(loop, whole, saved=InspectionState(0, 0, Counts())), len(lossy))
    assert expected.errors["Continuity_count_error"] > 0
    assert expected.lost == (4 if stream is IN_RTP else 0)

    history = History(float("inf"), 1 << 24)
    old = Inspection(loop, history)
    write(loop, history, lossy[:cut])
    with mock.patch.object(module, "PIECE", 7):  # so that it stops in the middle of a run
        turn_until(loop, lambda: old.counts.datagrams, "a part to be seen")
        saved = old.export()
    points = list(history.points)
    write(loop, history, lossy[cut:])  # by the stand-in
    history, saved = handed_over(saved, history)
    history.points.clear()
    history.points.extend(points)
    new = Inspection(loop, history, saved=saved)
    assert new.counts == saved.counts
    assert see(loop, new, len(lossy)) == expected
    assert [replace(each, time=0) for each in history.points] == [
        replace(each, time=0) for each in whole.points
    ]


@pytest.mark.parametrize("stream", [DATAGRAMS, IN_RTP], ids=["ts", "rtp"])
def test_what_is_overwritten_unseen_is_counted_and_no_fault(
    loop: Loop, stream: list[bytes]
) -> None:
    """A history that goes round before it is looked at: no loss is claimed for what was missed."""
    history, passed = History(float("inf"), 1 << 18), 0
    inspection = Inspection(loop, history, lambda: passed)
    write(loop, history, stream[:40])
    passed = 40
    see(loop, inspection, 40)
    turn_for(loop, 2 * module.PERIOD)
    write(loop, history, stream[40:500])
    passed = 500
    turn_until(loop, lambda: inspection.counts.unseen, "the rest to be given up")
    write(loop, history, stream[500:])
    counts = see(loop, inspection, 40 + len(stream) - 500)
    assert counts.unseen == 460
    assert (counts.lost, counts.reordered, counts.duplicated) == (0, 0, 0)
    assert not any(counts.errors.values())


def test_another_source_need_not_fit(loop: Loop) -> None:
    """Where a new source begins, its counters and its form are its own."""
    history = History(float("inf"), 1 << 24)
    inspection = Inspection(loop, history)
    write(loop, history, IN_RTP[:333])
    inspection.new_source()
    write(loop, history, DATAGRAMS[50:300])
    inspection.new_source()
    inspection.new_source()
    write(loop, history, IN_RTP[7:200])
    counts = see(loop, inspection, 333 + 250 + 193)
    assert not any(counts.errors.values())
    assert (counts.lost, counts.reordered, counts.duplicated) == (0, 0, 0)


def test_what_nobody_knows_is_looked_at_now_and_then(loop: Loop) -> None:
    """Of an opaque stream a little; and when it becomes another one, that is found out."""
    history = History(float("inf"), 1 << 24)
    inspection = Inspection(loop, history)
    write(loop, history, [b"\x01" * 1000] * 5000)
    turn_until(loop, lambda: inspection.export().number == history.end, "all to be passed over")
    looked_at = inspection.counts.datagrams
    assert 0 < looked_at < 1000
    assert inspection.counts.unseen == 0
    inspection.new_source()
    write(loop, history, DATAGRAMS)
    assert see(loop, inspection, looked_at + len(DATAGRAMS)).access_points == 8


def test_the_ingest_is_read_between_two_pieces(loop: Loop) -> None:
    """However much there is to see, the priority reader gets in between."""
    history = History(float("inf"), 1 << 24)
    inspection = Inspection(loop, history)
    seen = list[int]()
    loop.add_priority_reader(lambda: seen.append(inspection.monitor.datagrams))
    write(loop, history, IN_RTP)
    see(loop, inspection, len(IN_RTP))
    steps = [after - before for before, after in pairwise(seen)]
    assert max(steps) <= len(IN_RTP) / 3
