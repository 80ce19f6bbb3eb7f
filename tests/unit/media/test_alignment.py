"""Packets out of pieces that are cut anywhere, and whatever comes between these."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relaylib.media.alignment import Alignment
from relaylib.media.mpegts import PACKET_SIZE
from tests.unit.media.streams import stream

PACKETS = stream(400)
STREAM = b"".join(PACKETS)
KEEPALIVES = [
    b"\0",
    b"\r\n",
    b"hello\n",
    b"keepalive " * 30,
    bytes(1316),
    bytes(range(128, 256)) * 9,
]
sizes = st.lists(st.integers(1, 2000), min_size=1, max_size=80)


def pieces(sizes: Iterable[int], data: bytes = STREAM) -> list[bytes]:
    """Cut a stream into pieces of these sizes; what is left is no piece."""
    found, at = list[bytes](), 0
    for size in sizes:
        found.append(data[at : at + size])
        at += size
    return [each for each in found if each]


def taken(alignment: Alignment, pieces: Iterable[bytes]) -> list[bytes]:
    """Return the packets that come of pieces."""
    found = list[bytes]()
    for piece in pieces:
        data = alignment.take(piece, 0)
        assert len(data) % PACKET_SIZE == 0
        found += [data[at : at + PACKET_SIZE] for at in range(0, len(data), PACKET_SIZE)]
    return found


def whole(count: int) -> list[bytes]:
    """Return the packets that are whole in the first bytes of the stream."""
    return PACKETS[: count // PACKET_SIZE]


@given(sizes)
@example([1, 136, 2000, 2000, 187, 1316])  # what completes a packet shows none of the next one
def test_pieces_that_are_cut_anywhere(sizes: list[int]) -> None:
    """The packets come back, each as soon as it is whole; nothing is foreign, nothing torn."""
    alignment, given_back, length = Alignment(), 0, 0
    for piece in pieces([1316, *sizes]):
        length += len(piece)
        for packet in taken(alignment, [piece]):
            assert packet == PACKETS[given_back]
            given_back += 1
        assert length // PACKET_SIZE - given_back in (0, 1)
    assert given_back >= length // PACKET_SIZE - 1
    assert (alignment.foreign, alignment.torn) == (0, 0)


@given(st.integers(1, PACKET_SIZE), st.lists(st.integers(400, 2000), min_size=4, max_size=20))
def test_the_beginning_may_be_anywhere(skipped: int, sizes: list[int]) -> None:
    """Of a stream that is joined in the middle of a packet, all that are whole come."""
    found = taken(Alignment(), pieces([600, *sizes], STREAM[skipped:]))
    last = (skipped + 600 + sum(sizes)) // PACKET_SIZE
    assert found == PACKETS[1:last]


@given(st.lists(st.integers(PACKET_SIZE, 2000), max_size=40), st.data())
def test_what_comes_between_tears_nothing(sizes: list[int], data: st.DataObject) -> None:
    """Keepalives, text and noise are left out, wherever, also several after each other."""
    sent, strays = list[bytes](), 0
    for piece in pieces([1316, *sizes]):
        between = data.draw(st.lists(st.sampled_from(KEEPALIVES), max_size=2))
        sent += [piece, *between]
        strays += len(between)
    alignment = Alignment()
    assert taken(alignment, sent) == whole(1316 + sum(sizes))
    assert alignment.torn == 0
    assert alignment.foreign <= strays


@pytest.mark.parametrize("size", [564, 1000, 1024, 1400, 1472, 4096])
@pytest.mark.parametrize("seed", range(5))
def test_a_piece_that_is_lost_takes_only_its_own_packets(size: int, seed: int) -> None:
    """Those that were in it in part go with it, and no others."""
    cut, rng = pieces([size] * (len(STREAM) // size)), random.Random(seed)
    lost = set(rng.sample(range(2, len(cut) - 2), len(cut) // 10))
    alignment = Alignment()
    found = taken(alignment, [each for at, each in enumerate(cut) if at not in lost])
    missing = set[int]()
    for at in lost:
        missing |= set(range(at * size // PACKET_SIZE, -(-(at + 1) * size // PACKET_SIZE)))
    packets = range(len(cut) * size // PACKET_SIZE)
    assert found == [PACKETS[number] for number in packets if number not in missing]
    assert alignment.torn <= len(lost)
    assert alignment.foreign == 0


@given(st.sampled_from([1000, 1024, 1400, 1472]), st.integers(0, 1 << 30))
def test_damaged_sync_bytes(size: int, seed: int) -> None:
    """Where one in a piece is damaged, its packet keeps its place, and so do all others."""
    data, rng = bytearray(STREAM), random.Random(seed)
    for start in range(2 * size, len(data) - size, size):
        places = range(-start % PACKET_SIZE, size, PACKET_SIZE)
        if rng.random() < 0.3:
            data[start + rng.choice(places)] ^= 1 << rng.randrange(8)
    cut = pieces([size] * (len(data) // size), bytes(data))
    alignment = Alignment()
    found = b"".join(taken(alignment, cut))
    assert found == data[: len(found)]
    assert len(found) == len(cut) * size // PACKET_SIZE * PACKET_SIZE
    assert (alignment.foreign, alignment.torn) == (0, 0)


@pytest.mark.parametrize("usual", [0, 7 * PACKET_SIZE])
def test_whole_packets_of_which_some_are_damaged(usual: int) -> None:
    """A piece of packets stays one if one sync byte is left, or none but its length is usual."""
    size = 7 * PACKET_SIZE
    damaged = bytearray(STREAM[size : 2 * size])
    for at in range(0, size, PACKET_SIZE):
        damaged[at] = 0
        data = Alignment().take(bytes(damaged), 0, usual)
        assert data == (damaged if usual or at < size - PACKET_SIZE else b"")


def test_one_that_waits_is_told_torn_once() -> None:
    """A packet that began behind whole ones and is not gone on with is one, however long that is.

    Whatever has no beginning is none.
    """
    alignment = Alignment()
    taken(alignment, pieces([1000]))
    assert alignment.waits
    assert taken(alignment, [STREAM[1316:2632], STREAM[2632:3948]]) == PACKETS[7:21]
    assert (alignment.torn, alignment.waits) == (1, False)


def test_after_a_new_beginning_nothing_need_follow() -> None:
    """What has begun is forgotten, and not torn."""
    alignment = Alignment()
    taken(alignment, pieces([1000]))
    alignment.begin_anew()
    assert not alignment.waits
    assert taken(alignment, [STREAM[2000:4000]]) == PACKETS[11:21]
    assert (alignment.torn, alignment.foreign) == (0, 0)


@given(sizes)
def test_positions_are_those_of_the_bytes(sizes: list[int]) -> None:
    """Each packet that comes can be found where it began, in this piece or a former one."""
    alignment, number, at = Alignment(), 0, 0
    where = dict[int, int]()  # byte of the stream -> its position
    for index, piece in enumerate(pieces([1316, *sizes])):
        where |= {at + byte: (index << 20) + byte for byte in range(len(piece))}
        at += len(piece)
        count = len(alignment.take(piece, index << 20)) // PACKET_SIZE
        for each in range(count):
            position = alignment.start + each * PACKET_SIZE if each else alignment.first
            assert position == where[(number + each) * PACKET_SIZE]
        number += count


@given(st.lists(st.binary(max_size=600) | st.sampled_from(PACKETS[:3]), max_size=30))
def test_arbitrary_pieces(given_pieces: list[bytes]) -> None:
    """Whatever comes: whole packets or nothing, and what is kept is bounded."""
    alignment = Alignment()
    taken(alignment, given_pieces)
    assert len(alignment._rest) < PACKET_SIZE
    assert len(alignment._rest) + len(alignment._doubtful) <= PACKET_SIZE
    assert len(alignment._searched) <= 5 * PACKET_SIZE


@pytest.mark.parametrize("size", [3 * PACKET_SIZE, 7 * PACKET_SIZE, 348 * PACKET_SIZE])
@pytest.mark.parametrize("shift", [1, 40, 140, 187])
def test_pieces_as_long_as_whole_packets_may_begin_inside_one(size: int, shift: int) -> None:
    """Also where nothing is known of the one before, and packets were whole until then."""
    alignment, data = Alignment(), b"".join(stream(2000))[shift:]
    pieces = [data[at : at + size] for at in range(0, len(data) - size + 1, size)]
    found = alignment.take(pieces[0], 0, usual=size)
    found += b"".join(alignment.take(each, 0, usual=size) for each in pieces[1:])
    assert found == data[-shift % PACKET_SIZE :][: len(found)]
    assert len(found) > len(pieces) * size - 2 * PACKET_SIZE
