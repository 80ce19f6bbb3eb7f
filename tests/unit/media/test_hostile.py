"""What is made to hurt who remuxes it costs little, and as much for each packet of it."""

import time

import pytest

from relaylib.media import psi
from relaylib.media.bits import Bits
from relaylib.media.codecs import AAC as AAC_CODEC
from relaylib.media.codecs import H264 as H264_CODEC
from relaylib.media.mpegts import PACKET_SIZE
from relaylib.media.tables import MAX_PROGRAMS, Tables
from relaylib.media.tr101290 import Errors
from relaylib.mp4 import nal, sound
from relaylib.mp4.pes import MAX_PARTS_BY_LENGTH, Assembler
from relaylib.mp4.remuxer import Remuxer
from tests.unit.media import hostile

PIECE = 56 * PACKET_SIZE
"""What is fed without a look at the ingest (`web/mp4.py`)."""

MOST = 0.010
"""Seconds of processor for a piece. They take up to 4 ms; some took 350."""

ROUNDS = 3


@pytest.mark.parametrize("name", hostile.STREAMS)
def test_no_stream_makes_the_remuxer_fail(name: str) -> None:
    """Whatever comes, there is a result."""
    remuxer, data = Remuxer(), hostile.stream(name, 500)
    for at in range(0, len(data), PIECE):
        remuxer.feed(data[at : at + PIECE])
    remuxer.finish()


