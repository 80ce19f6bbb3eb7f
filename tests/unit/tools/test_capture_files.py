"""Capture files in all the dialects that are met, and broken in all the ways that are met."""

import io
import itertools
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.tools.test_capture_packets import FOUR, SIX, flow, fragment
from tools.lab.process import need
from tools.replay.captures import FORMATS, CaptureError, Record, Write, pcap, pcapng, records
from tools.replay.flows import choose, listing, replay_capture, survey_capture
from tools.replay.packets import Datagram, encode
from tools.replay.program import ReplayError

NOW = 1_700_000_000_123_456_789
FRAMES = [(NOW + index * 1_000_007, encode(FOUR)) for index in range(10)]
Begin = Callable[[BinaryIO], Write]
EACH_FORMAT = pytest.mark.parametrize("begin", FORMATS.values(), ids=FORMATS)


def written(begin: Begin, frames: list[tuple[int, bytes]]) -> bytes:
    """Return a capture of raw IP packets."""
    file = io.BytesIO()
    write = begin(file)
    for time, packet in frames:
        write(time, packet)
    return file.getvalue()


def read(data: bytes) -> list[Record]:
    """Return the records of a capture."""
    return list(records(io.BytesIO(data)))


@EACH_FORMAT
def test_what_is_written_is_read_to_the_nanosecond(begin: Begin) -> None:
    """Both formats keep every packet and its time exactly."""
    assert read(written(begin, FRAMES)) == [Record(time, 101, frame) for time, frame in FRAMES]


@EACH_FORMAT
@pytest.mark.parametrize("message", [FOUR, SIX], ids=["IPv4", "IPv6"])
def test_tcpdump_reads_what_is_written(begin: Begin, message: Datagram, tmp_path: Path) -> None:
    """Tcpdump finds the addresses, the size and a correct checksum, and no error."""
    need("tcpdump")
    capture = tmp_path / "capture"
    sizes = (0, 1, 1316, 65507)
    frames = [(NOW, encode(Datagram(message.flow, b"\x5a" * size))) for size in sizes]
    capture.write_bytes(written(begin, frames))
    ended = subprocess.run(
        ["tcpdump", "-nvvtr", capture], capture_output=True, text=True, check=True, timeout=20
    )
    assert ended.stdout.count("[udp sum ok] UDP, length") == len(sizes)
    assert "bad" not in ended.stdout
    assert "length 65507" in ended.stdout


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_reads_pcap_of_both_byte_orders_and_resolutions(order: str, magic: int, unit: int) -> None:
    """Big and little endian, micro- and nanoseconds."""
    head = struct.pack(order + "IHHIIII", magic, 2, 4, 0, 0, 65535, 101)
    time = struct.pack(order + "IIII", 1_700_000_000, 123_456, len(encode(FOUR)), 99)
    (record,) = read(head + time + encode(FOUR))
    assert abs(record.time - (1_700_000_000 * 10**9 + 123_456 * unit)) < 1000
    assert record[1:] == (101, encode(FOUR))


def block(order: str, kind: int, body: bytes) -> bytes:
    """Build a pcapng block."""
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str) -> bytes:
    """Build a pcapng section header."""
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str, link: int, options: bytes = b"") -> bytes:
    """Build a pcapng interface description."""
    return block(order, 1, struct.pack(order + "HHI", link, 0, 0) + options)


def resolution(order: str, value: int) -> bytes:
    """Build the option of an interface that says how fast its clock ticks."""
    return struct.pack(order + "HHBxxx", 9, 1, value)


def packet(order: str, number: int, time: int, frame: bytes) -> bytes:
    """Build an enhanced packet block of interface `number`, `time` in its units."""
    head = struct.pack(order + "IIIII", number, time >> 32, time & 0xFFFFFFFF, len(frame), 9999)
    return block(order, 6, head + frame)


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_interface_of_a_pcapng_has_its_own_clock_and_link(order: str) -> None:
    """Resolutions of 10 and of 2, the default, and link types are per interface."""
    end = bytes(4)
    data = section(order) + interface(order, 1) + interface(order, 101, resolution(order, 9) + end)
    data += interface(order, 113, resolution(order, 0x80 | 20) + end) + block(order, 5, bytes(12))
    data += packet(order, 1, 1_500_000_001, b"b") + packet(order, 0, 2_500_000, b"a")
    data += packet(order, 2, 3 << 19, b"c")
    assert read(data) == [
        Record(1_500_000_001, 101, b"b"),
        Record(2_500_000_000, 1, b"a"),
        Record(1_500_000_000, 113, b"c"),
    ]


