"""The walk: all of the stream is seen once, in order, and what was not seen is no fault."""

import math
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from unittest import mock

import pytest

from relaylib.history.history import History
from relaylib.media import rtp
from relaylib.media.form import Form
from relaylib.net.descriptors import Descriptor
from relaylib.net.loop import Loop
from relaylib.source.batch import Batch
from relaylib.track import walk as module
from relaylib.track.ring import Ring
from relaylib.track.track import Track
from relaylib.track.walk import Counts, Walk, WalkState
from tools.lab.inprocess import running_loop, turn_for, turn_until
from tools.lab.process import ROOT
from tools.lab.web import PACKET

SAMPLE = (ROOT / "tools" / "sample" / "sample.ts").read_bytes()
SIZE = 7 * PACKET
DATAGRAMS = [SAMPLE[at : at + SIZE] for at in range(0, len(SAMPLE), SIZE)][:-1]
IN_RTP = [rtp.header(65_000 + n, 1200 * n, 7) + each for n, each in enumerate(DATAGRAMS)]
CUT = [SAMPLE[at : at + 1472] for at in range(0, len(SAMPLE), 1472)][:-1]
BYTES = 1 << 24


def swapped(datagrams: list[bytes]) -> list[bytes]:
    """Let some datagrams change places with one that comes soon after."""
    order, rng = list(datagrams), random.Random(1)
    for at in range(5, len(order) - 40, 7):
        to = at + rng.randint(1, 3)
        order[at], order[to] = order[to], order[at]
    return order


STREAMS = {"ts": DATAGRAMS, "rtp": IN_RTP, "swapped": swapped(IN_RTP), "cut": CUT}
every_stream = pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """A loop; however slow the machine is, nothing is given up for that."""
    monkeypatch.setattr(module, "LAG", math.inf)
    with running_loop() as loop:
        yield loop


@dataclass
class Reading:
    """A history that is written to, the walk over it, and what that has told of the form."""

    loop: Loop
    history: History = field(default_factory=lambda: History(math.inf, BYTES))
    track: Track = field(default_factory=lambda: Track(Ring(math.inf, BYTES), 0.0))
    saved: WalkState | None = None
    passed: int = 0

    def __post_init__(self) -> None:
        self.forms = list[Form]()
        self.walk = Walk(
            self.loop,
            self.history,
            self.track,
            passed=lambda: self.passed,
            on_form=lambda form, _payload_type: self.forms.append(form),
            saved=self.saved,
        )

    def write(self, datagrams: list[bytes], time: float | None = None, together: int = 32) -> None:
        """Let datagrams arrive, so many at once."""
        for at in range(0, len(datagrams), together):
            batch, part = Batch(), datagrams[at : at + together]
            for each in part:
                batch.room()[: len(each)] = each
                batch.add(len(each))
            assert batch.count == len(part)
            self.history.append(batch.finish(), self.loop.time() if time is None else time)
        self.passed += len(datagrams)

    def see(self, datagrams: int) -> Counts:
        """Let the walk come so far."""
        turn_until(self.loop, lambda: self.counts.datagrams >= datagrams, "all to be seen")
        return self.counts

    def seen(self, datagrams: list[bytes]) -> Counts:
        """Let datagrams arrive and be looked at."""
        before = self.counts.datagrams
        self.write(datagrams)
        return self.see(before + len(datagrams))

    @property
    def counts(self) -> Counts:
        return self.walk.counts

    @property
    def data(self) -> bytes:
        """What the track has."""
        return b"".join(self.track.pieces(self.track.oldest, self.track.end))

    @property
    def places(self) -> list[int]:
        """Where the breaks are."""
        return [each.at for each in self.track.breaks]

    def next(self, loop: Loop) -> "Reading":
        """Return what the next program makes of this one, which has been exported and then wrote
        to the history as a stand-in.
        """
        history, track = self.history.export(), self.track.export()
        assert history is not None
        assert track is not None
        history.memory = Descriptor(os.dup(history.memory))
        size = history.octets
        track.ring.memory = Descriptor(os.dup(track.ring.memory))
        return Reading(
            loop,
            History(math.inf, size, history),
            Track(Ring(math.inf, BYTES, track.ring), 0.0, track),
            self.saved,
            self.passed,
        )

    def stop(self, datagrams: int) -> None:
        """Come so far at least, to the middle of a run, and be exported there."""
        with mock.patch.object(module, "PIECE", 7):
            while self.counts.datagrams <= datagrams:
                self.walk._follow(0.0)
        self.saved = self.walk.export()


