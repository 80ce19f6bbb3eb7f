"""A real stream remuxed as it is, and damaged in every way: what browsers need always holds."""

from collections.abc import Iterable
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from relaylib.media import mpegts
from relaylib.media.mpegts import PACKET_SIZE, PTS_HZ, PTS_WRAP
from relaylib.mp4.remuxer import AUDIO, VIDEO, Fragment, Init, Output, Remuxer, Unplayable
from tests.unit.media import streams
from tests.unit.mp4 import mp4
from tools.lab.process import ROOT

SECONDS, RATE, GOP = 8, 25, 25
PICTURES, FRAMES = 200, 375
AUDIO_PID, VIDEO_PID = 0x101, 0x100


@cache
def sample() -> tuple[bytes, ...]:
    """The packets of the sample: H.264 and AAC, an entry point each second."""
    data = (ROOT / "tools/sample/sample.ts").read_bytes()
    return tuple(data[at : at + PACKET_SIZE] for at in range(0, len(data), PACKET_SIZE))


def restamped(packets: Iterable[bytes], ticks: int) -> list[bytes]:
    """Move all PTS and DTS."""
    moved = []
    for packet in packets:
        changed = bytearray(packet)
        header = mpegts.pes_header(packet)
        for at in header.stamps if header else ():
            value = (mpegts.stamp(packet, at) + ticks) % PTS_WRAP
            changed[at : at + 5] = streams.stamp(packet[at] >> 4, value)
        moved.append(bytes(changed))
    return moved


def remux(packets: Iterable[bytes], datagram: int = 7) -> list[Output]:
    """Remux whole streams; several packets at a time."""
    remuxer, packets, out = Remuxer(), list(packets), list[Output]()
    for at in range(0, len(packets), datagram):
        out += remuxer.feed(b"".join(packets[at : at + datagram]))
    return out + remuxer.finish()


def inits(out: Iterable[Output]) -> list[Init]:
    """Pick the init segments."""
    return [each for each in out if isinstance(each, Init)]


def tracks(out: Iterable[Output]) -> dict[int, list[mp4.Sample]]:
    """Read all fragments, and check what holds in all of them: decode times without a hole."""
    found: dict[int, list[mp4.Sample]] = {VIDEO: [], AUDIO: []}
    for each in out:
        if isinstance(each, Init):
            mp4.walk(each.data)
        elif isinstance(each, Fragment):
            for number, samples in mp4.samples(each.data).items():
                if found[number]:
                    last = found[number][-1]
                    assert samples[0].time == last.time + last.duration
                found[number] += samples
                assert all(s.duration > 0 and s.offset >= 0 and s.data for s in samples)
            if each.random_access:
                first = next(iter(mp4.samples(each.data).values()))
                assert first[0].sync
    return found


def shown(samples: Iterable[mp4.Sample]) -> list[int]:
    """When each is shown."""
    return [sample.time + sample.offset for sample in samples]


def without(pid: int, packets: Iterable[bytes]) -> list[bytes]:
    """Leave out a PID."""
    return [packet for packet in packets if mpegts.pid(packet) != pid]


def test_a_stream_becomes_an_init_segment_and_fragments() -> None:
    """All samples are there, each at its time; fragments are short, and begin where they say."""
    out = remux(sample())
    first, *fragments = out
    assert isinstance(first, Init)
    assert first.mime == 'video/mp4; codecs="avc1.4d401e, mp4a.40.2"'
    assert not first.discontinuity
    assert all(isinstance(each, Fragment) and each.duration <= 0.25 for each in fragments[1:])
    found = tracks(out)
    assert len(found[VIDEO]) == PICTURES
    assert FRAMES - 2 <= len(found[AUDIO]) <= FRAMES
    assert sorted(shown(found[VIDEO])) == list(
        range(min(shown(found[VIDEO])), PICTURES * 3600 + min(shown(found[VIDEO])), 3600)
    )
    assert sum(each.random_access for each in fragments if isinstance(each, Fragment)) == SECONDS
    assert [s.sync for s in found[VIDEO]] == [place % GOP == 0 for place in range(PICTURES)]


@pytest.mark.parametrize("datagram", [1, 5, 64, 5000])
def test_how_the_stream_was_cut_makes_no_difference(datagram: int) -> None:
    """The same bytes come out, whatever number of packets goes in at a time."""
    assert remux(sample(), datagram) == remux(sample())


def test_stamps_that_wrap() -> None:
    """After 26.5 hours stamps begin at 0 again; nobody notices."""
    for early in (1, 3 * PTS_HZ):
        moved = restamped(sample(), -2 * PTS_HZ - early)
        assert tracks(remux(moved)) == tracks(remux(sample()))


