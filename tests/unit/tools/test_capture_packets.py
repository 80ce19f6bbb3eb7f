"""Frames to datagrams and back, without files: link types and headers."""

import ipaddress
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.replay.packets import (
    CutShortError,
    Datagram,
    Flow,
    FragmentError,
    UnknownLinkError,
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


def ethernet(message: Datagram) -> bytes:
    """Return the Ethernet frame of a datagram."""
    kind = b"\x08\x00" if len(message.flow.source) == 4 else b"\x86\xdd"
    return bytes(12) + kind + encode(message)


def fragment(message: Datagram) -> bytes:
    """Return the first fragment of a datagram (RFC 791; RFC 8200, 4.5)."""
    packet = encode(message)
    if len(message.flow.source) == 4:
        return packet[:6] + b"\x20\x00" + packet[8:28]
    return packet[:4] + b"\0\x10\x2c" + packet[7:40] + b"\x11\0\0\x01\0\0\0\x07" + packet[40:48]


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
    assert decode(1, ethernet(message)) == decode(1, ethernet(message) + bytes(20)) == message
    for link in (101, 12, 14, 228, 229):
        assert decode(link, packet) == message
    family = 2 if len(message.flow.source) == 4 else 30
    for order in "<>":
        frame = struct.pack(order + "I", family) + packet
        assert decode(0, frame) == decode(108, frame) == message


def test_what_is_not_udp_is_none() -> None:
    """ARP, TCP and what dpkt stumbles over are none; a foreign link type is an error."""
    tcp = bytearray(encode(FOUR))
    tcp[9] = 6
    assert decode(RAW, bytes(tcp)) is None
    assert decode(1, bytes(12) + b"\x08\x06" + bytes(28)) is None
    assert decode(1, bytes(12) + b"\x88\x47\0\0\1\0") is None  # MPLS: IndexError in dpkt
    assert decode(RAW, b"\x45\0\0\x19" + encode(FOUR)[4:25]) is None
    with pytest.raises(UnknownLinkError, match=r"^127$"):
        decode(127, encode(FOUR))


@BOTH
def test_no_cut_makes_a_shorter_datagram(message: Datagram) -> None:
    """Cut in its headers a frame is none, cut in its payload it is an error."""
    frame = ethernet(message)
    for size in range(len(frame)):
        if size < len(frame) - len(message.payload):
            assert decode(1, frame[:size]) is None
        else:
            with pytest.raises(CutShortError):
                decode(1, frame[:size])


def test_the_udp_length_decides() -> None:
    """What lies behind it is none of the payload; where it says more than there is, it was cut."""
    packet = bytearray(encode(FOUR))
    packet[24:26] = (8 + 7).to_bytes(2, "big")
    assert decode(RAW, bytes(packet)) == Datagram(FOUR.flow, FOUR.payload[:7])
    packet[24:26] = (len(FOUR.payload) + 9).to_bytes(2, "big")
    with pytest.raises(CutShortError):
        decode(RAW, bytes(packet))


@BOTH
def test_a_fragment_is_an_error(message: Datagram) -> None:
    """It is no datagram, and not taken for one."""
    with pytest.raises(FragmentError):
        decode(RAW, fragment(message))


@settings(deadline=None)
@given(
    st.sampled_from([0, 1, 12, RAW, 108, 228]),
    st.sampled_from([encode(FOUR), ethernet(SIX), fragment(FOUR), fragment(SIX)]),
    st.lists(st.tuples(st.integers(0, 70), st.binary(max_size=4)), max_size=6),
    st.binary(max_size=60),
)
def test_arbitrary_frames(
    link: int, frame: bytes, changes: list[tuple[int, bytes]], tail: bytes
) -> None:
    """However broken a frame is, nothing but the two errors escapes dpkt."""
    data = bytearray(frame)
    for at, change in changes:
        data[at : at + len(change)] = change
    for each in (tail, bytes(data), bytes(data) + tail, bytes(data)[: len(tail)]):
        try:
            message = decode(link, each)
        except (CutShortError, FragmentError):
            continue
        assert message is None or isinstance(message, Datagram)