@pytest.fixture(name="past")
def fixture_past(loop: Loop) -> Iterator[Loop]:
    """The loop of the program before."""
    with running_loop() as past:
        yield past


@pytest.fixture
def reading(loop: Loop) -> Reading:
    return Reading(loop)


def test_the_track_is_the_stream(reading: Reading) -> None:
    """Every packet is there, in order, and nothing else; decoding can start at eight of them."""
    counts = reading.seen(DATAGRAMS)
    assert reading.data == b"".join(DATAGRAMS)
    assert counts.access_points == len(reading.track.entries) == 8
    assert not any(counts.errors.values())
    assert reading.places == []


@every_stream
def test_entry_points_are_where_they_say(reading: Reading, stream: list[bytes]) -> None:
    """The packet at the place in the track is the one at that byte of the history."""
    reading.seen(stream)
    assert SAMPLE.startswith(reading.data)
    assert len(reading.data) > 0.95 * len(SAMPLE)
    assert len(reading.track.entries) == 8
    for entry in reading.track.entries:
        packet = reading.data[entry.at : entry.at + PACKET]
        located = reading.history.locate(entry.origin)
        assert located is not None
        (number, datagram), offset = located
        inside = bytes(reading.history.run(number).datagrams()[datagram])[offset:]
        assert inside
        assert inside[:PACKET] == packet[: len(inside)]
        assert entry.tables[0] == entry.tables[PACKET] == packet[0] == 0x47


@every_stream
@pytest.mark.parametrize("part", [96, 192, 480])
def test_a_reload_sees_everything_once(
    loop: Loop, past: Loop, stream: list[bytes], part: int
) -> None:
    """However far the last program got: track, entries, breaks and counts as without a reload."""
    lossy, now = stream[:50] + stream[51:300] + stream[303:], loop.time()
    whole = Reading(loop)
    whole.write(lossy[:400], now)
    whole.walk.new_source()
    whole.write(lossy[400:], now + 5)
    expected = whole.see(len(lossy))
    assert expected.errors["Continuity_count_error"] > 0
    assert (expected.lost > 0) == (stream not in (DATAGRAMS, CUT))

    old = Reading(past)
    old.write(lossy[: min(part, 400)], now)
    if part > 400:
        old.walk.new_source()
        old.write(lossy[400:part], now + 5)
    old.stop(part - 10)
    assert old.saved is not None
    assert old.saved.datagrams  # it is in the middle of a run
    if part <= 400:
        old.write(lossy[part:400], now)  # by the stand-in
        old.saved.sources.append(old.history.end)
    old.write(lossy[max(part, 400) :], now + 5)
    new = old.next(loop)
    assert new.counts == old.saved.counts
    assert new.see(len(lossy)) == expected
    assert new.data == whole.data
    assert new.track.breaks == whole.track.breaks
    assert new.track.entries == whole.track.entries


@pytest.mark.parametrize("first", [IN_RTP, DATAGRAMS], ids=["rtp", "ts"])
@pytest.mark.parametrize("since", [1, 10, 40])
def test_a_reload_soon_after_another_source_began(
    loop: Loop, past: Loop, first: list[bytes], since: int
) -> None:
    """What the new program looks at again is of two sources, and it knows that."""
    second = DATAGRAMS if first is IN_RTP else IN_RTP
    old = Reading(past)
    old.seen(first[:200])
    old.walk.new_source()
    old.seen(second[100 : 100 + since])
    old.saved = old.walk.export()
    old.write(second[100 + since : 400])
    new = old.next(loop)
    counts = new.see(500)
    assert new.data == b"".join(DATAGRAMS[:200] + DATAGRAMS[100:400])
    assert new.places == [200 * SIZE]
    assert new.track.form is (Form.TS if second is DATAGRAMS else Form.RTP)
    assert counts.foreign == 0
    assert not any(counts.errors.values())