@pytest.mark.parametrize("jump", [-SECONDS, -3, 11, 3600])
def test_a_clock_that_jumps(jump: int) -> None:
    """A new init segment says so; picture and sound go on together, without a hole."""
    again = restamped(sample(), (SECONDS + jump) * PTS_HZ)
    out = remux([*sample(), *again])
    assert [each.discontinuity for each in inits(out)] == [False, True]
    found = tracks(out)
    assert 2 * PICTURES - 1 <= len(found[VIDEO]) <= 2 * PICTURES
    assert len(found[AUDIO]) > 2 * FRAMES - 20
    times = sorted(shown(found[VIDEO]))
    assert max(b - a for a, b in pairwise(times)) <= 3 * 3600
    assert abs(shown(found[AUDIO])[-1] / 48000 - times[-1] / PTS_HZ) < 0.3


def test_another_source() -> None:
    """After `begin_anew` another stream follows, whatever its tables and its stamps."""
    remuxer = Remuxer()
    before = remuxer.feed(b"".join(sample()))
    before += remuxer.begin_anew()
    after = remuxer.feed(b"".join(without(AUDIO_PID, sample()))) + remuxer.finish()
    assert inits(after)[0].discontinuity
    assert inits(after)[0].mime == 'video/mp4; codecs="avc1.4d401e"'
    assert len(tracks([*before, *after])[VIDEO]) == 2 * PICTURES - 1


def test_sound_that_does_not_come_or_stops() -> None:
    """Pictures wait for it a second, no longer; where it ends, they go on without."""
    silent = remux(without(AUDIO_PID, sample()))
    assert [each.mime for each in inits(silent)] == ['video/mp4; codecs="avc1.4d401e"']
    assert len(tracks(silent)[VIDEO]) == PICTURES
    half = len(sample()) // 4
    stops = remux([*sample()[:half], *without(AUDIO_PID, sample()[half:])])
    assert [each.mime.count("mp4a") for each in inits(stops)] == [1, 0]
    assert not any(each.discontinuity for each in inits(stops))
    assert len(tracks(stops)[VIDEO]) == PICTURES
    begins = remux([*without(AUDIO_PID, sample()[:half]), *sample()[half:]])
    assert [each.mime.count("mp4a") for each in inits(begins)] == [0, 1]


def test_sound_alone() -> None:
    """A program without picture is played, each fragment a place to begin."""
    tables = [
        streams.table_packet(0, streams.pat({1: 0x1000})),
        streams.table_packet(0x1000, streams.pmt(1, AUDIO_PID, {AUDIO_PID: 0x0F})),
    ]
    sound = [packet for packet in sample() if mpegts.pid(packet) == AUDIO_PID]
    out = remux([*tables, *sound])
    assert [each.mime for each in inits(out)] == ['audio/mp4; codecs="mp4a.40.2"']
    assert all(each.random_access for each in out if isinstance(each, Fragment))
    assert len(tracks(out)[AUDIO]) == FRAMES
    again = remux([*tables, *sound, *sound])
    assert [each.discontinuity for each in inits(again)] == [False, True]
    assert len(tracks(again)[AUDIO]) >= 2 * FRAMES - 1


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ({0x100: 0x02, 0x101: 0x0F}, "MPEG-2 video"),
        ({0x100: 0x10}, "MPEG-4 video"),
        ({0x101: 0x81}, "AC-3"),
        ({0x101: 0x03}, "MP2"),
    ],
)
def test_what_no_browser_plays(types: dict[int, int], expected: str) -> None:
    """It is named once, and nothing else comes."""
    mp2 = streams.pes(90000, 90000, 0xC0)[:-20] + bytes.fromhex("fffd8400") * 30
    packets = [
        streams.table_packet(0, streams.pat({1: 0x1000})),
        streams.table_packet(0x1000, streams.pmt(1, 0x100, dict(types))),
        *(streams.plain_packet(0x101, n, mp2, start=True) for n in range(3)),
    ]
    assert remux([*packets, *packets]) == [Unplayable(expected)]


def test_sound_that_no_browser_plays_is_left_out() -> None:
    """The picture is played without, and the init segment names what is missing."""
    pmt = streams.pmt(1, VIDEO_PID, {VIDEO_PID: 0x1B, 0x102: 0x81, 0x103: 0x06}, 5)
    tables = {0x1000: streams.table_packet(0x1000, pmt)}
    out = remux(tables.get(mpegts.pid(packet), packet) for packet in sample())
    assert [each.unplayable for each in inits(out)] == [("AC-3",)]
    assert len(tracks(out)[VIDEO]) == PICTURES


