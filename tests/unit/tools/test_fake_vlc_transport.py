"""MPEG-TS without a socket: packets found in bytes, their times, and the seam of a loop."""

import io
import itertools

import pytest

from relaylib.media.mpegts import (
    MAX_HELD,
    PCR_WRAP,
    MediaError,
    PacketReader,
    at_bitrate,
    datagrams,
    paced,
    pcr_of,
    pid_of,
)
from tools.fake_vlc import SAMPLE
from tools.replay.restamp import Restamper
from tools.replay.sources import TransportFile

MS = 27_000
"""PCR ticks in a millisecond."""


def ts_packet(
    pid: int = 256,
    counter: int = 0,
    pcr: int | None = None,
    payload: bytes = b"",
    *,
    jump: bool = False,
    start: bool = False,
) -> bytes:
    """Build a packet; `jump` sets the discontinuity indicator, `start` the payload unit start."""
    field = b""
    if pcr is not None:
        base, extension = divmod(pcr, 300)
        flags = 0x10 | (0x80 if jump else 0)
        field = bytes((flags,)) + (base << 15 | 0x7E00 | extension).to_bytes(6, "big")
    stuffing = 183 - len(field) - len(payload)
    field += b"" if field or stuffing <= 0 else b"\0"
    field = field.ljust(183 - len(payload), b"\xff")
    control = 0x20 | (0x10 if payload else 0) | counter & 15
    head = bytes((0x47, (0x40 if start else 0) | pid >> 8, pid & 255, control, len(field)))
    return head + field + payload


def pes(pts: int, dts: int, stream: int = 0xE0) -> bytes:
    """Build the beginning of a PES packet with both time stamps."""
    head = bytes((0, 0, 1, stream, 0, 0, 0x80, 0xC0, 10))
    return head + _stamp(3, pts) + _stamp(1, dts) + b"x" * 20


def _stamp(prefix: int, value: int) -> bytes:
    """Spread 33 bits over 5 bytes, three marker bits between them (2.4.3.6)."""
    high, middle, low = value >> 30, value >> 15 & 0x7FFF, value & 0x7FFF
    bits = prefix << 36 | high << 33 | 1 << 32 | middle << 17 | 1 << 16 | low << 1 | 1
    return bits.to_bytes(5, "big")


def found(data: bytes) -> tuple[list[bytes], int]:
    """Return the packets in `data` and the number of bytes skipped."""
    reader = PacketReader(io.BytesIO(data))
    return list(reader), reader.skipped


def stream(count: int) -> list[bytes]:
    """Return packets that are all different, with the sync byte nowhere else."""
    return [ts_packet(payload=index.to_bytes(2, "big") * 90) for index in range(1000, 1000 + count)]


PACKETS = stream(600)  # more than one chunk of the reader


@pytest.mark.parametrize("count", [1, 2, 4, 5, 600])
def test_finds_every_packet_of_a_clean_stream(count: int) -> None:
    """A file of nothing but packets is read whole, however short it is."""
    assert found(b"".join(PACKETS[:count])) == (PACKETS[:count], 0)


@pytest.mark.parametrize(("before", "behind"), [(4, 0), (0, 16)])
def test_steps_over_time_codes_and_parity(before: int, behind: int) -> None:
    """Packets spaced 192 (M2TS) and 204 bytes (with Reed-Solomon) come out as plain ones."""
    data = b"".join(bytes(before) + packet + bytes(behind) for packet in PACKETS)
    assert found(data) == (PACKETS, before)


@pytest.mark.parametrize("garbage", [b"x", bytes(187), bytes(range(71)) * 1000])
def test_finds_the_way_back_after_garbage(garbage: bytes) -> None:
    """Garbage in front, in the middle and at the end costs nothing but itself, and is counted."""
    parts = (garbage, *PACKETS[:50], garbage, *PACKETS[50:], garbage)
    assert found(b"".join(parts)) == (PACKETS, 3 * len(garbage))


