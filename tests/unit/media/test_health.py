"""The monitor: what was done to a stream on its way is what it finds, for a day and longer."""

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.media import mpegts, rtp
from relaylib.media.form import Form
from relaylib.media.health import Monitor, MonitorReport
from tests.unit.media.streams import pat, pes, pmt, table_packet, ts_packet
from tools.fake_vlc import SAMPLE
from tools.lab.media import continuity_errors, split_packets
from tools.replay.faults import Done, Faults, inject
from tools.replay.pacing import Timed, datagrams, in_rtp, paced
from tools.replay.transport import TransportFile


@pytest.fixture(scope="module", name="sample")
def fixture_sample() -> list[Timed]:
    """The sample's datagrams with their times."""
    packets = TransportFile(io.BytesIO(SAMPLE.read_bytes()), loop=False)
    return list(datagrams(paced(packets)))


def watched(timed: list[Timed]) -> MonitorReport:
    """Return the report on datagrams."""
    monitor = Monitor()
    for due, payload in timed:
        monitor.feed(memoryview(payload), due / 1e9)
    monitor.finish()
    return monitor.report()


def passed_on(timed: list[Timed], faults: Faults, seed: int) -> tuple[list[Timed], Done]:
    """Send datagrams through a network with faults; return what arrives, and what was done.

    The first and the last ones get through: what is lost there, no receiver can know.
    """
    done = Done()
    found = inject(timed[3:-3], faults, random.Random(seed), done)
    middle = [(due, payload) for due, payload in found if payload is not None]
    return [*timed[:3], *middle, *timed[-3:]], done


def test_a_stream_without_a_fault(sample: list[Timed]) -> None:
    """Bare or in RTP: the same programs and pictures, and healthy."""
    bare, wrapped = watched(sample), watched(list(in_rtp(iter(sample), random.Random(1))))
    assert (bare.form, wrapped.form) == (Form.TS, Form.RTP)
    assert bare.is_healthy
    assert wrapped.is_healthy
    assert bare.ts == wrapped.ts
    assert bare.ts is not None
    assert bare.ts.random_access.count == 8
    assert bare.ts.random_access.interval_s == pytest.approx(1, abs=0.01)
    assert bare.rtp is None


@pytest.mark.parametrize("seed", range(6))
def test_faults_in_rtp_are_found_exactly(sample: list[Timed], seed: int) -> None:
    """As many lost, reordered and duplicated as there were, each and all together."""
    sent = list(in_rtp(iter(sample), random.Random(seed)))
    for faults in (
        Faults(drop=0.02),
        Faults(reorder=0.02),
        Faults(duplicate=0.02),
        Faults(drop=0.03, reorder=0.03, duplicate=0.03, jitter=0.005),
    ):
        arrived, done = passed_on(sent, faults, seed)
        report = watched(arrived)
        assert report.rtp is not None
        assert report.ts is not None
        found = (report.rtp.lost, report.rtp.reordered, report.rtp.duplicated)
        assert found == (done.dropped, done.reordered, done.duplicated)
        assert report.is_healthy == (done.dropped == 0)
        assert (report.ts.tr_101_290["Continuity_count_error"] > 0) == (done.dropped > 0)


@pytest.mark.parametrize("seed", range(6))
def test_losses_without_rtp_are_found_by_their_gaps(sample: list[Timed], seed: int) -> None:
    """As many continuity errors as another counter of them finds."""
    arrived, done = passed_on(sample, Faults(drop=0.02, reorder=0.02), seed)
    report = watched(arrived)
    assert report.ts is not None
    expected = len(continuity_errors(split_packets(payload for _, payload in arrived)))
    assert report.ts.tr_101_290["Continuity_count_error"] == expected > done.dropped


def test_another_source_goes_on(sample: list[Timed]) -> None:
    """Another source may send in another form, and that is no fault."""
    monitor = Monitor()
    for due, payload in sample:
        monitor.feed(payload, due / 1e9)
    monitor.begin_anew()
    for due, payload in in_rtp(iter(sample), random.Random(1)):
        monitor.feed(payload, 8.03 + due / 1e9)
    report = monitor.report()
    assert report.form is Form.RTP
    assert report.is_healthy