def test_after_a_loss_pictures_go_on_where_decoding_can_start() -> None:
    """Browsers give up at a picture that needs a lost one; sound goes on at once."""
    whole = tracks(remux(sample()))
    lost = next(n for n in range(2000, 4000) if mpegts.pid(sample()[n]) == VIDEO_PID)
    found = tracks(remux([*sample()[:lost], *sample()[lost + 1 :]]))
    missing = set(whole[VIDEO]) - {s._replace(duration=3600) for s in found[VIDEO]}
    assert 0 < len(missing) <= GOP
    gap = next(n for n, s in enumerate(found[VIDEO]) if s.duration > 3600)
    assert found[VIDEO][gap].sync
    assert set(shown(found[VIDEO])) <= set(shown(whole[VIDEO]))
    assert found[AUDIO] == whole[AUDIO]


def test_a_long_time_without_a_picture_is_a_new_beginning() -> None:
    """No sample has to last for all the time in which nothing could be decoded."""
    lost = next(n for n in range(800, 4000) if mpegts.pid(sample()[n]) == VIDEO_PID)
    out = remux([*sample()[:lost], *restamped(sample()[lost + 1 :], 10 * PTS_HZ - 9000)])
    assert [each.discontinuity for each in inits(out)] == [False, True]
    assert max(s.duration for s in tracks(out)[VIDEO]) <= PTS_HZ


def test_a_gap_in_sound_keeps_it_with_the_picture() -> None:
    """What is lost is not made up for: all other frames are heard when they were meant to."""
    whole = tracks(remux(sample()))
    places = [n for n, packet in enumerate(sample()) if mpegts.pid(packet) == AUDIO_PID]
    lost = set(places[100:140])
    found = tracks(remux(p for n, p in enumerate(sample()) if n not in lost))
    assert found[VIDEO] == whole[VIDEO]
    assert 20 < len(whole[AUDIO]) - len(found[AUDIO]) < 80
    meant = {s.data: at for s, at in zip(whole[AUDIO], shown(whole[AUDIO]), strict=True)}
    for each, at in zip(found[AUDIO], shown(found[AUDIO]), strict=True):
        assert abs(meant[each.data] - at) <= 2


LESS = settings(max_examples=40)


@LESS
@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 60)), max_size=8))
def test_lost_packets(losses: list[tuple[int, int]]) -> None:
    """Wherever packets are lost, what comes out is whole, and shown when it was meant to be."""
    lost = {at + n for at, count in losses for n in range(count)}
    assume(not _unseen(lost))
    found = tracks(remux(packet for n, packet in enumerate(sample()) if n not in lost))
    whole = {s.data for s in _whole()[VIDEO]}
    assert {s.data for s in found[VIDEO]} <= whole


def _unseen(lost: set[int]) -> bool:
    """Tell whether 16 packets of a PID are lost in a row, which its counter does not show."""
    runs = dict[int, int]()
    for number, packet in enumerate(sample()):
        pid = mpegts.pid(packet)
        if number in lost:
            runs[pid] = runs.get(pid, 0) + 1
        elif runs.pop(pid, 1) % 16 == 0:
            return True
    return False


@cache
def _whole() -> dict[int, list[mp4.Sample]]:
    return tracks(remux(sample()))


@LESS
@given(
    st.lists(
        st.tuples(st.integers(0, 1000), st.integers(0, PACKET_SIZE - 1), st.binary(max_size=188)),
        max_size=30,
    )
)
def test_damaged_packets(damages: list[tuple[int, int, bytes]]) -> None:
    """No damage makes it fail, and what comes out can be read and goes on without a hole."""
    packets = list(sample()[:1200])
    for number, at, junk in damages:
        packets[number] = (packets[number][:at] + junk + packets[number][at:])[:PACKET_SIZE]
    tracks(remux(packets))


@given(st.lists(st.binary(max_size=400), max_size=10), st.booleans())
def test_arbitrary_bytes(pieces: list[bytes], behind: bool) -> None:
    """Whatever is fed, of any size, nothing fails."""
    remuxer = Remuxer()
    out = remuxer.feed(b"".join(sample()[:400])) if behind else []
    for piece in pieces:
        out += remuxer.feed(memoryview(piece))
    tracks([*out, *remuxer.finish()])


@LESS
@given(st.lists(st.integers(0, 1199), min_size=1, max_size=400), st.integers(1, 9))
def test_any_order(order: list[int], datagram: int) -> None:
    """Packets doubled, left out and turned around: times still only rise."""
    tracks(remux((sample()[n] for n in order), datagram))