def test_a_damaged_sync_byte_costs_one_packet() -> None:
    """A packet without its sync byte is skipped alone."""
    data = bytearray(b"".join(PACKETS[:20]))
    data[188 * 7] = 0
    assert found(bytes(data)) == (PACKETS[:7] + PACKETS[8:20], 188)


def test_a_packet_cut_short_at_the_end_is_left_out() -> None:
    """A file that ends in the middle of a packet gives all the packets before it."""
    assert found(b"".join(PACKETS[:20])[:-1]) == (PACKETS[:19], 187)


def test_finds_nothing_in_what_is_no_stream() -> None:
    """A file without packets has none, even if it is full of sync bytes at other distances."""
    data = (b"G" + bytes(99)) * 1000
    assert found(data) == ([], len(data))


def test_reads_clock_and_pid() -> None:
    """The PCR comes back in 27 MHz ticks with its 9-bit extension, next to the 13-bit PID."""
    packet = ts_packet(pid=0x1ABC, pcr=PCR_WRAP - 1)
    assert (pcr_of(packet), pid_of(packet)) == (PCR_WRAP - 1, 0x1ABC)
    assert pcr_of(ts_packet(payload=b"x")) is None


def times(packets: list[bytes]) -> list[float]:
    """Return when each packet is due, in milliseconds."""
    return [round(due / 1e6, 6) for due, _ in paced(packets)]


def test_spreads_packets_between_clock_readings() -> None:
    """Packets between two PCRs are evenly spaced; those outside keep the nearest spacing."""
    plain = ts_packet(payload=b"x")
    packets = [plain, ts_packet(pcr=0), plain, plain, plain, ts_packet(pcr=40 * MS), plain]
    packets += [ts_packet(pcr=50 * MS), plain]
    assert times(packets) == [0, 10, 20, 30, 40, 50, 55, 60, 65]


def test_the_clock_may_wrap() -> None:
    """The PCR starts again at 0 every 26.5 hours, and the pace does not notice."""
    assert times([ts_packet(pcr=(PCR_WRAP + ms * MS) % PCR_WRAP) for ms in (-20, -10, 0, 10)]) == [
        0, 10, 20, 30,
    ]  # fmt: skip


@pytest.mark.parametrize("step", [-1000, 3_600_000, 7])
def test_a_jump_of_the_clock_is_bridged(step: int) -> None:
    """Across a jump, announced or not, the pace goes on at the rate before it."""
    packets = [ts_packet(pcr=(ms + 2000) * MS) for ms in (0, 10, 20)]
    packets += [ts_packet(pcr=(ms + 2020 + step) * MS, jump=step == 7) for ms in (0, 10)]
    assert times(packets) == [0, 10, 20, 30, 40]


def test_follows_the_clock_of_the_first_program_only() -> None:
    """A second program's PCR, which counts from elsewhere, does not disturb the first's."""
    packets = [ts_packet(pcr=ms * MS, pid=pid) for ms in (0, 10, 20) for pid in (256, 512)]
    assert times(packets) == [0, 5, 10, 15, 20, 25]


def test_changes_to_another_program_when_the_first_ends() -> None:
    """A program that ends does not stop the clock: the next one with a PCR is followed."""
    ended = [ts_packet(pcr=ms * MS) for ms in (0, 10)] + [ts_packet(payload=b"x")] * (MAX_HELD + 5)
    packets = ended + [ts_packet(pcr=ms * MS, pid=512) for ms in (0, 4, 8)]
    due = times(packets)
    assert len(due) == len(packets)
    assert due[-1] - due[-2] == pytest.approx(4)


@pytest.mark.parametrize("clocks", [[], [0], [5, 5, 5]])
def test_without_a_clock_the_remedy_is_named(clocks: list[int]) -> None:
    """A stream with no PCR, with one, or with one that stands still is refused with a hint."""
    with pytest.raises(MediaError, match="--bitrate"):
        times([ts_packet(payload=b"x")] * 10 + [ts_packet(pcr=value) for value in clocks])