def test_a_history_that_has_begun_anew_is_a_break(loop: Loop, past: Loop) -> None:
    """Where it could not be handed over, what was counted stays, and the track goes on."""
    old = Reading(past)
    before = old.seen(DATAGRAMS[:100])
    old.saved = old.walk.export()
    old.history = History(math.inf, BYTES)
    new = old.next(loop)
    assert new.counts == before
    counts = new.seen(DATAGRAMS[300:400])
    assert counts.datagrams == 200
    assert not any(counts.errors.values())
    assert new.data == b"".join(DATAGRAMS[:100] + DATAGRAMS[300:400])
    assert new.places == [100 * SIZE]


def test_a_history_that_has_begun_anew_numbers_its_runs_anew(loop: Loop, past: Loop) -> None:
    """Where another source had begun in the old one says nothing of the runs in the new one."""
    old = Reading(past)
    old.write(DATAGRAMS[:64], together=1)
    old.walk.new_source()
    old.write(DATAGRAMS[64:80], together=1)
    old.see(80)
    old.saved = old.walk.export()
    old.history = History(math.inf, BYTES)
    new = old.next(loop)
    new.write(DATAGRAMS[80:200], together=1)
    new.see(90)
    assert new.walk.present is new.walk.monitor
    new.see(200)
    assert new.places == [64 * SIZE, 80 * SIZE]


@pytest.mark.parametrize("begins_anew", [False, True])
def test_what_is_missing_after_a_reload_is_counted(
    loop: Loop, past: Loop, begins_anew: bool
) -> None:
    """What the stand-in has sent and the history does not have any more is a hole, and a break."""
    old = Reading(past, History(math.inf, 1 << 18))
    old.seen(DATAGRAMS[:100])
    old.walk.catch_up()
    old.saved = old.walk.export()
    old.write(DATAGRAMS[100:500])
    if begins_anew:
        old.history = History(math.inf, BYTES)
    new = old.next(loop)
    new.write(DATAGRAMS[500:520])
    turn_until(loop, lambda: new.counts.left_out, "the hole to be counted")
    counts = new.seen(DATAGRAMS[520:])
    assert counts.left_out == counts.unseen == (400 if begins_anew else 420)
    assert new.data == b"".join(DATAGRAMS[:100] + DATAGRAMS[500 if begins_anew else 520 :])
    assert new.places == [100 * SIZE]
    assert not any(counts.errors.values())


def test_a_reload_looks_again_only_at_what_is_there(loop: Loop, past: Loop) -> None:
    """If that is overwritten before, the new program goes on where the last one stopped."""
    old = Reading(past, History(math.inf, 1 << 18))
    old.seen(DATAGRAMS[:150])
    old.walk.catch_up()
    old.saved = old.walk.export()
    new = old.next(loop)
    assert not new.walk.is_warm
    new.write(DATAGRAMS[150:290])  # what was before is gone
    assert new.history.oldest > 0
    turn_until(loop, lambda: new.counts.datagrams >= 290, "the rest to be seen")
    assert new.data == b"".join(DATAGRAMS[:290])
    assert (new.counts.unseen, new.counts.left_out) == (0, 0)


def test_nothing_is_looked_at_while_another_process_writes(reading: Reading) -> None:
    """The stand-in overwrites what there is: to look at that would tear packets."""
    reading.walk._reads = lambda: False
    reading.write(DATAGRAMS[:100])
    reading.walk.catch_up()
    assert reading.counts.datagrams == 0
    reading.walk._reads = lambda: True
    reading.walk.catch_up()
    assert reading.counts.datagrams > 0


