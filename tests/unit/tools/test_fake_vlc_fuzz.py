"""The readers of fake_vlc against input that nobody wrote on purpose.

Whatever the bytes, a reader yields what it understands and ends, or raises its one typed error.
"""

import io
import itertools
import random
import struct

from hypothesis import example, given, settings
from hypothesis import strategies as st

from relaylib.media.mpegts import PACKET, MediaError, PacketReader, datagrams, paced
from tests.unit.tools.test_capture_files import block, interface, packet, section
from tests.unit.tools.test_capture_packets import FOUR, SIX, fragments
from tools.fake_vlc import SAMPLE
from tools.replay.captures import CaptureError, PcapngWriter, PcapWriter, records
from tools.replay.packets import (
    CutShortError,
    Datagram,
    Flow,
    Reassembler,
    UnknownLinkError,
    datagram,
    decode,
    encode,
)
from tools.replay.restamp import Restamper
from tools.replay.sources import choose, replay_capture, survey_capture

quick = settings(max_examples=200, deadline=None)

STREAM = SAMPLE.read_bytes()[: 40 * PACKET]
LINKS = st.sampled_from([0, 1, 12, 101, 108, 113, 228, 276]) | st.integers(0, 65535)
LARGE = Datagram(FOUR.flow, bytes(4000))


def capture(writer: type[PcapWriter | PcapngWriter]) -> bytes:
    """Return a capture of whole and of fragmented datagrams."""
    file = io.BytesIO()
    sink = writer(file)
    for index, frame in enumerate((encode(FOUR), encode(SIX), *fragments(LARGE, 1))):
        sink.write(10**18 + index, frame)
    return file.getvalue()


CAPTURES = (
    capture(PcapWriter),
    capture(PcapngWriter),
    section(">") + interface(">", 1) + packet(">", 0, 9, bytes(12) + b"\x08\0" + encode(FOUR)),
    section("<") + interface("<", 113, struct.pack("<HHBxxx", 9, 1, 9)) + block("<", 2, bytes(40)),
)


@st.composite
def mutated(draw: st.DrawFn, originals: tuple[bytes, ...]) -> bytes:
    """Take a good file and overwrite, remove, insert and cut a few places."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                data[at : at + 4] = draw(st.sampled_from((b"\xff" * 4, bytes(4), b"\0\0\0\7")))
            case 2:
                del data[at : at + draw(st.integers(1, 300))]
            case _:
                data[at:at] = draw(st.binary(max_size=20))
    return bytes(data)


@quick
@given(st.binary(max_size=2000) | mutated((STREAM, STREAM[: 3 * PACKET])))
@example(b"G" * 5000)
def test_transport_streams(data: bytes) -> None:
    """Every packet found is one, every byte is in a packet or skipped, times never run back."""
    reader = PacketReader(io.BytesIO(data))
    packets = list(reader)
    assert all(len(packet) == PACKET and packet[0] == 0x47 for packet in packets)
    assert len(packets) * PACKET + reader.skipped <= len(data)
    restamper = Restamper()
    first = [restamper.rewrite(packet) for packet in packets]
    restamper.rewind()
    second = [restamper.rewrite(packet) for packet in packets]
    assert first == packets
    assert [len(packet) for packet in second] == [PACKET] * len(packets)
    try:
        due = [when for when, _ in datagrams(paced(packets + second))]
    except MediaError:
        return
    assert due == sorted(due)


@quick
@given(st.binary(max_size=500) | mutated(CAPTURES))
def test_captures(data: bytes) -> None:
    """Records come out until the first broken place, which is a typed error of one short line."""
    said = ""
    try:
        for record in itertools.islice(records(io.BytesIO(data)), 1000):
            assert isinstance(record.time, int)
            assert isinstance(record.frame, bytes)
    except CaptureError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 120


@quick
@given(st.binary(max_size=500) | mutated(CAPTURES))
def test_replays_of_captures(data: bytes) -> None:
    """A broken capture is replayed as far as it goes, or refused; nothing else."""
    file = io.BytesIO(data)
    try:
        survey = survey_capture(file)
    except MediaError:
        return
    flow = choose(survey, None)
    replayed = list(replay_capture(file, flow, survey.flows[flow], loop=False))
    assert len(replayed) == survey.flows[flow].datagrams
    assert [due for due, _ in replayed] == sorted(due for due, _ in replayed)
    assert all(isinstance(line, str) for line in survey.warnings())


@quick
@given(LINKS, st.binary(max_size=100) | mutated((encode(FOUR), encode(SIX), *fragments(LARGE, 1))))
def test_frames(link: int, frame: bytes) -> None:
    """A frame is a packet, is none, is cut short or of a foreign kind."""
    try:
        found = decode(link, frame)
        whole = found and Reassembler().add(found)
        message = whole and datagram(whole)
    except (CutShortError, UnknownLinkError):
        return
    assert message is None or isinstance(message, Datagram)


ADDRESSES = st.tuples(*[st.binary(min_size=4, max_size=4)] * 2) | st.tuples(
    *[st.binary(min_size=16, max_size=16)] * 2
)


@quick
@given(
    ADDRESSES, st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=3000), st.randoms()
)
def test_round_trip(
    addresses: tuple[bytes, bytes], source: int, port: int, data: bytes, rng: random.Random
) -> None:
    """Any datagram, cut into fragments in any order, comes out as it went in, once."""
    message = Datagram(Flow(addresses[0], source, addresses[1], port), data)
    frames = fragments(message, 5, 8 * rng.randrange(1, 100))
    rng.shuffle(frames)
    reassembler, out = Reassembler(), []
    for frame in frames:
        found = decode(101, frame)
        assert found is not None
        out.append(reassembler.add(found))
    assert [datagram(whole) for whole in out if whole] == [message]
