"""Transport stream packets: found in whatever bytes, cut wherever, and their fields."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relaylib.media import mpegts
from relaylib.media.mpegts import PACKET_SIZE, Framer
from tests.unit.media.streams import MS, pes, stream, ts_packet

PACKETS = stream(600)


def found(*pieces: bytes) -> tuple[list[bytes], int]:
    """Return the packets in bytes that come in pieces, and the number of bytes skipped."""
    framer, packets = Framer(), list[bytes]()
    for piece in pieces:
        packets += framer.feed(piece)
    return packets + framer.finish(), framer.skipped


def in_single_bytes(data: bytes) -> list[bytes]:
    """Cut bytes up as far as possible."""
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("count", [1, 2, 4, 5, 600])
def test_finds_every_packet_of_a_clean_stream(count: int) -> None:
    """Bytes that are nothing but packets are read whole, however few there are."""
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
    assert found(b"".join(parts)) == found(*parts) == (PACKETS, 3 * len(garbage))


def test_a_damaged_sync_byte_costs_one_packet() -> None:
    """A packet without its sync byte is skipped alone."""
    data = bytearray(b"".join(PACKETS[:20]))
    data[188 * 7] = 0
    assert found(bytes(data)) == (PACKETS[:7] + PACKETS[8:20], 188)


def test_a_packet_cut_short_at_the_end_is_left_out() -> None:
    """What ends in the middle of a packet gives all the packets before it."""
    data = b"".join(PACKETS[:10])
    for size in range(len(data) - 188 + 1, len(data)):
        assert found(data[:size]) == (PACKETS[:9], size - 188 * 9)


def test_finds_nothing_in_what_is_no_stream() -> None:
    """Bytes without packets have none, even if they are full of sync bytes at other distances."""
    data = (b"G" + bytes(99)) * 1000
    assert found(data) == ([], len(data))


def test_searching_is_noticed_while_it_goes_on() -> None:
    """How long nothing was found is known before the end, and forgotten at the next packet."""
    framer = Framer()
    framer.feed(bytes(10_000))
    assert 8_000 < framer.searched <= 10_000
    framer.feed(b"".join(PACKETS))
    assert framer.searched == 0
    assert framer.skipped == 10_000


MUTATED = st.lists(
    st.sampled_from((*PACKETS[:3], b"G", b"x" * 4, bytes(16), bytes(187))) | st.binary(max_size=9),
    max_size=30,
)


@given(MUTATED, st.integers(1, 3000))
@example([b"G" * 5000], 7)
def test_the_result_does_not_depend_on_where_the_input_was_cut(
    parts: list[bytes], size: int
) -> None:
    """Whole, byte by byte or in pieces: the same packets, and every byte in one or skipped."""
    data = b"".join(parts)
    packets, skipped = found(data)
    assert all(len(packet) == PACKET_SIZE and packet[0] == 0x47 for packet in packets)
    assert len(packets) * PACKET_SIZE + skipped <= len(data)
    assert found(*in_single_bytes(data)) == (packets, skipped)
    assert found(*(data[at : at + size] for at in range(0, len(data), size))) == (packets, skipped)


def test_reads_the_fields_of_the_header() -> None:
    """PID, counter and flags are each read from their own bits."""
    packet = ts_packet(pid=0x1ABC, counter=11, payload=b"x", start=True, scrambled=True)
    assert (mpegts.pid(packet), mpegts.counter(packet)) == (0x1ABC, 11)
    assert mpegts.has_payload(packet)
    assert mpegts.starts_unit(packet)
    assert mpegts.is_scrambled(packet)
    assert packet[mpegts.payload_at(packet) :] == b"x"
    other = ts_packet(pid=0x1FFF)
    assert not mpegts.has_payload(other)
    assert not mpegts.starts_unit(other)
    assert not mpegts.is_scrambled(other)


@pytest.mark.parametrize("ticks", [0, 299, 300, 40 * MS + 17, mpegts.PCR_WRAP - 1])
def test_reads_the_clock(ticks: int) -> None:
    """The PCR comes back in 27 MHz ticks with its 9-bit extension, and its announced jumps."""
    assert mpegts.pcr(ts_packet(pcr=ticks)) == ticks
    assert mpegts.pcr(ts_packet(payload=b"x")) is None
    assert mpegts.discontinuity(ts_packet(pcr=ticks, jump=True))
    assert not mpegts.discontinuity(ts_packet(pcr=ticks))


def test_an_adaptation_field_too_short_has_no_clock() -> None:
    """A length of 0 to 6 leaves no room for a PCR, whatever the bytes behind it look like."""
    packet = bytearray(ts_packet(pcr=5, jump=True))
    for length in range(7):
        packet[4] = length
        assert mpegts.pcr(bytes(packet)) is None
        assert mpegts.discontinuity(bytes(packet)) == (length > 0)


def test_reads_times_of_pictures_and_sound() -> None:
    """PTS and DTS of a PES packet come back, over all 33 bits, and which of them are pictures."""
    for pts, dts in ((0, 0), (mpegts.PTS_WRAP - 1, 90_000), (1 << 32 | 1 << 15 | 1, 1 << 30)):
        packet = ts_packet(payload=pes(pts, dts), start=True)
        header = mpegts.pes_header(packet)
        assert header is not None
        assert [mpegts.stamp(packet, at) for at in header.stamps] == [pts, dts]
        assert header.is_video
    sound = mpegts.pes_header(ts_packet(payload=pes(0, 0, stream=0xC0), start=True))
    assert sound is not None
    assert not sound.is_video


def test_what_only_looks_like_a_pes_header_is_none() -> None:
    """Private data, scrambled packets, middles of pictures and headers cut short have no times."""
    assert mpegts.pes_header(ts_packet(payload=pes(0, 0, stream=0xBF), start=True)) is None
    assert mpegts.pes_header(ts_packet(payload=pes(0, 0), start=True, scrambled=True)) is None
    assert mpegts.pes_header(ts_packet(payload=pes(0, 0))) is None
    for size in range(14):
        assert mpegts.pes_header(ts_packet(payload=pes(0, 0)[:size], start=True)) is None
    one = mpegts.pes_header(ts_packet(payload=pes(0, 0)[:14], start=True))
    assert one is not None
    assert len(one.stamps) == 1


@given(st.binary(min_size=PACKET_SIZE - 1, max_size=PACKET_SIZE - 1))
@example(b"\x40\0\x30\xff" + bytes(183))
def test_no_content_of_a_packet_makes_a_reader_fail(content: bytes) -> None:
    """Whatever follows the sync byte, fields are read or are not there."""
    for packet in (b"G" + content, memoryview(b"G" + content)):
        assert 0 <= mpegts.pid(packet) < 1 << 13
        clock, header = mpegts.pcr(packet), mpegts.pes_header(packet)
        assert clock is None or 0 <= clock < mpegts.PCR_WRAP + 512
        assert isinstance(mpegts.discontinuity(packet), bool)
        if header:
            assert all(mpegts.stamp(packet, at) < mpegts.PTS_WRAP for at in header.stamps)