def test_what_is_neither_is_counted_and_not_judged() -> None:
    """Nothing, noise, and RTP that carries something else."""
    nothing = watched([])
    assert (nothing.form, nothing.rtp, nothing.ts, nothing.is_healthy) == (None, None, None, False)
    noise = watched([(index * 10**9, b"noise") for index in range(5)])
    assert (noise.form, noise.datagrams, noise.bytes, noise.seconds) == (Form.OPAQUE, 5, 25, 4.0)
    assert (noise.ts, noise.is_healthy) == (None, False)
    other = [(index * 10**7, rtp.header(index, index * 900, 5, 96) + b"nal") for index in range(99)]
    found = watched(other)
    assert (found.form, found.ts, found.is_healthy) == (Form.RTP_OTHER, None, False)
    assert found.rtp is not None
    assert (found.rtp.payload_type, found.rtp.lost) == (96, 0)
    missing = watched(other[:50] + other[51:]).rtp
    assert missing is not None
    assert missing.lost == 1


@pytest.mark.parametrize("first", [0, 9, 4000, 40_000])
@pytest.mark.parametrize("ssrc", [5, 1], ids=["another", "the same"])
def test_fec_first_then_the_stream(sample: list[Timed], first: int, ssrc: int) -> None:
    """What came before is no part of it, nor what comes in between: nothing of it is lost.

    Whether FEC has an SSRC of its own or not, and wherever its sequence begins.
    """

    def fec(number: int, due: int) -> Timed:
        return due, rtp.header(first + number, 0, ssrc, 96) + bytes(1300)

    sent = [
        (due, rtp.header(5000 + number, due * 9 // 100_000, 1) + payload)
        for number, (due, payload) in enumerate(sample)
    ]
    mixed = [fec(number, sent[0][0]) for number in range(9)]
    for number, each in enumerate(sent, 9):
        mixed += [each, *([fec(number, each[0])] if number % 5 == 0 else [])]
    monitor = Monitor()
    for due, payload in mixed:
        monitor.feed(payload, due / 1e9)
    monitor.finish()
    report = monitor.report()
    assert report.rtp is not None
    assert (report.form, report.rtp.payload_type, report.rtp.ssrc) == (Form.RTP, rtp.MP2T, 1)
    assert (report.rtp.lost, report.rtp.reordered, report.rtp.duplicated) == (0, 0, 0)
    assert report.is_healthy
    assert monitor.foreign >= len(mixed) - len(sent) - 9
    alone = watched(sent).ts
    assert alone is not None
    assert report.ts is not None
    assert (report.ts.packets, report.ts.programs) == (alone.packets, alone.programs)


TABLES = (pat({1: 32}), pmt(1, 256, {256: 0x1B}))


@pytest.mark.long
@pytest.mark.timeout(300)  # of a core: 13 s
def test_a_day_of_wraps() -> None:
    """In 24 hours sequence numbers, time stamps, PCR and PTS all wrap, and nothing is wrong."""
    monitor, step, hours = Monitor(), 0.1, 24
    base = mpegts.PTS_WRAP - 12 * 3600 * mpegts.PTS_HZ
    wraps = (1 << 32) - 1000 * rtp.CLOCK_HZ
    for index in range(int(hours * 3600 / step)):
        ticks = (base + index * 9000) % mpegts.PTS_WRAP
        turn, part = divmod(index, 4)
        clock = ticks * 300
        data = [ts_packet(256, turn, pcr=clock)]
        if part == 0:
            data = [ts_packet(256, turn, pcr=clock, payload=pes(ticks, ticks), start=True)]
            pids = ((0, TABLES[0]), (32, TABLES[1]))
            data += [table_packet(pid, table, turn) for pid, table in pids]
        header = rtp.header(60_000 + index, wraps + index * 9000, 9)
        monitor.feed(header + b"".join(data), index * step)
    report = monitor.report()
    assert report.rtp is not None
    assert report.ts is not None
    assert report.is_healthy
    assert report.datagrams == hours * 36_000
    assert (report.rtp.lost, report.rtp.reordered, report.rtp.duplicated) == (0, 0, 0)
    assert report.rtp.jitter_ms < 0.1
    assert monitor.reception.restarts == 0
    assert monitor.clock is not None
    assert monitor.clock.ticks == (report.datagrams - 1) * 2_700_000
    assert monitor.clock.jitter < 0.001


@given(
    st.lists(
        st.binary(max_size=400)
        | st.binary(min_size=187, max_size=187).map(lambda body: (b"G" + body) * 3)
        | st.tuples(st.integers(0, 9), st.binary(max_size=187)).map(
            lambda pair: rtp.header(pair[0], 0, 1) + b"G" + pair[1]
        ),
        max_size=30,
    ),
    st.lists(st.floats(-1e9, 1e9), min_size=30, max_size=30),
)
def test_arbitrary_datagrams(payloads: list[bytes], times: list[float]) -> None:
    """Whatever arrives whenever, even before: a report, and every datagram counted."""
    monitor = Monitor()
    for payload, now in zip(payloads, times, strict=False):
        monitor.feed(memoryview(payload), now)
        monitor.report()
    monitor.finish()
    assert monitor.report().datagrams == len(payloads)
    assert monitor.report().bytes == sum(map(len, payloads))


Datagrams = list[bytes]


def numbered(count: int = 300) -> Datagrams:
    """Return datagrams of a stream whose packets are all different."""
    packets = [ts_packet(counter=n, payload=n.to_bytes(2, "big") * 90) for n in range(7 * count)]
    return [b"".join(packets[at : at + 7]) for at in range(0, len(packets), 7)]


def wrapped(sent: Datagrams, sequence: int = 0, stamp: int = 0, kind: int = rtp.MP2T) -> Datagrams:
    """Put datagrams in RTP."""
    return [
        rtp.header(sequence + n, stamp + n * 180, 7, kind) + each for n, each in enumerate(sent)
    ]


SENT = numbered()


@pytest.mark.parametrize(
    "received",
    [
        wrapped(SENT[:100]) + SENT[100:],
        SENT[:100] + wrapped(SENT[100:]),
        wrapped(SENT[:100]) + wrapped(SENT[100:], 100, 18_000, 96),
        wrapped(SENT[:100], 20_000) + wrapped(SENT[100:], 3, 1 << 30),
        wrapped(SENT[:100], 20_000) + wrapped(SENT[100:], 50_000, 1 << 31),
    ],
    ids=["RTP, then bare", "bare, then RTP", "another payload type", "a lower number", "a higher"],
)
def test_a_sender_that_begins_anew_loses_nothing(received: Datagrams) -> None:
    """In another form, or with another number: the datagrams that show it are of the stream."""
    found, breaks = Datagrams(), list[int]()
    monitor = Monitor(
        on_packets=lambda packets, _now: found.append(bytes(packets)),
        on_break=lambda: breaks.append(len(found)),
    )
    for number, each in enumerate(received):
        monitor.feed(each, number / 500)
    monitor.finish()
    assert b"".join(found) == b"".join(SENT)
    assert len(breaks) == 1
    assert (monitor.foreign, monitor.lost) == (0, 0)
    assert not any(monitor.transport.errors.counts.values())


@pytest.mark.parametrize(
    "useless",
    [
        [rtp.header(99, 0, 7) + each for each in SENT],
        [rtp.header(99 - n, 0, 7) + each for n, each in enumerate(SENT)],
        [b"no stream any more" * 40] * 300,
    ],
    ids=["a number that stands still", "numbers that fall", "something else"],
)
def test_a_stream_of_which_nothing_can_be_used_is_a_fault(useless: Datagrams) -> None:
    """Datagrams come, and none of their packets is passed on: synchronisation is lost."""
    monitor = Monitor()
    for number, each in enumerate(wrapped(SENT[:100]) + useless * 3):
        monitor.feed(each, number / 300)
    assert monitor.transport.errors.counts["TS_sync_loss"] >= 2


def test_what_comes_seldom_ends_no_stream() -> None:
    """Keepalives while an encoder pauses are no stream of which nothing can be used."""
    monitor = Monitor()
    for number, each in enumerate(SENT):
        monitor.feed(each, number / 300)
    for second in range(20):
        monitor.feed(b"\0", 2.0 + second)
    assert monitor.transport.errors.counts["TS_sync_loss"] == 0
