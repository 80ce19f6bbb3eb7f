"""Frames to datagrams and back, without files: link types, headers, fragments, checksums."""

import ipaddress
import itertools
import random
import struct

import dpkt
import pytest

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


def ethertype(message: Datagram) -> bytes:
    """Return the EtherType of the datagram's packet."""
    return b"\x08\x00" if len(message.flow.source) == 4 else b"\x86\xdd"


@BOTH
@pytest.mark.parametrize("size", [0, 1, 7, 1316, 65507])
def test_every_size_survives(message: Datagram, size: int) -> None:
    """An encoded datagram of any size that UDP allows is decoded to the same."""
    sized = Datagram(message.flow, random.Random(size).randbytes(size))
    assert read(RAW, encode(sized)) == sized


@BOTH
@pytest.mark.parametrize("size", [0, 1, 1316, 1317])
def test_checksums_are_right(message: Datagram, size: int) -> None:
    """The checksums are those that another implementation computes."""
    packet = encode(Datagram(message.flow, random.Random(size).randbytes(size)))
    parsed = dpkt.ip.IP(packet) if len(message.flow.source) == 4 else dpkt.ip6.IP6(packet)
    written = parsed.data.sum
    parsed.sum = parsed.data.sum = 0
    assert bytes(parsed) == packet
    assert parsed.data.sum == written != 0


def test_a_checksum_of_zero_is_written_as_all_ones() -> None:
    """A UDP checksum that comes out as 0 is sent as 0xFFFF: 0 means that there is none."""
    plain = encode(Datagram(FOUR.flow, b"\0\0"))
    made_zero = encode(Datagram(FOUR.flow, plain[26:28]))
    assert made_zero[26:28] == b"\xff\xff"


@BOTH
def test_reads_ethernet_with_tags_and_padding(message: Datagram) -> None:
    """Ethernet frames may carry VLAN tags, one in another, and are padded to 60 bytes."""
    macs, kind, packet = bytes(12), ethertype(message), encode(message)
    assert read(1, macs + kind + packet) == message
    assert read(1, macs + b"\x81\x00\x00\x05" + kind + packet + bytes(20)) == message
    assert read(1, macs + b"\x88\xa8\x00\x05\x81\x00\x00\x07" + kind + packet) == message


@BOTH
def test_reads_what_captures_on_any_interface_have(message: Datagram) -> None:
    """Linux cooked captures in both versions, raw IP, and loopback headers of the BSDs."""
    kind, packet = ethertype(message), encode(message)
    assert read(113, bytes(14) + kind + packet) == message
    assert read(276, kind + bytes(18) + packet) == message
    for link in (101, 12, 14, 228, 229):
        assert read(link, packet) == message
    for family in (b"\x02\0\0\0", b"\0\0\0\x1e"):
        assert read(0, family + packet) == read(108, family + packet) == message


def test_steps_over_options() -> None:
    """IPv4 options and IPv6 extension headers lie between the addresses and UDP."""
    packet = encode(FOUR)
    size = (len(packet) + 4).to_bytes(2, "big")
    options = b"\x46" + packet[1:2] + size + packet[4:20] + bytes(4) + packet[20:]
    assert read(RAW, options) == FOUR
    packet = encode(SIX)
    size = (len(packet) - 40 + 8 + 16).to_bytes(2, "big")
    headers = bytes((60, 0)) + bytes(6) + bytes((17, 1)) + bytes(14)
    extended = packet[:4] + size + b"\0" + packet[7:40] + headers + packet[40:]
    assert read(RAW, extended) == SIX


def test_what_is_not_udp_is_none() -> None:
    """ARP, TCP and other versions of IP are told from broken UDP."""
    tcp = bytearray(encode(FOUR))
    tcp[9] = 6
    assert decode(RAW, bytes(tcp)) is None
    assert decode(1, bytes(12) + b"\x08\x06" + bytes(28)) is None
    assert decode(RAW, b"\x50" + bytes(40)) is None
    assert datagram(Packet(*FOUR.flow[::2], b"short")) is None


@BOTH
def test_every_cut_is_noticed(message: Datagram) -> None:
    """A packet that a snapshot length cut anywhere is an error, never a shorter datagram."""
    frame = bytes(12) + ethertype(message) + encode(message)
    for size in range(len(frame)):
        with pytest.raises(CutShortError):
            read(1, frame[:size])


def test_a_length_beyond_the_packet_is_an_error() -> None:
    """A UDP length that says more than the IP packet holds is a cut, too."""
    packet = bytearray(encode(FOUR))
    packet[24:26] = (len(FOUR.payload) + 9).to_bytes(2, "big")
    with pytest.raises(CutShortError):
        read(RAW, bytes(packet))


def test_bytes_behind_the_datagram_are_not_part_of_it() -> None:
    """Where the UDP length is smaller than the IP packet, the rest is none of the payload."""
    packet = bytearray(encode(FOUR))
    packet[24:26] = (8 + 7).to_bytes(2, "big")
    assert read(RAW, bytes(packet)) == Datagram(FOUR.flow, FOUR.payload[:7])


def test_unknown_links_are_named() -> None:
    """A link type that cannot be read is an error with its number."""
    with pytest.raises(UnknownLinkError, match=r"^127$"):
        decode(127, encode(FOUR))


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
        message = whole and datagram(whole)
        if message:
            out.append(message)
    return out


@BOTH
def test_fragments_are_joined_in_any_order(message: Datagram) -> None:
    """A datagram larger than the path's MTU comes out whole, whichever way its parts arrive."""
    large = Datagram(message.flow, random.Random(1).randbytes(4000))
    for order in itertools.permutations(fragments(large, 7)):
        assert joined(list(order)) == [large]


@BOTH
def test_fragments_of_several_datagrams_do_not_mix(message: Datagram) -> None:
    """Interleaved and repeated fragments find their own datagram by its identification."""
    one, two = (Datagram(message.flow, random.Random(seed).randbytes(9000)) for seed in (1, 2))
    pairs = zip(fragments(one, 1), fragments(two, 2), strict=True)
    frames = [frame for pair in pairs for frame in (*pair, pair[0])]
    assert sorted(joined(frames)[:2]) == sorted([one, two])


def test_lost_fragments_are_counted_and_forgotten() -> None:
    """Datagrams that miss a part take bounded memory, and the others do not suffer."""
    reassembler = Reassembler()
    for ident in range(1000):
        packet = decode(RAW, fragments(Datagram(FOUR.flow, bytes(3000)), ident)[0])
        assert packet is not None
        assert reassembler.add(packet) is None
    assert reassembler.incomplete == 1000
    assert len(reassembler._pending) <= 64
    assert joined(fragments(Datagram(FOUR.flow, bytes(3000)), 5)) != []