def test_no_clock_is_noticed_before_memory_is_full() -> None:
    """The wait for a PCR is bounded, not as long as the file."""
    packets = itertools.repeat(ts_packet(payload=b"x"))
    with pytest.raises(MediaError, match="--bitrate"):
        next(paced(packets))


def test_a_constant_rate_needs_no_clock() -> None:
    """At a given bit rate each packet is due when those before it have been sent."""
    due = [when for when, _ in at_bitrate(PACKETS[:4], 188 * 8 * 1000)]
    assert due == [0, 1_000_000, 2_000_000, 3_000_000]


def test_packs_seven_packets_to_a_datagram() -> None:
    """A datagram has 1316 bytes and the time of its first packet; the last may be shorter."""
    packed = list(datagrams(enumerate(PACKETS[:16])))
    assert [(due, len(data)) for due, data in packed] == [(0, 1316), (7, 1316), (14, 376)]
    assert b"".join(data for _, data in packed) == b"".join(PACKETS[:16])


def test_the_first_pass_of_a_loop_changes_nothing() -> None:
    """Until the seam a loop is the file, byte for byte."""
    with SAMPLE.open("rb") as file:
        looped = itertools.islice(TransportFile(file, loop=True), SAMPLE.stat().st_size // 188)
        assert b"".join(looped) == SAMPLE.read_bytes()


def looped(packets: list[bytes], passes: int) -> list[bytes]:
    """Return what a loop sends of `packets`."""
    restamper, out = Restamper(), list[bytes]()
    for _ in range(passes):
        out += map(restamper.rewrite, packets)
        restamper.rewind()
    return out


def test_clocks_and_counters_go_on_over_the_seam() -> None:
    """In every pass PCR, PTS and DTS are one period later and counters continue, over the wrap."""
    start = (1 << 33) - 9000  # 0.1 s before the wrap
    packets = []
    for index in range(4):  # a frame every 3600 ticks, 40 ms
        ticks = (start + index * 3600) % (1 << 33)
        packets.append(ts_packet(pcr=ticks * 300 + 17, counter=3))
        frame = pes((ticks + 7200) % (1 << 33), (ticks + 3600) % (1 << 33))
        packets.append(ts_packet(counter=4 + index, payload=frame, start=True))
    out = looped(packets, 3)
    assert [pcr_of(packet) for packet in out[::2]] == [
        (start + index * 3600) % (1 << 33) * 300 + 17 for index in range(12)
    ]
    expected = [(start + index * 3600) % (1 << 33) for index in range(1, 13)]
    assert [packet[-34:] for packet in out[1::2]] == [
        pes((dts + 3600) % (1 << 33), dts)[-34:] for dts in expected
    ]
    counters = [packet[3] & 15 for packet in out if packet[3] & 0x10]
    assert counters == [(4 + index) % 16 for index in range(12)]


def test_pictures_that_outlast_the_clock_lengthen_the_period() -> None:
    """If the last picture ends after the last PCR's interval, the next pass waits for it."""
    frames = [ts_packet(payload=pes(90 * ms, 90 * ms), start=True) for ms in (0, 40, 80, 120)]
    out = looped([ts_packet(pcr=0), ts_packet(pcr=40 * MS), *frames], 2)
    assert pcr_of(out[6]) == 160 * MS


def test_tables_and_private_data_are_not_taken_for_times() -> None:
    """What only looks like a PES header, or is scrambled, is left as it is."""
    private = ts_packet(pid=300, payload=pes(0, 0, stream=0xBF), start=True)
    scrambled = bytearray(ts_packet(pid=301, payload=pes(0, 0), start=True))
    scrambled[3] |= 0x80
    packets = [ts_packet(pcr=0), ts_packet(pcr=40 * MS), private, bytes(scrambled)]
    out = looped(packets, 2)
    assert [packet[4:] for packet in out[6:]] == [private[4:], bytes(scrambled)[4:]]
