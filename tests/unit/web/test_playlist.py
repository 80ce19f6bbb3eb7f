"""The playlist against the rules of RFC 8216 that it uses, while it slides, breaks and travels."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.lifecycle import codec
from relaylib.media.mpegts import PTS_HZ, PTS_WRAP
from relaylib.net.loop import Loop
from relaylib.web.playlist import LEAST, TARGET, Mark, Playlist
from tests.unit.media import streams

EPOCH = 1_700_000_000.0
WINDOW = 30
"""Marks behind which segments leave the track, in these tests."""


@dataclass
class Listed:
    """A segment as a player reads it: with its numbers, and the lines that are its own."""

    uri: str
    duration: float
    discontinuities: int
    lines: list[str]


@dataclass
class Read:
    """A playlist as a player reads it."""

    target: int
    sequence: int
    segments: dict[int, Listed]


def read(text: str) -> Read:
    """Read a playlist, and insist on what each must be."""
    assert text.endswith("\n")
    first, *lines = text.splitlines()
    assert first == "#EXTM3U"  # 4.3.1.1
    assert lines[0] == "#EXT-X-VERSION:3"  # 4.3.1.2 and 7: EXTINF has fractions
    assert lines[4] == "#EXT-X-INDEPENDENT-SEGMENTS"  # 4.3.5.1
    names = ("TARGETDURATION", "MEDIA-SEQUENCE", "DISCONTINUITY-SEQUENCE")
    values = [
        int(line.removeprefix(f"#EXT-X-{name}:"))
        for name, line in zip(names, lines[1:4], strict=True)
    ]
    found, own, discontinuities, sequence = {}, list[str](), values[2], values[1]
    for line in lines[5:]:
        own.append(line)
        discontinuities += line == "#EXT-X-DISCONTINUITY"
        if not line.startswith("#"):
            extinf = next(each for each in own if each.startswith("#EXTINF:"))
            duration = float(extinf.removeprefix("#EXTINF:").rstrip(","))
            assert int(duration + 0.5) <= values[0]  # 4.3.3.1
            assert sum(each.startswith("#EXT-X-PROGRAM-DATE-TIME:") for each in own) == 1
            found[sequence] = Listed(line, duration, discontinuities, own)
            own, sequence = [], sequence + 1
    assert not own
    assert found
    return Read(values[0], values[1], found)


def check_update(before: Read, after: Read) -> None:
    """Insist on what a server may change (6.2.1, 6.2.2)."""
    assert after.sequence >= before.sequence
    assert max(after.segments) >= max(before.segments)
    for number in before.segments.keys() & after.segments.keys():
        assert after.segments[number] == before.segments[number]
    names = {each.uri: number for number, each in before.segments.items()}
    for number, each in after.segments.items():
        assert names.get(each.uri, number) == number
    assert after.target >= before.target


class Source:
    """Makes marks: so many seconds after the one before, in stream time and on the clock."""

    def __init__(self) -> None:
        self.time, self.stamp, self.number = 5.0, PTS_WRAP - 100_000, 0

    def mark(
        self,
        step: float,
        jump: float = 0.0,
        pause: float = 0.0,
        cut: bool = False,
        tables: bytes = b"tables",
    ) -> Mark:
        """Go on by `step` seconds; the clock jumps, nothing comes for a while, another begins."""
        before = self.time + step
        self.time = before + pause
        self.stamp = (self.stamp + round((step + jump) * PTS_HZ)) % PTS_WRAP
        self.number += 10
        ended = self.number - 5 if cut or pause else None
        return Mark(self.number, self.time, self.stamp, tables, before, ended)


def travelled(playlist: Playlist) -> Playlist:
    """Let a playlist go through a reload."""
    copy: Playlist = codec.read(Playlist, json.loads(codec.encode(playlist)))
    assert copy == playlist
    return copy


def told(playlist: Playlist, since: float = 0.0) -> Read | None:
    """Read what a playlist tells at this moment, if it tells anything."""
    listed = playlist.listed(since)
    return read(playlist.text(listed, "hls/", Loop.dated)) if listed else None


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("go on"), st.floats(0.04, 12.0)),
        st.tuples(st.just("jump"), st.floats(2.0, 10_000.0)),
        st.tuples(st.just("source"), st.floats(0.04, 3.0)),
        st.tuples(st.just("pause"), st.floats(1.5, 100.0)),
        st.tuples(st.sampled_from(["ask", "reload"]), st.just(0.0)),
    ),
    max_size=60,
)


@given(EVENTS)
def test_it_obeys_whatever_comes(events: Sequence[tuple[str, float]]) -> None:
    """However the source behaves: numbers only grow, and what was said of a segment stays true."""
    source, playlist = Source(), Playlist("run")
    before: Read | None = None
    lengths = set[int]()
    for what, value in events:
        if what == "go on":
            playlist.take(source.mark(value), EPOCH)
        elif what == "jump":
            playlist.take(source.mark(1.0, jump=value), EPOCH)
        elif what == "source":
            playlist.take(source.mark(value, cut=True), EPOCH)
        elif what == "pause":
            playlist.take(source.mark(1.0, pause=value), EPOCH)
        elif what == "reload":
            playlist = travelled(playlist)
        else:
            now = told(playlist, source.time - 40.0)
            if before is not None and now is not None:
                check_update(before, now)
                assert now.target in {before.target, *lengths}
            before = now or before
        lengths |= {int(each.duration + 0.5) for each in playlist.segments[-1:]}
        playlist.forget(source.number - 10 * WINDOW)


@pytest.mark.parametrize(
    ("gop", "expected"), [(0.4, 1.2), (0.5, 1.0), (0.96, 0.96), (1.0, 1.0), (2.0, 2.0), (5.0, 5.0)]
)
def test_segments_are_of_one_to_two_seconds(gop: float, expected: float) -> None:
    """They begin at the first keyframe after a second; if keyframes are rarer, at each."""
    source, playlist = Source(), Playlist("run")
    for _ in range(40):
        playlist.take(source.mark(gop), EPOCH)
    now = told(playlist)
    assert now is not None
    assert {round(each.duration, 2) for each in now.segments.values()} == {expected}
    assert now.target == max(TARGET, round(expected))
    assert expected >= LEAST


def test_the_target_duration_only_grows_for_a_longer_group() -> None:
    """It stays while segments are short, and is as long as the longest that there ever was."""
    source, playlist, targets = Source(), Playlist("run"), []
    for gop in (1.0, 1.0, 1.0, 9.6, 1.0, 1.0):
        playlist.take(source.mark(gop), EPOCH)
        now = told(playlist)
        targets.append(now.target if now else 0)
    assert targets == [0, 2, 2, 10, 10, 10]


def test_another_source_is_a_discontinuity_that_is_counted() -> None:
    """Its segment ends where the old stream did; when it leaves, the sequence has it (4.3.3.3)."""
    source, playlist = Source(), Playlist("run")
    for cut in (False, False, False, True, False, False, True, False):
        playlist.take(source.mark(1.0, cut=cut), EPOCH)
    breaks = [each.breaks for each in playlist.segments]
    assert breaks == [False, False, False, True, False, False, True]
    assert playlist.segments[2].end == 35
    assert playlist.segments[3].begin == 40
    everything = told(playlist)
    assert everything is not None
    for first in range(7):
        playlist.forget(10 * first + 10)
        rest = told(playlist)
        assert rest is not None
        assert rest.sequence == first
        for number, each in rest.segments.items():
            assert each == everything.segments[number]


@pytest.mark.parametrize("jump", [-5000.0, -1.5, 3.0, 40_000.0])
def test_a_clock_that_jumps_is_a_discontinuity(jump: float) -> None:
    """Forwards or backwards, at once; that it wraps around is none."""
    source, playlist = Source(), Playlist("run")
    for step in range(6):
        playlist.take(source.mark(1.0, jump=jump if step == 4 else 0.0), EPOCH)
    assert [each.breaks for each in playlist.segments] == [False, False, False, False, True]
    assert {round(each.duration, 3) for each in playlist.segments} == {1.0}


def test_other_streams_are_a_discontinuity() -> None:
    """Where the encoder adds sound (4.3.2.3); that tables come again, and are counted, is none."""
    source, playlist = Source(), Playlist("run")
    video = {0x100: 0x1B}
    for step, has in enumerate([video, video, video | {0x101: 0x0F}, video | {0x101: 0x0F}]):
        table = streams.table_packet(0x1000, streams.pmt(1, 0x100, {**has}, step // 2), step)
        tables = streams.table_packet(0, streams.pat({1: 0x1000}), step) + table
        playlist.take(source.mark(1.0, tables=tables), EPOCH)
    assert [each.breaks for each in playlist.segments] == [False, False, True]
    assert playlist.segments[1].end == playlist.segments[2].begin


def test_dates_go_on_evenly_and_follow_the_clock() -> None:
    """Within a timeline they add up; after a pause they are those of arrival (4.3.2.6)."""
    source, playlist = Source(), Playlist("run")
    for pause in (0.0, 0.0, 0.0, 7.25, 0.0):
        playlist.take(source.mark(1.0, pause=pause), EPOCH)
    now = told(playlist)
    assert now is not None
    dates = [
        each.lines[-3].removeprefix("#EXT-X-PROGRAM-DATE-TIME:") for each in now.segments.values()
    ]
    assert dates == [
        "2023-11-14T22:13:26.000Z",
        "2023-11-14T22:13:27.000Z",
        "2023-11-14T22:13:28.000Z",
        "2023-11-14T22:13:36.250Z",
    ]


def test_what_was_not_followed_is_a_discontinuity() -> None:
    """If what a segment should consist of is gone before it ended, the next one stands alone."""
    source, playlist = Source(), Playlist("run")
    for _ in range(3):
        playlist.take(source.mark(1.0), EPOCH)
    source.mark(60.0)
    playlist.forget(source.number)
    assert told(playlist) is None
    for _ in range(2):
        playlist.take(source.mark(1.0), EPOCH)
    now = told(playlist)
    assert now is not None
    assert (now.sequence, now.segments[2].lines[0]) == (2, "#EXT-X-DISCONTINUITY")


def cut(arrivals: Sequence[float], stamps: Sequence[float]) -> Playlist:
    """Cut a stream with these marks."""
    playlist = Playlist("run")
    for number, (time, stamp) in enumerate(zip(arrivals, stamps, strict=True)):
        ticks = int(stamp * PTS_HZ) % PTS_WRAP
        playlist.take(Mark(number * 188, time, ticks, b"", time), EPOCH)
    return playlist


def test_what_was_held_up_and_comes_in_a_burst_goes_on() -> None:
    """A network stood still: segments are as long as their pictures say, without a break."""
    arrivals = [max(2.0 * n, 14.0) if 4 <= n < 8 else 2.0 * n for n in range(12)]
    segments = cut(arrivals, [2.0 * n for n in range(12)]).segments
    assert [each.duration for each in segments] == pytest.approx([2.0] * 11)
    assert not any(each.breaks for each in segments)


def test_what_was_late_hides_no_jump() -> None:
    """A clock that jumps further than what was held up is a break; so is one that jumps later."""
    late = [n + 5.0 * (n >= 3) for n in range(400)]
    stamps = [n + 7.0 * (n >= 4) + 3.0 * (n >= 395) for n in range(400)]
    broken = [each.sequence for each in cut(late, stamps).segments if each.breaks]
    assert broken == [4, 395]


def test_time_stamps_that_stand_still_tell_nothing() -> None:
    """Then segments are as long as they took to come."""
    segments = cut([1.0 * n for n in range(6)], [5.0] * 6).segments
    assert [each.duration for each in segments] == [1.0] * 5
