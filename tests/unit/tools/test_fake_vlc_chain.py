"""The links between a file and the network, without either: pace, loop, RTP, faults, schedule."""

import argparse
import io
import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relaylib.media import mpegts, rtp
from relaylib.media.mpegts import PCR_WRAP, PTS_WRAP
from tests.unit.media.streams import MS, pes, stream, ts_packet
from tools.fake_vlc import SAMPLE, Options, parse
from tools.replay.faults import Done, Faults, inject
from tools.replay.pacing import MAX_HELD, Timed, at_bitrate, datagrams, in_rtp, paced
from tools.replay.program import Interruption, Progress, ReplayError, bitrate, probability
from tools.replay.restamp import Restamper
from tools.replay.sender import MAX_LAG_NS, Schedule, Sender
from tools.replay.transport import TransportFile

PLAIN = ts_packet(payload=b"x")


def times(packets: list[bytes]) -> list[float]:
    """Return when each packet is due, in milliseconds."""
    return [round(due / 1e6, 6) for due, _ in paced(packets)]


def test_spreads_packets_between_clock_readings() -> None:
    """Packets between two PCRs are evenly spaced; those outside keep the nearest spacing."""
    packets = [PLAIN, ts_packet(pcr=0), *[PLAIN] * 3, ts_packet(pcr=40 * MS), PLAIN]
    packets += [ts_packet(pcr=50 * MS), PLAIN]
    assert times(packets) == [0, 10, 20, 30, 40, 50, 55, 60, 65]


def test_the_clock_may_wrap() -> None:
    """The PCR starts again at 0 every 26.5 hours, and the pace does not notice."""
    clocks = [(PCR_WRAP + ms * MS) % PCR_WRAP for ms in (-20, -10, 0, 10)]
    assert times([ts_packet(pcr=clock) for clock in clocks]) == [0, 10, 20, 30]


@pytest.mark.parametrize("step", [-1000, 3_600_000, 7])
def test_a_jump_of_the_clock_is_bridged(step: int) -> None:
    """Across a jump, announced or not, the pace goes on at the rate before it."""
    packets = [ts_packet(pcr=(ms + 2000) * MS) for ms in (0, 10, 20)]
    packets += [ts_packet(pcr=(ms + 2020 + step) * MS, jump=step == 7) for ms in (0, 10)]
    assert times(packets) == [0, 10, 20, 30, 40]


def test_follows_the_clock_of_one_program_while_it_lasts() -> None:
    """A second program's PCR does not disturb the first's, and is followed when that ends."""
    both = [ts_packet(pcr=ms * MS, pid=pid) for ms in (0, 10, 20) for pid in (256, 512)]
    assert times(both) == [0, 5, 10, 15, 20, 25]
    ended = [ts_packet(pcr=ms * MS) for ms in (0, 10)] + [PLAIN] * (MAX_HELD + 5)
    due = times(ended + [ts_packet(pcr=ms * MS, pid=512) for ms in (0, 4, 8)])
    assert due[-1] - due[-2] == pytest.approx(4)


@pytest.mark.parametrize("clocks", [[], [0], [5, 5, 5]])
def test_without_a_clock_the_remedy_is_named(clocks: list[int]) -> None:
    """A stream with no PCR, with one, or with one that stands still is refused with a hint."""
    with pytest.raises(ReplayError, match="--bitrate"):
        times([PLAIN] * 10 + [ts_packet(pcr=value) for value in clocks])


def test_no_clock_is_noticed_before_memory_is_full() -> None:
    """The wait for a PCR is bounded, not as long as the file."""
    with pytest.raises(ReplayError, match="--bitrate"):
        next(paced(itertools.repeat(PLAIN)))


def test_a_constant_rate_needs_no_clock() -> None:
    """At a given bit rate each packet is due when those before it have been sent."""
    due = [when for when, _ in at_bitrate([PLAIN] * 4, 188 * 8 * 1000)]
    assert due == [0, 1_000_000, 2_000_000, 3_000_000]


