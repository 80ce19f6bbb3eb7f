"""How a stream opens in the middle: the tables, then the stream, as its datagrams are."""

import itertools

import pytest

from relaylib.media import rtp
from relaylib.media.opening import opening
from tests.unit.media.streams import stream, ts_packet

TABLES = ts_packet(pid=0, payload=b"pat") + ts_packet(pid=4096, payload=b"pmt")
PACKETS = stream(7)


@pytest.mark.parametrize("packets", [1, 3, 7, 12])
@pytest.mark.parametrize("at", [0, 2, 6])
def test_a_transport_stream_opens_with_its_tables(packets: int, at: int) -> None:
    """Whole packets, in datagrams that are no larger than the stream's, and than seven packets."""
    datagram = b"".join(stream(packets))
    offset = 188 * min(at, packets - 1)
    got = opening(TABLES, datagram, offset)
    assert b"".join(got) == TABLES + datagram[offset:]
    assert {len(each) % 188 for each in got} == {0}
    assert max(map(len, got)) <= min(7 * 188, len(datagram))


def test_packets_that_go_on_in_the_next_datagram() -> None:
    """Where datagrams are filled to the brim, what follows goes on in the middle of a packet."""
    datagram = b"".join(PACKETS)[100:1300]
    got = opening(TABLES, datagram, 88)
    assert b"".join(got) == TABLES + datagram[88:]
    assert all(len(each) % 188 == 0 and len(each) <= len(datagram) for each in got[:-1])


@pytest.mark.parametrize("csrcs", [0, 2])
@pytest.mark.parametrize("padding", [b"", b"\0\0\0\4"])
def test_rtp_opens_as_rtp(csrcs: int, padding: bytes) -> None:
    """Sequence numbers lead up to that of the datagram, the rest of the header is the same."""
    flags = bytes((0x80 | csrcs | (0x20 if padding else 0),))
    head = flags + rtp.header(1, 90_000, 77)[1:] + bytes(4 * csrcs)
    datagram = head + b"".join(PACKETS) + padding
    got = [rtp.parse(each) for each in opening(TABLES, datagram, len(head) + 188)]
    following = rtp.parse(rtp.header(2, 90_100, 77) + PACKETS[0])
    packets = [each for each in (*got, following) if each]
    assert len(packets) == len(got) + 1 == 3
    for before, after in itertools.pairwise(packets):
        assert (after.sequence - before.sequence) & 0xFFFF == 1
    assert {(each.ssrc, each.payload_type) for each in packets} == {(77, rtp.MP2T)}
    assert {each.timestamp for each in packets[:-1]} == {90_000}
    assert b"".join(each.payload for each in packets[:-1]) == TABLES + b"".join(PACKETS[1:])
