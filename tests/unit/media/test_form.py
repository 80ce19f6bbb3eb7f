"""The form of a stream, from its datagrams."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.media import rtp
from relaylib.media.form import CHANGE, CONFIRM, Form, Recogniser, phase
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


def fec(count: int, ssrc: int = 5, first: int = 0, kind: int = 96) -> list[bytes]:
    """Make RTP packets that carry no transport stream, one after the other."""
    return [rtp.header(first + each, 0, ssrc, kind) + bytes(1300) for each in range(count)]


def in_rtp(count: int, first: int = 0) -> list[bytes]:
    """Make datagrams of a transport stream in RTP."""
    return [rtp.header(first + each, 0, 7) + TS[:1316] for each in range(count)]


BARE = [TS[:1316]] * 40
NOISE = [b"\1\2\3" * 400] * 40
KNOWN = [(in_rtp(1), Form.RTP), (BARE[:1], Form.TS)]
OTHERS = [(fec(40), Form.RTP_OTHER), (in_rtp(40), Form.RTP), (BARE, Form.TS), (NOISE, None)]


@pytest.mark.parametrize(("known", "form"), KNOWN, ids=["rtp", "ts"])
@pytest.mark.parametrize(("others", "other"), OTHERS, ids=["fec", "rtp", "ts", "noise"])
def test_a_known_form_changes_only_for_many_in_a_row(
    known: list[bytes], form: Form, others: list[bytes], other: Form | None
) -> None:
    """Fifteen of another form do not change it, however often they come; sixteen do.

    What has no form never does.
    """
    bursts = [each for _ in range(5) for each in (*others[:15], *known)]
    assert set(forms(*known, *bursts)) == {form}
    after = forms(*known, *others[:16])
    assert after == [form] * 16 + [other or form]


def test_who_feeds_only_what_is_not_as_expected_numbers_it() -> None:
    """What lies between two others was of the known form: they are not in a row."""
    one_by_one, together = Recogniser(), Recogniser()
    for recogniser in (one_by_one, together):
        recogniser.feed(TS[:1316], 0)
    for number, datagram in enumerate(fec(100), 1):
        assert one_by_one.feed(datagram, 2 * number) is Form.TS
        form = together.feed(datagram, number)
        assert form is (Form.TS if number < CHANGE else Form.RTP_OTHER)


def test_the_payload_type_is_that_of_the_stream() -> None:
    """None of a bare stream or an unknown one; FEC of another type does not change that."""
    recogniser = Recogniser()
    types = list[int]()
    for datagram in (
        b"hello",
        *fec(CONFIRM, kind=97),
        *in_rtp(1),
        *fec(CHANGE - 1),
        *BARE[:CHANGE],
    ):
        recogniser.feed(datagram)
        types.append(recogniser.payload_type)
    expected = [-1] * CONFIRM + [97] + [33] * CHANGE + [33] * (CHANGE - 1) + [-1]
    assert types == expected


def test_what_came_first_gives_way_to_the_stream() -> None:
    """RTP of something else is known; the first datagram of packets ends that, whatever is next."""
    mixed = [each for pair in zip(in_rtp(50), fec(50, first=9), strict=True) for each in pair]
    assert forms(*fec(9), *mixed)[8:] == [Form.RTP_OTHER] + [Form.RTP] * 100


@pytest.mark.parametrize("size", [1000, 1024, 1400, 1472])
def test_pieces_that_look_like_rtp_are_none(size: int) -> None:
    """Of packets that are cut, some begin with what could be the header of a packet of MP2T.

    Each packet here ends with one, and they follow each other as in RTP.
    """
    packets = stream(2000)
    for at in range(len(packets)):
        packets[at] = packets[at][:-12] + rtp.header(at, 3600, 7)
    data = b"".join(packets)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    similar = [at for at, each in enumerate(pieces) if rtp.parse(each) and phase(each) == 12]
    assert len(similar) > 5
    assert set(forms(*pieces)) == {Form.TS}
    for at in similar[:-1]:
        assert set(forms(*pieces[at:])[1:]) == {Form.TS}


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