def test_packs_seven_packets_to_a_datagram() -> None:
    """A datagram has 1316 bytes and the time of its first packet; the last may be shorter."""
    packets = stream(16)
    packed = list(datagrams(enumerate(packets)))
    assert [(due, len(data)) for due, data in packed] == [(0, 1316), (7, 1316), (14, 376)]
    assert b"".join(data for _, data in packed) == b"".join(packets)


def test_rtp_headers_say_what_a_receiver_needs() -> None:
    """Payload type 33, one SSRC, and 90 kHz time stamps and sequence numbers that wrap."""
    plain = [(index * 40_000_000, PLAIN) for index in range((1 << 16) + 2)]
    wrapped = list(in_rtp(plain, random.Random(0)))
    assert [(due, sent[rtp.HEADER_SIZE :]) for due, sent in wrapped] == plain
    found = [packet for _, sent in wrapped if (packet := rtp.parse(sent))]
    assert len(found) == len(plain)
    first = found[0]
    assert {packet[:2] for packet in found} == {(False, 33)}
    assert {packet.ssrc for packet in found} == {first.ssrc}
    for index, packet in enumerate(found):
        assert packet.sequence == (first.sequence + index) % 2**16
        assert packet.timestamp == (first.timestamp + index * 3600) % 2**32


@pytest.mark.parametrize("payload", [b"", b"\x80\x21" + bytes(186), PLAIN[:-1], PLAIN + b"x"])
def test_rtp_refuses_what_is_no_transport_stream(payload: bytes) -> None:
    """Wrapping RTP in RTP, or anything else but packets, is an error and not a broken stream."""
    with pytest.raises(ReplayError, match="--rtp"):
        list(in_rtp([(0, payload)], random.Random()))


def test_garbage_is_skipped_and_counted_but_not_without_end() -> None:
    """A few bytes that are no packets are passed over; a file that never has any is given up."""
    file = TransportFile(io.BytesIO(b"garbage" + PLAIN * 9 + b"end"), loop=False)
    assert list(file) == [PLAIN] * 9
    assert file.skipped == 10
    with Path("/dev/zero").open("rb") as zeros, pytest.raises(ReplayError, match="no MPEG-TS"):
        next(iter(TransportFile(zeros, loop=False)))


def looped(packets: list[bytes], passes: int) -> list[bytes]:
    """Return what a loop sends of `packets`."""
    restamper, out = Restamper(), list[bytes]()
    for _ in range(passes):
        out += map(restamper.rewrite, packets)
        restamper.rewind()
    return out


def test_clocks_and_counters_go_on_over_the_seam() -> None:
    """In every pass PCR, PTS and DTS are one period later and counters continue, over the wrap."""
    start = PTS_WRAP - 9000  # 0.1 s before the wrap
    packets = []
    for index in range(4):  # a frame every 3600 ticks, 40 ms
        ticks = (start + index * 3600) % PTS_WRAP
        packets.append(ts_packet(pcr=ticks * 300 + 17, counter=3))
        frame = pes((ticks + 7200) % PTS_WRAP, (ticks + 3600) % PTS_WRAP)
        packets.append(ts_packet(counter=4 + index, payload=frame, start=True))
    out = looped(packets, 3)
    ticks_due = [(start + index * 3600) % PTS_WRAP for index in range(13)]
    assert [mpegts.pcr(packet) for packet in out[::2]] == [
        ticks * 300 + 17 for ticks in ticks_due[:12]
    ]
    assert [packet[-34:] for packet in out[1::2]] == [
        pes((dts + 3600) % PTS_WRAP, dts)[-34:] for dts in ticks_due[1:]
    ]
    counters = [mpegts.counter(packet) for packet in out if mpegts.has_payload(packet)]
    assert counters == [(4 + index) % 16 for index in range(12)]


