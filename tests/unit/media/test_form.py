"""The form of a stream, from its datagrams."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.media import rtp
from relaylib.media.form import Form, Recogniser, phase
from tests.unit.media.streams import stream

TS = b"".join(stream(40))


def forms(*datagrams: bytes) -> list[Form]:
    """Return what is thought after each datagram."""
    recogniser = Recogniser()
    return [recogniser.feed(datagram) for datagram in datagrams]


@pytest.mark.parametrize("size", [564, 1316, 1128])
def test_one_datagram_of_packets_is_a_transport_stream(size: int) -> None:
    """Bare or in RTP, the first datagram tells; a damaged sync byte only puts it off."""
    header = rtp.header(7, 0, 1)
    assert forms(TS[:size]) == [Form.TS]
    assert forms(header + TS[:size]) == [Form.RTP]
    assert forms(b"x" + TS[1:size], TS[:size]) == [Form.OPAQUE, Form.TS]


def test_a_single_packet_is_a_guess() -> None:
    """Datagrams of a packet or two take three in a row, unless an RTP header names their type."""
    assert forms(*[TS[:188]] * 3) == [Form.OPAQUE, Form.OPAQUE, Form.TS]
    assert forms(TS[:376], b"hello", *[TS[:376]] * 2)[-1] is Form.OPAQUE
    assert forms(rtp.header(7, 0, 1) + TS[:188]) == [Form.RTP]


@pytest.mark.parametrize("at", range(0, 188, 31))
def test_packets_cut_in_two_are_recognised(at: int) -> None:
    """A sender that fills datagrams to the brim begins anywhere in a packet."""
    piece = TS[at : at + 1472]
    assert phase(piece) == -at % 188
    assert forms(piece) == [Form.TS]


def test_rtp_with_anything_else_takes_three_in_a_row() -> None:
    """Two bits are no proof: SSRC, payload type and sequence have to go on."""
    going_on = [rtp.header(65534 + index, 0, 9, 96) + b"nal unit" for index in range(4)]
    assert forms(*going_on) == [Form.OPAQUE, Form.OPAQUE, Form.RTP_OTHER, Form.RTP_OTHER]
    others = [rtp.header(index, 0, index, 96) + b"x" for index in range(50)]
    assert set(forms(*others)) == {Form.OPAQUE}


def test_strays_do_not_matter_and_what_is_found_stays() -> None:
    """Before the stream and in it, other datagrams change nothing."""
    assert forms(b"hello\n", b"", TS[:1316], b"hello\n") == [Form.OPAQUE] * 2 + [Form.TS] * 2


def test_random_datagrams_are_opaque() -> None:
    """Of 20,000 datagrams of noise, of the sizes that streams have, none convinces."""
    rng = random.Random(1)
    noise = (rng.randbytes(rng.choice((188, 376, 1316, 1328, 1472))) for _ in range(20_000))
    assert [form for form in forms(*noise) if form is not Form.OPAQUE] == []


@given(st.lists(st.binary(max_size=400) | st.just(TS[:188]), max_size=10))
def test_arbitrary_datagrams(datagrams: list[bytes]) -> None:
    """No bytes make it fail."""
    for _ in forms(*datagrams):
        pass