def test_a_pcapng_may_have_sections_of_different_byte_order() -> None:
    """Captures that were joined end to end have several sections, each with its interfaces."""
    data = b"".join(
        section(order) + interface(order, 101) + packet(order, 0, 7, b"x") for order in "<>"
    )
    assert read(data) == [Record(7000, 101, b"x")] * 2


@EACH_FORMAT
def test_a_capture_that_was_cut_gives_what_it_has(begin: Begin) -> None:
    """Cut at any byte, a capture yields its whole records; a cut inside a record is noticed."""
    data = written(begin, FRAMES[:2])
    whole = [Record(time, 101, frame) for time, frame in FRAMES[:2]]
    unnoticed = 0
    for size in range(1, len(data)):
        got = list[Record]()
        try:
            got.extend(records(io.BytesIO(data[:size])))
        except CaptureError:
            pass
        else:
            unnoticed += not got or got[-1].frame != b""  # no frame at all: known to be cut short
        got = [record for record in got if record.frame]
        assert got == whole[: len(got)]
    assert unnoticed <= 3  # the places between two blocks


TIMED = "a time stamp out of range"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (
            written(pcap, [])[:24] + struct.pack("=IIII", 0, 0, 0xFFFFFFFF, 0) + b"x",
            "a record of 4294967295 bytes",
        ),
        (section("<") + struct.pack("<II", 6, 0xFFFFFFF0), "a record of 42949672"),
        (section("<") + struct.pack("<II", 6, 0), "a record of -8 bytes"),
        (section("<") + struct.pack("<II", 6, 8) + bytes(100), "broken"),
        (section("<") + packet("<", 3, 0, b"x"), "no interface 3"),
        (section("<") + interface("<", 101, struct.pack("<HH", 1, 2) + b"\xff\xfe\0\0"), "broken"),
        (b"\n\r\r\n" + bytes(24), "broken"),
        (section("<") + interface("<", 101) + packet("<", 0, (1 << 64) - 1, b"x"), TIMED),
        (
            section("<") + interface("<", 101, resolution("<", 0)) + packet("<", 0, 1 << 63, b"x"),
            TIMED,
        ),
    ],
    ids=[
        "pcap", "huge", "empty", "short", "interface", "comment", "order", "time", "seconds",
    ],
)  # fmt: skip
def test_absurd_lengths_times_and_references_are_typed_errors(data: bytes, why: str) -> None:
    """A record of 4 GiB, of the year 500,000, of an unknown interface: no memory, no crash."""
    with pytest.raises(CaptureError, match=why):
        read(data)


def capture_of(*messages: Datagram) -> io.BytesIO:
    """Return a capture of datagrams, 10 ms apart."""
    frames = [(NOW + index * 10**7, encode(message)) for index, message in enumerate(messages)]
    return io.BytesIO(written(pcapng, frames))


LARGE = Datagram(flow("192.0.2.9", "192.0.2.10"), bytes(1316))


def test_the_largest_flow_is_the_default_and_others_can_be_named() -> None:
    """A flow is chosen by rank or by either end; what is ambiguous or unknown lists what exists."""
    survey = survey_capture(capture_of(FOUR, LARGE, SIX, FOUR))
    assert choose(survey, None) == choose(survey, "1") == LARGE.flow
    assert choose(survey, "192.0.2.10:5004") == choose(survey, "192.0.2.9:40000") == LARGE.flow
    assert choose(survey, "[ff15::1]:5004") == choose(survey, "3") == SIX.flow
    for wanted in ("4", "0", "192.0.2.7:1", "x"):
        with pytest.raises(ReplayError, match=r"no flow matches .*1: 192\.0\.2\.9:40000 > "):
            choose(survey, wanted)
    assert next(listing(survey)).endswith(
        "192.0.2.9:40000 > 192.0.2.10:5004  1 datagrams, 1.3 kB, 0.0 s"
    )