@pytest.mark.parametrize("is_read", [False, True])
@pytest.mark.parametrize("stream", [DATAGRAMS, IN_RTP], ids=["ts", "rtp"])
def test_what_is_overwritten_unseen_is_counted_and_no_fault(
    loop: Loop, stream: list[bytes], is_read: bool
) -> None:
    """A history that goes round before it is looked at: no loss is claimed for what was missed.

    There is a break; and if somebody reads the track, a hole in what they get is counted.
    """
    reading = Reading(loop, History(math.inf, 1 << 18))
    reading.seen(stream[:40])
    turn_for(loop, 2 * module.PERIOD)
    if is_read:
        reading.walk.catch_up()
    reading.write(stream[40:500])
    turn_until(loop, lambda: reading.counts.unseen, "the rest to be given up")
    counts = reading.seen(stream[500:])
    assert counts.unseen == 460
    assert counts.left_out == (460 if is_read else 0)
    assert (counts.lost, counts.reordered, counts.duplicated) == (0, 0, 0)
    assert not any(counts.errors.values())
    assert reading.data == b"".join(DATAGRAMS[:40] + DATAGRAMS[500:])
    assert reading.places == [40 * SIZE]


def test_what_is_too_late_goes_unseen(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came a while ago and was not looked at yet is left out for what comes now."""
    monkeypatch.setattr(module, "LAG", 100.0)
    reading.seen(DATAGRAMS[:40])
    turn_for(reading.loop, 2 * module.PERIOD)
    reading.write(DATAGRAMS[40:100], time=reading.loop.time() - 101.0)
    turn_until(reading.loop, lambda: reading.counts.unseen == 60, "them to be given up")
    reading.seen(DATAGRAMS[100:140])
    assert reading.data == b"".join(DATAGRAMS[:40] + DATAGRAMS[100:140])
    assert reading.places == [40 * SIZE]


def test_another_source_need_not_fit(reading: Reading) -> None:
    """Where a new source begins, its counters and its form are its own, and there is a break."""
    reading.write(IN_RTP[:333])
    reading.walk.new_source()
    reading.write(DATAGRAMS[50:300])
    reading.walk.new_source()
    reading.walk.new_source()
    reading.write(IN_RTP[7:200])
    counts = reading.see(333 + 250 + 193)
    assert not any(counts.errors.values())
    assert (counts.lost, counts.reordered, counts.duplicated) == (0, 0, 0)
    assert reading.places == [333 * SIZE, 583 * SIZE]
    assert reading.data == b"".join(DATAGRAMS[:333] + DATAGRAMS[50:300] + DATAGRAMS[7:200])


@pytest.mark.parametrize(("seconds", "expected"), [(0.9, []), (1.1, [100 * SIZE])])
def test_a_silence_is_a_break(reading: Reading, seconds: float, expected: list[int]) -> None:
    """Nothing for more than a second: the stream need not go on where it ended."""
    now = reading.loop.time()
    reading.write(DATAGRAMS[:100], time=now)
    reading.write(DATAGRAMS[100:200], time=now + seconds)
    reading.see(200)
    assert reading.places == expected
    assert [each.before for each in reading.track.breaks] == [now] * len(expected)
    assert reading.data == b"".join(DATAGRAMS[:200])


def test_what_waits_for_a_missing_datagram_comes_before_the_break(reading: Reading) -> None:
    """A silence ends the waiting: nothing of what came before it is taken for what comes after."""
    now = reading.loop.time()
    reading.write(IN_RTP[:95] + IN_RTP[96:100], time=now)
    reading.write(IN_RTP[100:200], time=now + 5)
    reading.see(199)
    assert reading.data == b"".join(DATAGRAMS[:95] + DATAGRAMS[96:200])
    assert reading.places == [99 * SIZE]


def test_packets_that_are_damaged_are_left_out(reading: Reading) -> None:
    """Without its sync byte none is in the track, and entry points behind it are where they say."""
    whole = Reading(reading.loop)
    whole.seen(DATAGRAMS)
    damaged = bytearray(b"".join(DATAGRAMS))
    hit = [each.at - PACKET for each in whole.track.entries if each.at > SIZE and each.at % SIZE]
    for at in hit:
        damaged[at] = 0
    assert hit
    counts = reading.seen([bytes(damaged[at : at + SIZE]) for at in range(0, len(damaged), SIZE)])
    kept = [whole.data[at : at + PACKET] for at in range(0, len(damaged), PACKET) if at not in hit]
    assert reading.data == b"".join(kept)
    assert counts.errors["Sync_byte_error"] == len(hit)
    for entry, intact in zip(reading.track.entries, whole.track.entries, strict=True):
        found = reading.data[entry.at : entry.at + PACKET]
        assert found == whole.data[intact.at : intact.at + PACKET]


def test_what_nobody_knows_is_looked_at_now_and_then(reading: Reading) -> None:
    """Of an opaque stream a little; and when another one follows, all of that."""
    reading.write([b"\x01" * 1000] * 5000)
    turn_until(
        reading.loop,
        lambda: reading.walk.export().number == reading.history.end,
        "all to be passed over",
    )
    looked_at = reading.counts.datagrams
    assert 0 < looked_at < 1000
    assert reading.counts.unseen == 0
    assert (reading.track.end, reading.track.form, reading.forms) == (0, Form.OPAQUE, [])
    reading.walk.new_source()
    assert reading.seen(DATAGRAMS).access_points == 8
    assert reading.data == b"".join(DATAGRAMS)


def test_an_opaque_stream_may_become_another_one(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its encoder is set right while it sends: a look a period finds that out."""
    monkeypatch.setattr(module, "_OPAQUE_PERIOD", 0.0)
    reading.write([b"\x01" * 1000] * 5000)
    reading.write(DATAGRAMS)
    turn_until(reading.loop, lambda: reading.forms, "the form to be found")
    assert reading.forms == [Form.TS]


@every_stream
@pytest.mark.parametrize("together", [16, 32])
def test_the_form_is_told_once(reading: Reading, stream: list[bytes], together: int) -> None:
    """When it is known, and again for another source, also one that sends the same.

    It may be known in the middle of the first run of that source.
    """
    form = Form.RTP if stream[0][0] == 0x80 else Form.TS
    reading.seen(stream[:300])
    assert reading.forms == [form]
    assert (reading.track.form, reading.track.payload_type) == (
        form,
        rtp.MP2T if form is Form.RTP else None,
    )
    reading.walk.new_source()
    reading.write(stream[300:400], together=together)
    reading.see(400)
    assert reading.forms == [form, form]


def test_rtp_without_a_transport_stream_has_its_payload_type(reading: Reading) -> None:
    """Nothing of it is in the track; what it carries can be told."""
    reading.seen([rtp.header(n, 0, 9, 96) + bytes(1000) for n in range(100)])
    assert reading.forms == [Form.RTP_OTHER]
    assert (reading.track.form, reading.track.payload_type) == (Form.RTP_OTHER, 96)
    assert reading.track.end == 0


def test_continuity_errors_are_known_if_all_is_seen(reading: Reading) -> None:
    """Who asks is told of all that has come; nothing, as long as some of it was not looked at."""
    reading.write(DATAGRAMS[:50] + DATAGRAMS[51:100])
    with mock.patch.object(module, "SHARE", 0.0):  # a piece at a time
        assert reading.walk.continuity_errors() is None
    reading.see(99)
    found = reading.walk.continuity_errors()
    assert found == reading.counts.errors["Continuity_count_error"] > 0


def test_the_ingest_is_read_between_two_pieces(reading: Reading) -> None:
    """However much there is to see, the priority reader gets in between."""
    seen = list[int]()
    reading.loop.add_priority_reader(lambda: seen.append(reading.walk.monitor.datagrams))
    reading.seen(IN_RTP)
    steps = [after - before for before, after in pairwise(seen)]
    assert max(steps) <= len(IN_RTP) / 3
