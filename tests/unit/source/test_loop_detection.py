"""What goes in a circle is found, and no stream that any source sends is taken for it."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count, cycle, islice

import pytest

from relaylib.media import rtp
from relaylib.media.form import Form
from relaylib.source.loop_detection import LoopDetection, bears_media
from tests.unit.media.streams import pat, plain_packet, pmt, table_packet, ts_packet
from tools.fake_vlc import SAMPLE

A, B = ("192.0.2.1", 5000), ("192.0.2.2", 5000)
EVERY = 0.1
TABLES = table_packet(0, pat({1: 4096})) + table_packet(4096, pmt(1, 256, {256: 27}))
NULL = plain_packet(0x1FFF, 0, b"")


def media(number: int) -> bytes:
    """A datagram of a transport stream, as its source sends it once."""
    payload = number.to_bytes(4, "big") * 46
    return b"".join(plain_packet(256, 7 * number + each, payload) for each in range(7))


def in_rtp(number: int) -> bytes:
    """The same seven packets each time, in RTP."""
    return rtp.header(number, number * 90, 7) + media(0)


def opaque(number: int) -> bytes:
    return b"%06d" % number * 50


def looks(
    source: Iterator[bytes], form: Form, every: int, batch: int, seconds: float = 3.0
) -> float | None:
    """Look at batches of what comes; return after how many seconds a circle was found."""
    detection, received, chance = LoopDetection(), 0, random.Random(1)
    for turn in range(round(seconds / EVERY)):
        some = list(islice(source, max(every, batch) + chance.randrange(every)))
        received += len(some)
        if detection.look(A, some[:batch], form, received, turn * EVERY):
            return turn * EVERY
    return None


def circling(datagrams: Sequence[bytes]) -> Iterator[bytes]:
    """Go round without end."""
    return cycle(datagrams)


@pytest.mark.parametrize(
    ("form", "make"), [(Form.TS, media), (Form.RTP, in_rtp), (Form.OPAQUE, opaque)]
)
@pytest.mark.parametrize(("burst", "batch"), [(2, 1), (60, 5), (60, 60), (92, 64)])
def test_a_burst_that_goes_round_is_found_within_a_second(
    form: Form, make: Callable[[int], bytes], burst: int, batch: int
) -> None:
    """However many datagrams that are, and however many a look sees of them."""
    datagrams = [make(number) for number in range(burst)]
    found = looks(circling(datagrams), form, 4271, batch)
    if form is Form.OPAQUE and batch < burst // 4:
        return  # not all of a look is known then
    assert found is not None
    assert found < 1.0


@pytest.mark.parametrize(
    ("form", "make"), [(Form.TS, media), (Form.RTP, in_rtp), (Form.OPAQUE, opaque)]
)
def test_one_datagram_that_goes_round_is_found(form: Form, make: Callable[[int], bytes]) -> None:
    """It comes thousands of times a second."""
    found = looks(circling([make(7)]), form, 400, 1)
    assert found is not None
    assert found < 1.0


def test_thousands_that_go_round_are_found() -> None:
    """A look finds some of those of other looks."""
    found = looks(circling([media(number) for number in range(1500)]), Form.TS, 4271, 64)
    assert found is not None
    assert found < 1.5


def idle(number: int) -> bytes:
    """Tables and stuffing, as of a multiplexer without input."""
    return TABLES + NULL * 5


@pytest.mark.parametrize(
    ("form", "make"),
    [
        (Form.TS, media),
        (Form.RTP, in_rtp),
        (Form.OPAQUE, opaque),
        (Form.TS, idle),
        (Form.TS, lambda _: NULL * 7),
        (Form.OPAQUE, lambda _: bytes(960)),
    ],
    ids=["ts", "rtp", "opaque", "tables", "stuffing", "silence"],
)
@pytest.mark.parametrize(("every", "batch"), [(48, 1), (48, 48), (95, 64)])
def test_no_stream_is_a_circle(
    form: Form, make: Callable[[int], bytes], every: int, batch: int
) -> None:
    """New datagrams are none, and neither are tables, stuffing and silence that come again."""
    assert looks(map(make, count()), form, every, batch) is None


def test_the_sample_is_no_circle() -> None:
    """A real stream, sent again and again as `make demo` does, is none."""
    data = SAMPLE.read_bytes()
    datagrams = [data[at : at + 1316] for at in range(0, len(data), 1316)]
    each_look = len(datagrams) // 80 // 2  # it lasts eight seconds
    assert looks(circling(datagrams), Form.TS, each_look, each_look, 30.0) is None


def test_some_that_come_twice_are_no_circle() -> None:
    """A network may send a datagram again; one look in six finds one."""
    detection = LoopDetection()
    for turn in range(1, 50):
        number = turn - 1 if turn % 6 == 0 else turn
        assert not detection.look(A, [media(number)], Form.TS, turn, turn * EVERY)


def test_another_source_may_send_the_same() -> None:
    """Two senders of one stream are none: what the one before sent does not count."""
    detection = LoopDetection()
    for turn in range(30):
        who = (A, B)[turn % 2]
        assert not detection.look(who, [media(turn // 2)], Form.TS, turn, turn * EVERY)


@pytest.mark.parametrize(
    ("datagram", "bears"),
    [
        (media(1), True),
        (in_rtp(1), True),
        (TABLES, False),
        (NULL * 7, False),
        (TABLES + NULL + ts_packet(256, 1, payload=b"x" * 20), True),
        (TABLES + b"\x47\x01", False),
        (b"", False),
    ],
)
def test_what_may_not_come_again(datagram: bytes, bears: bool) -> None:
    """Datagrams with a part of a picture, or of sound, and all of RTP."""
    assert bears_media(memoryview(datagram)) == bears


@pytest.mark.parametrize("rate", [100, 475, 900])
def test_a_short_clip_that_is_played_over_and_over_is_no_circle(rate: int) -> None:
    """Half a second of a bare stream, its datagrams the same each time."""
    clip = [media(number) for number in range(rate)]  # of one to two times the rate
    assert looks(circling(clip), Form.TS, rate // 10, rate // 10, seconds=10.0) is None