def test_pictures_that_outlast_the_clock_lengthen_the_period() -> None:
    """If the last picture ends after the last PCR's interval, the next pass waits for it."""
    frames = [ts_packet(payload=pes(90 * ms, 90 * ms), start=True) for ms in (0, 40, 80, 120)]
    out = looped([ts_packet(pcr=0), ts_packet(pcr=40 * MS), *frames], 2)
    assert mpegts.pcr(out[6]) == 160 * MS


def test_tables_and_private_data_are_not_taken_for_times() -> None:
    """What only looks like a PES header, or is scrambled, is left as it is."""
    private = ts_packet(pid=300, payload=pes(0, 0, stream=0xBF), start=True)
    scrambled = ts_packet(pid=301, payload=pes(0, 0), start=True, scrambled=True)
    out = looped([ts_packet(pcr=0), ts_packet(pcr=40 * MS), private, scrambled], 2)
    assert [packet[4:] for packet in out[6:]] == [private[4:], scrambled[4:]]


@settings(deadline=None)
@given(st.lists(st.binary(min_size=187, max_size=187).map(lambda body: b"G" + body), max_size=9))
@example([ts_packet(pcr=0), ts_packet(pcr=MS), ts_packet(pcr=0, jump=True)])
def test_arbitrary_packets(packets: list[bytes]) -> None:
    """Whatever is in the packets, a loop keeps their size, and times never run back."""
    out = looped(packets, 2)
    assert out[: len(packets)] == packets
    assert {len(packet) for packet in out} <= {188}
    try:
        due = [when for when, _ in datagrams(paced(out))]
    except ReplayError:
        return
    assert due == sorted(due)


NUMBERED: list[Timed] = [(index * 10**6, index.to_bytes(4, "big")) for index in range(10_000)]


def numbers(timed: Sequence[tuple[int, bytes | None]]) -> list[int]:
    """Return the numbers of the datagrams that are left, in the order of sending."""
    return [int.from_bytes(payload, "big") for _, payload in timed if payload is not None]


def test_faults_happen_as_often_as_asked() -> None:
    """Drops, duplicates and swaps come at their rates, are counted, and are nothing else."""
    assert list(inject(NUMBERED, Faults(), random.Random(), Done())) == NUMBERED
    done = Done()
    faults = Faults(drop=0.1, duplicate=0.05, reorder=0.02)
    sent = numbers(list(inject(NUMBERED, faults, random.Random(3), done)))
    assert 900 < done.dropped < 1100
    assert 400 < done.duplicated < 500
    assert 140 < done.reordered < 220
    assert len(sent) == 10_000 - done.dropped + done.duplicated
    assert len(set(sent)) == 10_000 - done.dropped
    assert sum(a > b for a, b in itertools.pairwise(sent)) > 100
    assert all(abs(a - b) < 10 for a, b in zip(sent, sorted(sent), strict=True))


def test_the_same_seed_makes_the_same_faults() -> None:
    """A seed repeats a replay exactly; another one does not; more faults do not move the drops."""
    faults = Faults(drop=0.1, duplicate=0.1, reorder=0.1, jitter=0.02)
    first, again, other = (
        list(inject(NUMBERED, faults, random.Random(seed), Done())) for seed in (1, 1, 2)
    )
    assert first == again != other
    drops = list(inject(NUMBERED, Faults(drop=0.1), random.Random(1), Done()))
    assert set(numbers(drops)) == set(numbers(first))


def test_a_reordered_datagram_comes_after_the_next() -> None:
    """With every other datagram held back, pairs swap; the last one is not lost."""

    class EveryOther(random.Random):
        """Reorders the datagrams 0, 2, 4: the third draw of four decides."""

        draws = 0

        def random(self) -> float:
            self.draws += 1
            return 0.0 if self.draws % 8 == 3 else 0.9

    sent = numbers(list(inject(NUMBERED[:5], Faults(reorder=0.5), EveryOther(), Done())))
    assert sent == [1, 0, 3, 2, 4]


