"""The transport stream out of the history: what comes out is what was in the datagrams."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from relaylib.media import rtp
from relaylib.media.form import Form
from relaylib.stream.batch import Batch
from relaylib.stream.history import AccessPoint, History
from relaylib.stream.payload import Cursor, Cuts
from tools.lab.web import PACKET, packet

forms = st.sampled_from(["ts", "rtp", "rtp with csrc", "rtcp"])
datagrams = st.lists(st.tuples(forms, st.integers(1, 7)), min_size=1, max_size=60)


def make(form: str, packets: bytes, number: int) -> tuple[bytes, bytes]:
    """Return a datagram, and what of it belongs to the transport stream."""
    match form:
        case "ts":
            return packets, packets
        case "rtp":
            return rtp.header(number, 0, 7) + packets, packets
        case "rtp with csrc":
            head = rtp.header(number, 0, 7)
            return bytes((head[0] | 1,)) + head[1:] + b"CSRC" + packets, packets
    return b"\x80\xc8\x00\x06" + bytes(24), b""


def fill(history: History, kinds: list[tuple[str, int]], a_batch: int = 5) -> bytes:
    """Append datagrams in batches; return the transport stream."""
    numbers, stream = itertools.count(), b""
    for start in range(0, len(kinds), a_batch):
        batch = Batch()
        for form, count in kinds[start : start + a_batch]:
            packets = b"".join(packet(next(numbers)) for _ in range(count))
            whole, inside = make(form, packets, start)
            batch.room()[: len(whole)] = whole
            batch.add(len(whole))
            stream += inside
        history.append(batch.finish(), float(start))
    return stream


@given(datagrams, st.lists(st.integers(1, 3000), min_size=1), st.integers(1, 5000))
def test_what_is_cut_is_the_stream(
    kinds: list[tuple[str, int]], writes: list[int], most: int
) -> None:
    """Whatever a write takes of a cut, what follows is what follows; RTP and RTCP are left out."""
    history = History(1e9, 1 << 18)
    stream, got = fill(history, kinds), b""
    cuts, cursor, sizes = Cuts(history, lambda: Form.RTP), Cursor(0), itertools.cycle(writes)
    while (cut := cuts.cut(cursor, 1e9, most)).pieces:
        data = b"".join(cut.pieces)
        assert len(data) == cut.octets
        taken = data[: next(sizes)]
        cursor = cuts.behind(cursor, len(taken))
        got += taken
    assert got == stream
    history.close()


def test_packets_that_begin_anywhere_are_passed_on() -> None:
    """A transport stream that fills its datagrams to the brim comes out whole."""
    history = History(1e9, 1 << 18)
    stream = b"".join(packet(each) for each in range(70))
    batch = Batch()
    for at in range(0, len(stream), 1400):
        piece = stream[at : at + 1400]
        batch.room()[: len(piece)] = piece
        batch.add(len(piece))
    history.append(batch.finish(), 1.0)
    cut = Cuts(history, lambda: Form.TS).cut(Cursor(0), 1.0, 1 << 20)
    assert b"".join(cut.pieces) == stream
    history.close()


def test_an_opaque_stream_gives_nothing() -> None:
    """What is no transport stream is not passed on as if it were one."""
    history = History(1e9, 1 << 18)
    batch = Batch()
    for _ in range(9):
        batch.room()[:5] = b"hello"
        batch.add(5)
    history.append(batch.finish(), 1.0)
    assert Cuts(history, lambda: Form.OPAQUE).cut(Cursor(0), 1.0, 1 << 20).pieces == []
    history.close()


def test_who_asks_the_same_gets_the_same() -> None:
    """Readers of one place share one cut: it is made once."""
    history = History(1e9, 1 << 18)
    fill(history, [("rtp", 7)] * 10)
    cuts = Cuts(history, lambda: Form.RTP)
    assert cuts.cut(Cursor(0), 1e9, 9999) is cuts.cut(Cursor(0), 1e9, 9999)
    history.close()


@given(datagrams, st.data())
def test_a_random_access_point_is_found(kinds: list[tuple[str, int]], data: st.DataObject) -> None:
    """Reading on from a point begins with the packet at its octet of its datagram."""
    history = History(1e9, 1 << 18)
    stream = fill(history, kinds)
    number = data.draw(st.integers(0, history.end - 1))
    run = history.run(number).datagrams()
    at = data.draw(st.integers(0, len(run) - 1))
    if run[at][1] == 0xC8 and run[at][0] == 0x80:
        return  # RTCP has no packets
    count = (len(run[at]) - 1) // PACKET
    header = len(run[at]) % PACKET
    offset = header + PACKET * data.draw(st.integers(0, max(0, count - 1)))
    point = AccessPoint(number, at, offset, b"", 0.0)
    cuts = Cuts(history, lambda: Form.RTP)
    rest = b"".join(cuts.cut(cuts.at(point), 1e9, 1 << 20).pieces)
    assert rest[:PACKET] == bytes(run[at][offset : offset + PACKET])
    assert stream.endswith(rest)
    history.close()
