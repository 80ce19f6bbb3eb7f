"""The RTP header: every part of it, cut anywhere, with bytes behind, and in arbitrary bytes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.media import rtp

FIXED = struct.pack(">HII", 0xFFFE, 0x89ABCDEF, 0x01234567)
PLAIN = b"\x80\xa1" + FIXED
CSRCS = b"\x83\x21" + FIXED + bytes(range(12))
EXTENSION = b"\x90\x21" + FIXED + b"\xbe\xde\0\2" + bytes(8)
BOTH = b"\x91\x21" + FIXED + b"csrc" + b"\xbe\xde\0\1" + b"more"
HEADERS = pytest.mark.parametrize("header", [PLAIN, CSRCS, EXTENSION, BOTH])


def test_every_field_is_read() -> None:
    """Marker, payload type, sequence, time stamp and SSRC are those of the header."""
    packet = rtp.parse(PLAIN + b"payload")
    assert packet is not None
    assert packet[:5] == (True, 33, 0xFFFE, 0x89ABCDEF, 0x01234567)
    assert bytes(packet.payload) == b"payload"


@HEADERS
def test_csrcs_and_extension_are_no_payload(header: bytes) -> None:
    """The payload begins behind them; cut inside the header there is no RTP, behind it a prefix."""
    whole = header + b"payload"
    for size in range(len(whole) + 1):
        packet = rtp.parse(whole[:size])
        if size < len(header):
            assert packet is None
        else:
            assert packet is not None
            assert packet.payload == whole[len(header) : size]
    longer = rtp.parse(memoryview(whole + b" and more"))
    assert longer is not None
    assert bytes(longer.payload) == b"payload and more"


@HEADERS
def test_padding_is_no_payload(header: bytes) -> None:
    """The last byte tells how much is padding: never more than there is, nor nothing at all."""
    padded = bytes((header[0] | 0x20,)) + header[1:]
    for size, payload in ((1, b"payloa"), (7, b""), (8, None), (255, None), (0, None)):
        packet = rtp.parse(padded + b"payloa" + bytes((size,)))
        assert (packet and bytes(packet.payload)) == payload


@pytest.mark.parametrize(
    "datagram",
    [
        b"\x47" + bytes(187),
        b"\x40" + PLAIN[1:],
        b"\xc0" + PLAIN[1:],
        *(bytes((0x80, kind)) + FIXED for kind in range(200, 205)),
    ],
)
def test_other_datagrams_are_none(datagram: bytes) -> None:
    """MPEG-TS, other versions and RTCP (RFC 3550, 6) are not taken for RTP."""
    assert rtp.parse(datagram) is None


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda data: b"\xb1\x21" + data))
def test_arbitrary_bytes(datagram: bytes) -> None:
    """Whatever the bytes: none, or a packet whose payload lies within them."""
    packet = rtp.parse(datagram)
    if packet is not None:
        assert bytes(packet.payload) in datagram[12:]
        assert packet[:5] == rtp.parse(memoryview(datagram))[:5]  # type: ignore[index]


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(0, (1 << 32) - 1))
def test_a_built_header_is_read_back(sequence: int, timestamp: int, ssrc: int) -> None:
    """A built header takes 12 bytes, and counters that ran over are wrapped."""
    header = rtp.header(sequence, timestamp, ssrc)
    assert len(header) == rtp.HEADER_SIZE
    packet = rtp.parse(header + b"x")
    assert packet is not None
    assert packet[:5] == (False, 33, sequence % 2**16, timestamp % 2**32, ssrc)