def test_jitter_delays_in_order_and_within_bounds() -> None:
    """Jitter moves datagrams later by up to its size and never swaps them."""
    jittered = list(inject(NUMBERED, Faults(jitter=0.005), random.Random(4), Done()))
    delays = [late - due for (late, _), (due, _) in zip(jittered, NUMBERED, strict=True)]
    assert numbers(jittered) == list(range(10_000))
    assert min(delays) >= 0
    assert 4_500_000 < max(delays) <= 5_000_000
    assert [late for late, _ in jittered] == sorted(late for late, _ in jittered)


@pytest.mark.parametrize("faults", [Faults(drop=1), Faults(reorder=1)])
def test_what_is_not_sent_takes_its_time(faults: Faults) -> None:
    """Dropping or holding back everything leaves the pace as it was, and holds a few only."""
    done, places = Done(), 0
    for _, payload in inject(NUMBERED[:100], faults, random.Random(0), done):
        places += payload is None
    assert places == done.dropped + done.reordered >= 90


def test_deadlines_are_absolute() -> None:
    """A late datagram does not make the next one late: errors of sleeping do not add up."""
    schedule = Schedule()
    assert schedule.wait(0, 1000) == 0
    assert schedule.wait(10_000_000, 1000 + 14_000_000) == -4_000_000
    assert schedule.wait(20_000_000, 1000 + 14_000_000) == 6_000_000
    assert schedule.stalled == 0


def test_a_long_stall_moves_the_rest_instead_of_bursting() -> None:
    """What a stall delayed beyond a player's patience is not made up for, and is counted."""
    schedule = Schedule()
    schedule.wait(0, 0)
    stall = MAX_LAG_NS + 1
    assert schedule.wait(0, stall) == -stall
    assert schedule.wait(20_000_000, stall) == 20_000_000
    assert schedule.stalled == stall


class ImpatientInterruption(Interruption):
    """A signal comes during the first wait."""

    def wait(self, timeout: float | None, readable: object = None) -> bool:
        super().wait(0)
        self.waited = timeout
        self.signum = 2
        return False


def test_a_gap_of_centuries_is_waited_for_and_can_be_interrupted() -> None:
    """However far off the next datagram is, the wait is one that the system can do."""
    with Sender("127.0.0.1", 9) as sender, ImpatientInterruption() as interruption:
        sender.replay([(0, None), (1 << 90, b"x")], interruption, Progress())
        assert sender.sent == 0
        assert interruption.waited == 3600


def test_rates_and_probabilities_are_written_as_people_do() -> None:
    """k, M and G are powers of 1000, 2% is 0.02, and nonsense is an error."""
    texts = ("5M", "500k", "64000", "1.5m", "1G", "2K")
    assert [bitrate(text) for text in texts] == [5e6, 5e5, 64000, 1.5e6, 1e9, 2000]
    assert probability("0.02") == probability("2%") == 0.02
    for kind, wrong in (
        (bitrate, ("", "M", "5T", "-5M", "0", "1e6", "5 M", "nan", "9999999G")),
        (probability, ("1.1", "101%", "-0.1", "nan", "x", "%")),
    ):
        for text in wrong:
            with pytest.raises(argparse.ArgumentTypeError):
                kind(text)


def where(options: Options) -> tuple[str, int, Path]:
    """Return what the positional arguments chose."""
    return options.host, options.port, options.file


def test_host_port_and_file_may_each_be_left_out() -> None:
    """One word is a file, two are HOST PORT; of three the file is last or first."""
    film = Path("film.ts")
    assert where(parse([])) == ("127.0.0.1", 9000, SAMPLE)
    assert where(parse(["film.ts"])) == ("127.0.0.1", 9000, film)
    assert where(parse(["h", "1234"])) == ("h", 1234, SAMPLE)
    assert where(parse(["h", "1234", "film.ts"])) == ("h", 1234, film)
    assert where(parse(["film.ts", "h", "1234"])) == ("h", 1234, film)
    assert where(parse(["h", "--loop", "1234", "--rtp", "film.ts"])) == ("h", 1234, film)
