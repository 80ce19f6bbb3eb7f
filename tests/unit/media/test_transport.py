"""Each fault of a transport stream under its name, none in a healthy one, whatever the bytes."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relaylib.media import mpegts
from relaylib.media.tables import MAX_PROGRAMS, MAX_STREAMS
from relaylib.media.tr101290 import NAMES
from relaylib.media.transport import MAX_CHANGES, MAX_PIDS, Transport
from tests.unit.media.streams import MS, pat, pes, plain_packet, pmt, table_packet, ts_packet

PMT_PID, VIDEO, AUDIO, NULL = 4096, 256, 257, 0x1FFF
PROGRAM = pmt(1, VIDEO, {VIDEO: 0x1B, AUDIO: 0x0F})
SPS = bytes.fromhex("000000016742c01ed900a0479780")
"""Stands in for a parameter set: that it is there is an entry point."""


class Due(NamedTuple):
    """A packet, when it arrives in milliseconds, and what it is."""

    at: int
    what: str
    packet: bytes


def healthy(seconds: int = 8, clock: int = 0) -> Iterator[Due]:
    """A program as an encoder makes it; its clock begins with `clock` milliseconds."""
    counters = dict[int, int]()

    def count(pid: int) -> int:
        counters[pid] = counters.get(pid, -1) + 1
        return counters[pid]

    for at in range(0, seconds * 1000, 40):
        ticks = (at + clock) * 90 % mpegts.PTS_WRAP
        if at % 200 == 0:
            yield Due(at, "pat", table_packet(0, pat({1: PMT_PID}), count(0)))
            yield Due(at, "pmt", table_packet(PMT_PID, PROGRAM, count(PMT_PID)))
            sound = pes(ticks, ticks, 0xC0)
            yield Due(at, "audio", ts_packet(AUDIO, count(AUDIO), payload=sound, start=True))
        yield Due(at, "pcr", ts_packet(VIDEO, counters.get(VIDEO, -1), pcr=ticks * 300))
        picture = pes(ticks, ticks) + (SPS if at % 1000 == 0 else b"")
        yield Due(at, "picture", ts_packet(VIDEO, count(VIDEO), payload=picture, start=True))
        for _ in range(2):
            yield Due(at, "plain", plain_packet(VIDEO, count(VIDEO), bytes((at // 40 & 255,))))
        yield Due(at, "null", plain_packet(NULL, 0))


def watched(stream: Iterator[Due] | list[Due]) -> Transport:
    """Feed a stream."""
    transport = Transport()
    for due in stream:
        transport.feed(due.packet, due.at / 1000)
    return transport


def errors(stream: Iterator[Due] | list[Due]) -> dict[str, int]:
    """Return what is found in a stream, without the zeros."""
    return {name: count for name, count in watched(stream).errors.counts.items() if count}


def nth(what: str, number: int) -> Callable[[list[Due]], int]:
    """Find a packet of a kind in a stream."""
    return lambda stream: [at for at, due in enumerate(stream) if due.what == what][number]


def test_a_healthy_stream_has_no_errors() -> None:
    """Programs, streams, entry points and rates are told, over the wrap of every clock."""
    wrap = mpegts.PTS_WRAP // 90
    for clock in (0, wrap - 3000):
        transport = watched(healthy(clock=clock))
        assert not any(transport.errors.counts.values())
        assert tuple(transport.errors.counts) == NAMES
        (program,) = transport.tables.programs.values()
        assert (program.number, program.pmt_pid, program.pcr_pid) == (1, PMT_PID, VIDEO)
        assert [(stream.pid, stream.type) for stream in program.streams] == [
            (VIDEO, 0x1B),
            (AUDIO, 0x0F),
        ]
        video = transport.pids[VIDEO].elementary
        assert video is not None
        assert (video.random_access.count, video.random_access.interval) == (8, 1.0)
        assert video.rate == pytest.approx(25)
        assert transport.clocks[VIDEO].jitter == pytest.approx(0, abs=1e-9)


Edit = Callable[[list[Due]], list[Due]]


def changed(what: str, number: int, change: Callable[[Due], list[bytes]]) -> Edit:
    """An edit that puts other packets in the place of one."""

    def edit(stream: list[Due]) -> list[Due]:
        at = nth(what, number)(stream)
        new = [Due(stream[at].at, what, packet) for packet in change(stream[at])]
        return stream[:at] + new + stream[at + 1 :]

    return edit


def without(what: str, start: int, end: int) -> Edit:
    """An edit that takes a kind of packets out for some milliseconds; counters go on."""

    def edit(stream: list[Due]) -> list[Due]:
        gone = 0
        out = list[Due]()
        for due in stream:
            if due.what == what and start <= due.at < end:
                gone += mpegts.has_payload(due.packet)
            elif due.what == what and gone:
                packet = bytearray(due.packet)
                packet[3] = packet[3] & 0xF0 | (packet[3] - gone) & 15
                out.append(due._replace(packet=bytes(packet)))
            else:
                out.append(due)
        return out

    return edit


def patched(**bits: int) -> Callable[[Due], list[bytes]]:
    """A change that sets bits of bytes: b1=0x80 is the error flag."""

    def change(due: Due) -> list[bytes]:
        packet = bytearray(due.packet)
        for name, bit in bits.items():
            packet[int(name[1:])] ^= bit
        return [bytes(packet)]

    return change


def clock_moved(milliseconds: int, announced: bool) -> Edit:
    """An edit that lets the clock jump after two seconds."""

    def edit(stream: list[Due]) -> list[Due]:
        moved, first = list[Due](), announced
        for due in stream:
            value = mpegts.pcr(due.packet)
            if value is None or due.at < 2000:
                moved.append(due)
                continue
            value = (value + milliseconds * MS) % mpegts.PCR_WRAP
            packet = ts_packet(VIDEO, mpegts.counter(due.packet), pcr=value, jump=first)
            moved.append(due._replace(packet=packet))
            first = False
        return moved

    return edit


def swapped(stream: list[Due]) -> list[Due]:
    """Two packets out of order."""
    at = nth("plain", 40)(stream)
    return [*stream[:at], stream[at + 1], stream[at], *stream[at + 2 :]]


def paused(stream: list[Due]) -> list[Due]:
    """All is three seconds later from the second one on."""
    return [due._replace(at=due.at + 3000 * (due.at >= 2000)) for due in stream]


FAULTS: list[tuple[str, Edit, dict[str, int]]] = [
    ("a sync byte", changed("null", 9, patched(b0=1)), {"Sync_byte_error": 1}),
    (
        "three in a row",
        changed("null", 9, lambda due: [b"x" + due.packet[1:]] * 3),
        {"Sync_byte_error": 3, "TS_sync_loss": 1},
    ),
    ("no PAT", without("pat", 2000, 2600), {"PAT_error_2": 1}),
    ("no PAT for long", without("pat", 2000, 3200), {"PAT_error_2": 2}),
    ("a PAT in time", without("pat", 2000, 2200), {}),
    ("a PMT where the PAT is", changed("pat", 9, lambda due: [
        table_packet(0, PROGRAM, mpegts.counter(due.packet))]), {"PAT_error_2": 1}),
    ("a scrambled PAT", changed("pat", 9, patched(b3=0x80)), {"PAT_error_2": 1}),
    ("no PMT", without("pmt", 2000, 2600), {"PMT_error_2": 1}),
    ("a scrambled PMT", changed("pmt", 9, patched(b3=0x80)), {"PMT_error_2": 1}),
    ("one lost", changed("plain", 40, lambda due: []), {"Continuity_count_error": 1}),
    ("two swapped", swapped, {"Continuity_count_error": 3}),
    ("one twice", changed("plain", 40, lambda due: [due.packet] * 2), {}),
    ("one twice, and later another",
        lambda stream: changed("plain", 90, lambda due: [due.packet] * 2)(
            changed("plain", 40, lambda due: [due.packet] * 2)(stream)), {}),
    ("one three times", changed("plain", 40, lambda due: [due.packet] * 3),
        {"Continuity_count_error": 1}),
    ("damaged on the way to us", changed("plain", 40, patched(b1=0x80)), {"Transport_error": 1}),
    ("a damaged PMT", changed("pmt", 9, patched(b20=1)), {"CRC_error": 1}),
    ("no clock", without("pcr", 2000, 2120), {"PCR_repetition_error": 1}),
    ("the clock in time", without("pcr", 2000, 2040), {}),
    ("the clock ahead", clock_moved(10_000, False), {"PCR_discontinuity_indicator_error": 1}),
    ("the clock back", clock_moved(-300, False), {"PCR_discontinuity_indicator_error": 1}),
    ("the clock ahead, announced", clock_moved(10_000, True), {}),
    ("no time stamps", changed("audio", 10, lambda due: [
        ts_packet(AUDIO, mpegts.counter(due.packet), payload=b"x")]), {}),
    ("no sound", without("audio", 2000, 2800), {"PTS_error": 1}),
    ("no sound for long", without("audio", 2000, 7600), {"PTS_error": 7, "PID_error": 1}),
    ("nothing at all", paused, {"PAT_error_2": 1, "PCR_repetition_error": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "expected"), [fault[1:] for fault in FAULTS],
    ids=[fault[0] for fault in FAULTS])  # fmt: skip
def test_each_fault_has_its_name_and_is_counted_once(edit: Edit, expected: dict[str, int]) -> None:
    """What is done to a healthy stream is found, and nothing else."""
    found = errors(edit(list(healthy())))
    assert found == {name: count for name, count in expected.items() if count}


@pytest.mark.parametrize(("payload", "found"), [(b"a", 0), (b"b", 1)])
def test_sixteen_lost_are_no_duplicate(payload: bytes, found: int) -> None:
    """A counter that stands still is a duplicate only if the payload does, too."""
    transport = Transport()
    transport.feed(plain_packet(300, 5, b"a"), 0.0)
    transport.feed(plain_packet(301, 5) + plain_packet(300, 5, payload), 0.0)
    assert transport.errors.counts["Continuity_count_error"] == found


@pytest.mark.parametrize(("announced", "found"), [(True, 0), (False, 1)])
def test_a_counter_may_jump_if_that_is_announced(announced: bool, found: int) -> None:
    """A packet with the discontinuity indicator begins a new count."""
    transport = Transport()
    packets = (
        plain_packet(300, 5),
        ts_packet(300, 9, pcr=0, payload=b"x", jump=announced),
        plain_packet(300, 10),
    )
    transport.feed(b"".join(packets), 0.0)
    assert transport.errors.counts["Continuity_count_error"] == found


def test_the_joints_of_packets_may_lie_anywhere() -> None:
    """Datagrams that cut packets in two make no error; one that is lost makes an error."""
    data = b"".join(due.packet for due in healthy())
    pieces = [data[at : at + 1472] for at in range(100, len(data), 1472)]
    whole, lossy = Transport(), Transport()
    for number, piece in enumerate(pieces):
        whole.feed(piece, number / 100)
        if number != 60:
            lossy.feed(piece, number / 100)
    assert whole.packets == len(data) // 188 - 1
    assert whole.errors.counts["Sync_byte_error"] == 0
    assert whole.errors.counts["Continuity_count_error"] == 0
    assert lossy.errors.counts["Sync_byte_error"] == 1
    assert lossy.errors.counts["Continuity_count_error"] >= 1
    assert lossy.packets >= whole.packets - 1472 // 188 - 2


def test_network_jitter_is_no_fault_of_the_clock() -> None:
    """Packets that come in bursts are told as jitter, of their size."""
    stream = [due._replace(at=due.at - due.at % 400) for due in healthy()]
    transport = watched(stream)
    assert not any(transport.errors.counts.values())
    assert transport.clocks[VIDEO].jitter == pytest.approx(0.36, abs=0.001)


def test_scrambled_packets_are_counted() -> None:
    """They cannot be read, but are no error."""
    stream = [
        due._replace(packet=patched(b3=0x80)(due)[0]) if due.what == "plain" else due
        for due in healthy()
    ]
    transport = watched(stream)
    assert transport.scrambled == sum(due.what == "plain" for due in stream)
    assert not any(transport.errors.counts.values())


def test_programs_come_and_go() -> None:
    """A new version of a table is followed: what it no longer names is gone, what goes on stays."""
    transport = watched(healthy(2))
    kept = transport.pids[VIDEO].elementary
    transport.feed(table_packet(0, pat({1: PMT_PID, 2: 500}, version=1), 10), 2.0)
    transport.feed(table_packet(PMT_PID, pmt(1, VIDEO, {VIDEO: 0x1B, 300: 0x24}, 1), 10), 2.0)
    assert [*transport.tables.programs] == [1, 2]
    assert transport.pids[VIDEO].elementary is kept
    assert transport.pids[AUDIO].elementary is None
    transport.feed(table_packet(0, pat({2: 500}, version=2), 11), 2.1)
    transport.feed(table_packet(500, pmt(2, 300, {300: 0x24})), 2.1)
    assert [*transport.tables.programs] == [2]
    assert transport.pids[VIDEO].elementary is None
    assert transport.pids[300].elementary is not None
    assert transport.pids[PMT_PID].sections is None


def test_tables_that_never_stop_changing_are_followed_once_a_second() -> None:
    """However many there are, the last one is in force a second later."""
    transport = Transport()
    for number in range(2 * MAX_CHANGES):
        transport.feed(table_packet(0, pat({1: 100 + number}, number % 32), number), number / 1000)
    last = 100 + 2 * MAX_CHANGES - 1
    assert last not in transport.pids
    transport.feed(plain_packet(NULL, 0), 1.2)
    assert transport.pids[last].sections is not None


def test_a_new_beginning_is_told_and_nothing_counts_against_it() -> None:
    """After `begin_anew` counters and clocks may be any."""
    transport = watched(healthy(2))
    transport.begin_anew()
    for due in healthy(2, clock=99_999):
        packet = bytearray(due.packet)
        packet[3] = packet[3] & 0xF0 | (packet[3] + 5) & 15
        transport.feed(bytes(packet), 2 + due.at / 1000)
    assert not any(transport.errors.counts.values())


def test_parts_of_another_pat_are_forgotten() -> None:
    """After `begin_anew` a program counts only if a PAT that came then names it."""
    transport = Transport()
    for part in range(2):
        transport.feed(table_packet(0, pat({1 + part: PMT_PID + part}, part=part), part), 0)
    transport.begin_anew()
    for due in healthy(4):
        transport.feed(due.packet, 1 + due.at / 1000)
    assert [*transport.tables.programs] == [1]
    assert not any(transport.errors.counts.values())


def test_pids_of_damage_cost_bounded_memory() -> None:
    """A stream with every PID there is keeps an account of some hundreds."""
    transport = Transport()
    for number in range(1 << 13):
        transport.feed(ts_packet(number, payload=b"x"), number / 1000)
    assert len(transport.pids) == MAX_PIDS


def test_a_program_is_found_among_pids_of_damage() -> None:
    """However many came before, those of the tables are followed; and those that are gone, not."""
    transport = Transport()
    for number in range(NULL - 1, NULL - 1 - MAX_PIDS, -1):
        transport.feed(ts_packet(number, payload=b"x", scrambled=True), 0)
    for due in healthy(10):
        transport.feed(due.packet, due.at / 1000)
    assert [each.number for each in transport.tables.programs.values()] == [1]
    assert {0, PMT_PID, VIDEO, AUDIO} <= transport.pids.keys()
    assert len(transport.pids) < MAX_PIDS
    assert transport.scrambled == MAX_PIDS
    assert not transport.errors.counts["PAT_error_2"]


def test_no_table_makes_those_that_follow_expensive() -> None:
    """However many parts a PAT has, and streams its programs, some hundreds are gone through."""
    transport = Transport()
    for part in range(256):
        first = 1 + part * 40
        data = pat({first + row: PMT_PID for row in range(40)}, part=part)
        transport.feed(table_packet(0, data, part), part / 1000)
    assert len(transport.tables.programs) == MAX_PROGRAMS
    for number in range(1, 1 + MAX_PROGRAMS):
        data = pmt(number, VIDEO, {VIDEO + row: 0x1B for row in range(30)})
        transport.feed(table_packet(PMT_PID, data, number - 1), 0.3)
    assert sum(len(each.streams) for each in transport.tables.programs.values()) == MAX_STREAMS


PIECES = st.lists(
    st.binary(max_size=600)
    | st.binary(min_size=187, max_size=187).map(lambda body: b"G" + body)
    | st.sampled_from([due.packet for due in healthy(1)]),
    max_size=25,
)


@given(PIECES, st.lists(st.floats(0, 1e9), min_size=25, max_size=25))
@example([b"G\x40\0\x30\xff" + bytes(183)] * 2, [0.0] * 25)
def test_arbitrary_pieces(pieces: list[bytes], times: list[float]) -> None:
    """Whatever comes whenever: nothing fails, and counts do not go back."""
    transport, before = Transport(), 0
    for piece, now in zip(pieces, times, strict=False):
        transport.feed(piece, now)
        assert transport.errors.total >= before
        before = transport.errors.total
    assert transport.packets * 188 <= sum(map(len, pieces))
