"""Whatever comes in at the port of the ingest, the track is whole packets in order."""

import math
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaylib.history.history import History
from relaylib.media import rtp
from relaylib.source.batch import Batch
from relaylib.track.ring import Ring
from relaylib.track.track import Track
from relaylib.track.walk import Walk
from tools.lab.inprocess import running_loop
from tools.lab.web import PACKET, numbers, packet

FOREIGN = [
    b"\0",
    b"G",
    b"hello",
    b"keepalive" * 30,
    b"\x80\xc8\x00\x06" + bytes(24),  # RTCP
    b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(20),  # STUN
    rtp.header(77, 1, 0, 96) + bytes(1300),  # FEC
    bytes(range(256)) * 5,
]


@dataclass(frozen=True)
class Sender:
    """How a source sends packets."""

    form: str
    size: int = 7 * PACKET
    padding: int = 0

    def datagrams(self, first: int, count: int, ssrc: int = 7) -> list[bytes]:
        """Return the datagrams of so many packets from number `first` on."""
        stream = b"".join(packet(first + each) for each in range(count))
        pieces = [stream[at : at + self.size] for at in range(0, len(stream), self.size)]
        if self.form == "ts":
            return pieces
        return [self._in_rtp(number, piece, ssrc) for number, piece in enumerate(pieces, 65_500)]

    def _in_rtp(self, number: int, piece: bytes, ssrc: int) -> bytes:
        head = rtp.header(number, number * 90, ssrc)
        if self.form == "csrc":
            head = bytes((head[0] | 1,)) + head[1:] + b"CSRC"
        if self.form == "extension":
            head = bytes((head[0] | 0x10,)) + head[1:] + b"\xbe\xde\x00\x01" + b"extn"
        if self.padding:
            head = bytes((head[0] | 0x20,)) + head[1:]
            return head + piece + bytes(self.padding - 1) + bytes((self.padding,))
        return head + piece


SENDERS = [
    Sender("ts"),
    Sender("ts", 1472),
    Sender("ts", 1024),
    Sender("ts", 4096),
    Sender("rtp"),
    Sender("rtp", padding=4),
    Sender("csrc"),
    Sender("extension", 5 * PACKET),
]
IN_RTP = [each for each in SENDERS if each.form != "ts"]
senders = st.sampled_from(SENDERS)
seeds = st.integers(0, 1 << 30)


class Reading:
    """A history, the walk over it, and the track."""

    def __init__(self, walk: Walk, history: History) -> None:
        self.walk, self._history = walk, history
        self._now = walk._loop.time()

    def take(self, datagrams: list[bytes]) -> None:
        """Let these come in, some at a time, and look at them."""
        for at in range(0, len(datagrams), 20):
            batch = Batch()
            for each in datagrams[at : at + 20]:
                batch.room()[: len(each)] = each
                batch.add(len(each))
            self._history.append(batch.finish(), self._now)
            self.walk.catch_up()

    def finish(self) -> bytes:
        """Return the whole track."""
        self.walk.monitor.finish()
        track = self.walk.track
        assert track.oldest == 0
        return b"".join(track.pieces(0, track.end))


def read(*parts: list[bytes]) -> tuple[bytes, Walk]:
    """Let some sources send, one after the other; return the track."""
    with running_loop() as loop:
        history = History(math.inf, 1 << 22)
        walk = Walk(loop, history, Track(Ring(math.inf, 1 << 22), 0.0))
        reading = Reading(walk, history)
        for number, datagrams in enumerate(parts):
            if number:
                walk.new_source()
            reading.take(datagrams)
        return reading.finish(), walk


def mixed(rng: random.Random, datagrams: list[bytes], share: float) -> list[bytes]:
    """Put other things between datagrams."""
    found = list[bytes]()
    for each in datagrams:
        if rng.random() < share:
            found.append(rng.choice(FOREIGN))
        found.append(each)
    return found


@settings(max_examples=60)
@given(senders, seeds)
def test_what_is_not_of_the_stream_is_left_out(sender: Sender, seed: int) -> None:
    """Keepalives, FEC, RTCP, STUN and text between datagrams of any form tear nothing."""
    sent = sender.datagrams(0, 500)
    track, walk = read(mixed(random.Random(seed), sent, 0.1))
    assert list(numbers(track)) == list(range(500))
    assert not any(walk.counts.errors.values())


@settings(max_examples=60)
@given(st.sampled_from(IN_RTP), seeds)
def test_rtp_is_put_in_order(sender: Sender, seed: int) -> None:
    """Datagrams that are swapped with the next ones, or come twice, are in order there, once."""
    rng, sent = random.Random(seed), sender.datagrams(0, 700)
    for at in range(3, len(sent) - 4):
        if rng.random() < 0.05:
            to = at + rng.randint(1, 3)
            sent[at], sent[to] = sent[to], sent[at]
    doubled = list[bytes]()
    for each in sent:
        doubled += [each] * (1 + (rng.random() < 0.05))
    track, walk = read(mixed(rng, doubled, 0.02))
    assert list(numbers(track)) == list(range(700))
    assert walk.counts.lost == 0
    assert not any(walk.counts.errors.values())


@settings(max_examples=60)
@given(senders, seeds)
def test_what_is_lost_is_all_that_is_missing(sender: Sender, seed: int) -> None:
    """A lost datagram takes the packets with it that were in it, if only in part, and no others."""
    rng, sent = random.Random(seed), sender.datagrams(0, 700)
    lost = {at for at in range(4, len(sent) - 4) if rng.random() < 0.02}
    track, walk = read([each for at, each in enumerate(sent) if at not in lost])
    missing = set[int]()
    for at in lost:
        first, behind = at * sender.size, (at + 1) * sender.size
        missing |= set(range(first // PACKET, -(-behind // PACKET)))
    expected = [number for number in range(700) if number not in missing]
    assert list(numbers(track)) == expected
    assert walk.counts.lost == (0 if sender.form == "ts" else len(lost))


@settings(max_examples=60)
@given(st.lists(senders, min_size=2, max_size=5), seeds)
def test_sources_follow_each_other(one_by_one: list[Sender], seed: int) -> None:
    """Where another source begins, in whatever form, there is a break, and packets stay whole."""
    rng, parts, first = random.Random(seed), list[list[bytes]](), 0
    for ssrc, sender in enumerate(one_by_one):
        count = rng.randint(60, 300)
        sent = sender.datagrams(first, count, ssrc)
        parts.append(sent[: rng.randint(8, len(sent))] if len(sent) > 8 else sent)
        first += 1000
    track, walk = read(*parts)
    found = list(numbers(track))
    assert found == sorted(set(found))
    assert {number // 1000 for number in found} == set(range(len(parts)))
    ends = [at for at in range(1, len(found)) if found[at] // 1000 != found[at - 1] // 1000]
    assert [each.at for each in walk.track.breaks] == [at * PACKET for at in ends]
    assert not any(walk.counts.errors.values())


@pytest.mark.parametrize("sender", SENDERS, ids=str)
def test_each_form_is_known_and_stays(sender: Sender) -> None:
    """However its packets are cut, a stream has one form from the first datagrams on."""
    forms = list[str]()
    with running_loop() as loop:
        history = History(math.inf, 1 << 22)
        track = Track(Ring(math.inf, 1 << 22), 0.0)
        walk = Walk(loop, history, track, on_form=lambda form, _: forms.append(form))
        Reading(walk, history).take(sender.datagrams(0, 2000))
    assert forms == ["ts" if sender.form == "ts" else "rtp"]
