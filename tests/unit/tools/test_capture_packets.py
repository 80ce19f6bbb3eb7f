"""Frames to datagrams and back, without files: link types, headers, fragments."""

import ipaddress
import random
import struct
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.replay.packets import (
    CutShortError,
    Datagram,
    Flow,
    Packet,
    Reassembler,
    UnknownLinkError,
    datagram,
    decode,
    encode,
)

RAW = 101


def flow(source: str = "192.0.2.1", destination: str = "239.1.1.1") -> Flow:
    """Return a flow between two addresses."""
    ends = (ipaddress.ip_address(end).packed for end in (source, destination))
    return Flow(next(ends), 40000, next(ends), 5004)


FOUR = Datagram(flow(), b"payload of IPv4")
SIX = Datagram(flow("2001:db8::1", "ff15::1"), b"payload of IPv6")
BOTH = pytest.mark.parametrize("message", [FOUR, SIX], ids=["IPv4", "IPv6"])


def read(link: int, frame: bytes) -> Datagram | None:
    """Decode a frame that holds a whole datagram."""
    packet = decode(link, frame)
    return None if packet is None else datagram(packet)


def ethernet(message: Datagram) -> bytes:
    """Return the Ethernet frame of a datagram."""
    kind = b"\x08\x00" if len(message.flow.source) == 4 else b"\x86\xdd"
    return bytes(12) + kind + encode(message)


def fragments(message: Datagram, ident: int, size: int = 1480) -> list[bytes]:
    """Cut a datagram's packet up as a router does (RFC 791) or the sender (RFC 8200)."""
    packet, addresses = encode(message), message.flow[::2]
    head, body = (20, packet[20:]) if len(addresses[0]) == 4 else (40, packet[40:])
    cut = []
    for at in range(0, len(body), size):
        piece, more = body[at : at + size], at + size < len(body)
        if head == 20:
            place = at // 8 | (0x2000 if more else 0)
            fields = struct.pack(">HHH", 20 + len(piece), ident, place)
            cut.append(packet[:2] + fields + packet[8:20] + piece)
        else:
            fields = struct.pack(">HB", 8 + len(piece), 44) + packet[7:40]
            extension = struct.pack(">BBHI", 17, 0, at | more, ident)
            cut.append(packet[:4] + fields + extension + piece)
    return cut


def joined(frames: list[bytes]) -> list[Datagram]:
    """Return the datagrams that come out of frames."""
    reassembler, out = Reassembler(), []
    for frame in frames:
        packet = decode(RAW, frame)
        whole = packet and reassembler.add(packet)
        if whole and (message := datagram(whole)):
            out.append(message)
    return out


@pytest.mark.parametrize(("message", "at"), [(FOUR, 26), (SIX, 46)], ids=["IPv4", "IPv6"])
def test_a_checksum_of_zero_is_written_as_all_ones(message: Datagram, at: int) -> None:
    """A UDP checksum that comes out as 0 is sent as 0xFFFF: 0 means that there is none."""
    plain = encode(Datagram(message.flow, b"\0\0"))
    made_zero = encode(Datagram(message.flow, plain[at : at + 2]))
    assert made_zero[at : at + 2] == b"\xff\xff"


@BOTH
def test_reads_every_link_that_people_capture_on(message: Datagram) -> None:
    """Ethernet with its padding, raw IP, and the loopback headers of the BSDs and macOS."""
    packet = encode(message)
    assert read(1, ethernet(message)) == read(1, ethernet(message) + bytes(20)) == message
    for link in (101, 12, 14, 228, 229):
        assert read(link, packet) == message
    family = 2 if len(message.flow.source) == 4 else 30
    for order in "<>":
        frame = struct.pack(order + "I", family) + packet
        assert read(0, frame) == read(108, frame) == message


def test_what_is_not_udp_is_none() -> None:
    """ARP, TCP and what dpkt stumbles over are none; a foreign link type is an error."""
    tcp = bytearray(encode(FOUR))
    tcp[9] = 6
    assert decode(RAW, bytes(tcp)) is None
    assert decode(1, bytes(12) + b"\x08\x06" + bytes(28)) is None
    assert decode(1, bytes(12) + b"\x88\x47\0\0\1\0") is None  # MPLS: IndexError in dpkt
    assert datagram(Packet(*FOUR.flow[::2], b"short")) is None
    with pytest.raises(UnknownLinkError, match=r"^127$"):
        decode(127, encode(FOUR))


@BOTH
def test_no_cut_makes_a_shorter_datagram(message: Datagram) -> None:
    """Cut in its headers a frame is none, cut in its payload it is an error."""
    frame = ethernet(message)
    for size in range(len(frame)):
        if size < len(frame) - len(message.payload):
            assert read(1, frame[:size]) is None
        else:
            with pytest.raises(CutShortError):
                read(1, frame[:size])