@pytest.mark.long
@pytest.mark.parametrize("name", hostile.STREAMS)
def test_a_piece_takes_a_few_milliseconds(name: str) -> None:
    """Whatever comes, the ingest is read again soon."""
    data = hostile.stream(name)
    best = [MOST] * (len(data) // PIECE)
    for _ in range(ROUNDS):
        remuxer = Remuxer()
        for number in range(len(best)):
            begun = time.process_time()
            remuxer.feed(data[number * PIECE : (number + 1) * PIECE])
            best[number] = min(best[number], time.process_time() - begun)
    assert max(best) < MOST


class Counted(bytes):
    """Bytes that count how often somebody asks for their number."""

    asked = 0

    def __len__(self) -> int:
        Counted.asked += 1
        return super().__len__()


def test_the_bytes_of_a_part_are_counted_once() -> None:
    """How much of a PES packet there is, is known without going through all of it again."""
    assembler, count = Assembler(by_length=True), 500
    packets = hostile.STREAMS["tiny sound"]()
    for _ in range(2):
        next(packets)
    Counted.asked = 0
    for _ in range(count):
        packet = next(packets)
        assembler.look(int.from_bytes(packet[:4], "big"), packet[4:])
        assembler.parts[-1:] = [Counted(part) for part in assembler.parts[-1:]]
    assert Counted.asked < 2 * count


def test_sound_that_does_not_end_is_forgotten() -> None:
    """A PES packet of sound has no more packets of the stream than 64 KiB take."""
    assembler = Assembler(by_length=True)
    packets = hostile.STREAMS["tiny sound"]()
    for _ in range(2):
        next(packets)
    for _ in range(2 * MAX_PARTS_BY_LENGTH):
        packet = next(packets)
        assembler.look(int.from_bytes(packet[:4], "big"), packet[4:])
        assembler.drop_if_endless()
        assert len(assembler.parts) <= MAX_PARTS_BY_LENGTH
    assert assembler.losses == 1


def test_marks_of_pes_packets_are_no_more_than_their_bytes() -> None:
    """PES packets without a byte of sound leave nothing behind, and the latest one's time holds."""
    splitter = sound.Splitter(AAC_CODEC, 2)
    for pts in range(100):
        assert splitter.take(b"", pts, True) == []
    assert len(splitter._marks) == 1
    [found] = splitter.take(hostile.ADTS_SMALLEST * 2 + hostile.ADTS_SMALLEST[:7], 500, True)
    assert found.stamp == 500


def test_frames_of_a_pes_packet_are_bounded() -> None:
    """Who puts thousands of them in one gets the first ones."""
    splitter = sound.Splitter(AAC_CODEC, 2)
    found = splitter.take(hostile.ADTS_SMALLEST * 8000, 0, True)
    assert sum(len(each.frames) for each in found) == sound.MAX_FRAMES
    [after] = splitter.take(hostile.ADTS_SMALLEST * 3, 90000, True)
    assert (after.stamp, len(after.frames)) == (90000, 3)


def test_a_giant_parameter_set_stays_in_the_stream() -> None:
    """It is no part of the sample entry, and is not read."""
    pictures = nal.Pictures(H264_CODEC, 1)
    large = hostile.PPS + b"x" * nal.MAX_SIZE
    units = (hostile.SPS, large, hostile.IDR)
    picture = pictures.take(hostile.START + hostile.START.join(units))
    assert picture is not None
    assert pictures.track is None
    assert large in picture.data


@pytest.mark.parametrize(
    ("sei", "found"),
    [
        (b"\6\6\1\x80", True),
        (b"\6\5\2xx\6\1\x80", True),
        (b"\6\xff\5\1x\6\1\x80", True),
        (b"\6\5\xff\1" + b"x" * 256 + b"\6\1\x80", True),
        (b"\6\5\xff\1" + b"x" * 255 + b"\6\1\x80", False),
        (b"\6" + b"\5\0" * nal.MAX_MESSAGES + b"\6\1\x80", False),
        (b"\6" + b"\xff" * 60000, False),
        (b"\6\6\1", False),
        (b"\6", False),
    ],
)
def test_the_message_about_decoding_is_found(sei: bytes, found: bool) -> None:
    """Kinds and sizes may take several bytes; it is looked for in the first messages."""
    assert nal._is_recovery_point(sei) == found


def test_tiny_sections_are_whole_sections() -> None:
    """Sixty sections are sixty, wherever one of them is cut by the end of a packet."""
    data = b"\0\x30\0" * 60 + b"\xff" * 3
    for cut in range(1, 180, 3):
        sections = psi.Sections()
        found = sections.add(b"\0" + data[:cut], True) + sections.add(data[cut:], False)
        assert found == [b"\0\x30\0"] * 60


def test_a_map_with_a_wrong_crc_is_not_taken() -> None:
    """Nor does it hide a right one that follows."""
    errors = Errors()
    tables = Tables(errors)
    assert tables.take(0, hostile.pat({1: 0x1000}), 0.0)
    right = hostile.pmt(1, 256, {256: 27})
    assert not tables.take(0x1000, right[:-1] + bytes((right[-1] ^ 1,)), 0.0)
    assert (tables.programs[1].streams, errors.counts["CRC_error"]) == ((), 1)
    assert tables.take(0x1000, right, 0.0)
    assert [stream.pid for stream in tables.programs[1].streams] == [256]


def test_the_programs_are_those_of_all_sections_together() -> None:
    """However many sections came since somebody looked, and as many as there is room for."""
    tables = Tables(Errors())
    for part in range(200):
        tables.take(0, hostile.pat({2 * part + n: 0x100 + part for n in (1, 2)}, part=part), 0.0)
    assert len(tables.programs) == MAX_PROGRAMS
    assert list(tables.programs) == sorted(tables.programs)
    tables.take(0, hostile.pat({7: 0x100}, version=1), 0.0)
    tables.take(0, hostile.pat({8: 0x101}, version=1, part=1), 0.0)
    assert list(tables.programs) == [7, 8]
    assert {0x100, 0x101} <= tables.pids


def test_numbers_of_bits_are_the_same_anywhere() -> None:
    """A number of any size is read alike at any bit."""
    for code in (0, 1, 2, 254, 255, 65534, (1 << 32) - 2, (1 << 33) - 2):
        for before in range(17):
            text = "1" * before + hostile.golomb(code)
            bits = Bits(int(text + "0" * (-len(text) % 8), 2).to_bytes((len(text) + 7) // 8, "big"))
            assert bits.take(before) == (1 << before) - 1
            assert bits.golomb() == code