def test_replays_one_flow_with_its_gaps_again_and_again() -> None:
    """Only the chosen flow comes out, from 0, and the passes of a loop are a mean gap apart."""
    capture = capture_of(FOUR, LARGE, LARGE, FOUR, FOUR)
    survey = survey_capture(capture)
    replay = replay_capture(capture, FOUR.flow, survey.flows[FOUR.flow], loop=True)
    due = [next(replay)[0] // 10**6 for _ in range(7)]
    assert due == [0, 30, 40, 60, 90, 100, 120]


def test_a_clock_that_was_set_back_does_not_stop_the_replay() -> None:
    """A step back in a capture's time is a gap of nothing, not a wait and not a burst."""
    times = [0, 10, 20, -3_600_000, -3_599_990]
    frames = [(NOW + ms * 10**6, encode(FOUR)) for ms in times]
    capture = io.BytesIO(written(pcap, frames))
    tally = survey_capture(capture).flows[FOUR.flow]
    due = [when // 10**6 for when, _ in replay_capture(capture, FOUR.flow, tally, loop=False)]
    assert due == [0, 10, 20, 20, 30]


def test_what_cannot_be_replayed_is_counted_and_said() -> None:
    """Frames cut short, fragments and a cut file each get a line."""
    frames = [encode(FOUR)[:30], encode(FOUR), fragment(FOUR), encode(FOUR), encode(FOUR)]
    data = written(pcap, [(NOW, frame) for frame in frames])
    survey = survey_capture(io.BytesIO(data[:-1]))
    assert (survey.cut_short, survey.fragments) == (1, 1)
    assert survey.flows[FOUR.flow].datagrams == 2
    said = "\n".join(survey.warnings())
    assert "1 packets are cut short" in said
    assert "1 packets are fragments" in said
    assert "ends in the middle of a record" in said


FOREIGN = section("<") + interface("<", 276) + packet("<", 0, 0, bytes(50))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (written(pcapng, []), "empty"),
        (written(pcapng, [(NOW, bytes(14))]), "no UDP .*1 packets of other kinds"),
        (written(pcapng, [(NOW, encode(FOUR)[:40])]), "tcpdump -s 0"),
        (FOREIGN, "link type 276 is not supported .*not on 'any'"),
    ],
)
def test_a_capture_without_udp_says_what_it_has(data: bytes, why: str) -> None:
    """Nothing to replay is an error with its reason."""
    with pytest.raises(ReplayError, match=why):
        survey_capture(io.BytesIO(data))


MIXED = [(NOW, each) for each in (encode(FOUR), encode(SIX), fragment(FOUR))]
CAPTURES = (
    written(pcap, MIXED),
    written(pcapng, MIXED),
    section(">") + interface(">", 1) + packet(">", 0, 9, bytes(12) + b"\x08\0" + encode(FOUR)),
    section("<") + interface("<", 101, resolution("<", 9)) + block("<", 2, bytes(40)),
)


SIZES = st.sampled_from((0, 1, 4, 9, 300))
CHANGES = st.lists(st.tuples(st.integers(0, 400), SIZES, st.binary(max_size=9)), max_size=8)
"""Damage: at an offset, so many bytes are replaced with others."""


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(CAPTURES), CHANGES)
def test_arbitrary_captures(capture: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    """Records come out until the first broken place, which is one short line; so far it replays."""
    for at, removed, put in changes:
        capture = capture[:at] + put + capture[at + removed :]
    said = ""
    try:
        for record in itertools.islice(records(io.BytesIO(capture)), 1000):
            assert 0 <= record.time < 1 << 63
    except CaptureError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 120
    file = io.BytesIO(capture)
    try:
        survey = survey_capture(file)
    except ReplayError:
        return
    chosen = choose(survey, None)
    replayed = list(replay_capture(file, chosen, survey.flows[chosen], loop=False))
    assert len(replayed) == survey.flows[chosen].datagrams
    assert [due for due, _ in replayed] == sorted(due for due, _ in replayed)
    assert all(isinstance(line, str) for line in survey.warnings())