def test_the_udp_length_decides() -> None:
    """What lies behind it is none of the payload; where it says more than there is, it was cut."""
    packet = bytearray(encode(FOUR))
    packet[24:26] = (8 + 7).to_bytes(2, "big")
    assert read(RAW, bytes(packet)) == Datagram(FOUR.flow, FOUR.payload[:7])
    packet[24:26] = (len(FOUR.payload) + 9).to_bytes(2, "big")
    with pytest.raises(CutShortError):
        read(RAW, bytes(packet))


@BOTH
@settings(deadline=None)
@given(st.binary(max_size=3000), st.randoms())
def test_fragments_are_joined(message: Datagram, data: bytes, rng: random.Random) -> None:
    """Any datagrams, cut up and interleaved in any way, come out as they went in."""
    one, two = (Datagram(message.flow, payload) for payload in (data, data[::-1] + b"x"))
    size = 8 * rng.randrange(1, 100)
    left = [fragments(one, 5, size), fragments(two, 6, size)]
    frames = []
    while left := [each for each in left if each]:
        frames.append(rng.choice(left).pop(0))
    assert set(joined(frames)) == {one, two}


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_lost_or_late_fragment_costs_its_datagram_only(missing: int) -> None:
    """What cannot be joined is counted, once, and those around it come out."""
    good, bad = (Datagram(SIX.flow, bytes((kind,)) * 4000) for kind in (1, 2))
    frames = fragments(bad, 1)
    late = frames.pop(missing)
    reassembler, out = Reassembler(), []
    for frame in (*fragments(good, 2), *frames, *fragments(good, 3)):
        packet = decode(RAW, frame)
        assert packet is not None
        out.append(reassembler.add(packet))
    assert [datagram(whole) for whole in out if whole] == [good, good]
    assert reassembler.incomplete == 1
    assert (bad in joined([*frames, late])) == (missing == 2)


def test_what_is_never_complete_takes_bounded_memory() -> None:
    """Of datagrams that miss their ends the last few are kept, and no more than IP can number."""
    reassembler, ends = Reassembler(), FOUR.flow[::2]
    for ident in range(1000):
        assert reassembler.add(Packet(*ends, bytes(1480), ident, 0, True)) is None
    for offset in range(0, 1 << 16, 1 << 13):
        for _ in range(3):
            assert reassembler.add(Packet(*ends, bytes(1 << 13), 2000, offset, True)) is None
    assert reassembler.incomplete == 1001
    assert len(reassembler._pending) <= 64
    assert max(map(len, reassembler._pending.values())) <= 1 << 16


def lines_run(count: int) -> int:
    """Count the lines of code that run while a datagram of `count` fragments is put together."""
    total = 0

    def trace(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal total
        total += event == "line"
        return trace

    parts = [Packet(b"a" * 4, b"b" * 4, bytes(8), 1, at * 8, at + 1 < count) for at in range(count)]
    reassembler, before = Reassembler(), sys.gettrace()
    sys.settrace(trace)
    try:
        out = [reassembler.add(part) for part in parts]
    finally:
        sys.settrace(before)
    assert out[-1] == Packet(b"a" * 4, b"b" * 4, bytes(8 * count))
    return total


def test_the_work_grows_with_the_fragments_and_not_with_their_square() -> None:
    """Twice the fragments of a datagram take about twice the steps: many small ones are no trap."""
    assert lines_run(1000) < 2.5 * lines_run(500)


@settings(deadline=None)
@given(
    st.sampled_from([0, 1, 12, RAW, 108, 228]),
    st.sampled_from([encode(FOUR), ethernet(SIX), *fragments(FOUR, 1, 8), *fragments(SIX, 1, 8)]),
    st.lists(st.tuples(st.integers(0, 70), st.binary(max_size=4)), max_size=6),
    st.binary(max_size=60),
)
def test_arbitrary_frames(
    link: int, frame: bytes, changes: list[tuple[int, bytes]], tail: bytes
) -> None:
    """A frame, however broken, is a datagram, none, or cut short; nothing else escapes dpkt."""
    data = bytearray(frame)
    for at, change in changes:
        data[at : at + len(change)] = change
    for each in (tail, bytes(data), bytes(data) + tail, bytes(data)[: len(tail)]):
        try:
            found = decode(link, each)
            whole = found and Reassembler().add(found)
            message = whole and datagram(whole)
        except CutShortError:
            continue
        assert message is None or isinstance(message, Datagram)
