"""The links between a file and the network, without either: RTP, faults, the schedule."""

import argparse
import itertools
import random
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from relaylib.media import rtp
from relaylib.media.mpegts import MediaError, PacketReader, Timed
from tools.fake_vlc import SAMPLE, Options, parse
from tools.replay.faults import Done, Faults, inject
from tools.replay.program import bitrate, probability
from tools.replay.sender import MAX_LAG_NS, Schedule

PAYLOAD = b"\x47" + bytes(187)
NUMBERED: list[Timed] = [(index * 10**6, index.to_bytes(4, "big")) for index in range(10_000)]


def numbers(timed: Sequence[tuple[int, bytes | None]]) -> list[int]:
    """Return the numbers of the datagrams that are left, in the order of sending."""
    return [int.from_bytes(payload, "big") for _, payload in timed if payload is not None]


def test_rtp_headers_say_what_a_receiver_needs() -> None:
    """Version 2, payload type 33, sequence up by one, 90 kHz time stamps, one SSRC, wrapping."""
    rng = random.Random(0)
    times = [0, 40_000_000, 3_600_000_000_000]
    wrapped = list(rtp.wrap(((due, PAYLOAD * 7) for due in times), rng))
    headers = [struct.unpack(">BBHII", data[:12]) for _, data in wrapped]
    assert [due for due, _ in wrapped] == times
    assert {len(data) for _, data in wrapped} == {1328}
    assert {header[:2] for header in headers} == {(0x80, 33)}
    assert [(header[2] - headers[0][2]) % 2**16 for header in headers] == [0, 1, 2]
    assert [(header[3] - headers[0][3]) % 2**32 for header in headers] == [0, 3600, 324_000_000]
    assert len({header[4] for header in headers}) == 1
    assert {data[12:] for _, data in wrapped} == {PAYLOAD * 7}


def test_rtp_sequence_numbers_wrap() -> None:
    """After 65535 comes 0."""
    wrapped = rtp.wrap(((0, PAYLOAD) for _ in range(65537)), random.Random(1))
    sequence = [int.from_bytes(data[2:4], "big") for _, data in wrapped]
    assert sequence[-1] == sequence[0]
    assert set(sequence) == set(range(65536))


@pytest.mark.parametrize("payload", [b"", b"\x80\x21" + bytes(186), PAYLOAD[:-1]])
def test_rtp_refuses_what_is_no_transport_stream(payload: bytes) -> None:
    """Wrapping RTP in RTP, or anything else but packets, is an error and not a broken stream."""
    with pytest.raises(MediaError, match="--rtp"):
        list(rtp.wrap([(0, payload)], random.Random()))


def test_without_faults_nothing_changes() -> None:
    """The chain passes everything on when no fault is asked for."""
    assert list(inject(NUMBERED, Faults(), random.Random(), Done())) == NUMBERED


def test_faults_happen_as_often_as_asked() -> None:
    """Drops, duplicates and swaps come at their rates, are counted, and are nothing else."""
    done = Done()
    faults = Faults(drop=0.1, duplicate=0.05, reorder=0.02)
    sent = numbers(list(inject(NUMBERED, faults, random.Random(3), done)))
    assert 900 < done.dropped < 1100
    assert 400 < done.duplicated < 500
    assert 140 < done.reordered < 220
    assert len(sent) == 10_000 - done.dropped + done.duplicated
    assert len(set(sent)) == 10_000 - done.dropped
    assert sum(a > b for a, b in itertools.pairwise(sent)) > 100
    assert all(abs(a - b) < 10 for a, b in zip(sent, sorted(sent), strict=True))


def test_the_same_seed_makes_the_same_faults() -> None:
    """A seed repeats a replay exactly; another one does not; more faults do not move the drops."""
    faults = Faults(drop=0.1, duplicate=0.1, reorder=0.1, jitter=0.02)
    first, again, other = (
        list(inject(NUMBERED, faults, random.Random(seed), Done())) for seed in (1, 1, 2)
    )
    assert first == again != other
    drops = list(inject(NUMBERED, Faults(drop=0.1), random.Random(1), Done()))
    assert set(numbers(drops)) == set(numbers(first))


def test_a_reordered_datagram_comes_after_the_next() -> None:
    """With every other datagram held back, pairs swap; the last one is not lost."""

    class EveryOther(random.Random):
        """Reorders the datagrams 0, 2, 4: the third draw of four decides."""

        draws = 0

        def random(self) -> float:
            self.draws += 1
            return 0.0 if self.draws % 8 == 3 else 0.9

    sent = numbers(list(inject(NUMBERED[:5], Faults(reorder=0.5), EveryOther(), Done())))
    assert sent == [1, 0, 3, 2, 4]


def test_jitter_delays_in_order_and_within_bounds() -> None:
    """Jitter moves datagrams later by up to its size and never swaps them."""
    jittered = list(inject(NUMBERED, Faults(jitter=0.005), random.Random(4), Done()))
    delays = [late - due for (late, _), (due, _) in zip(jittered, NUMBERED, strict=True)]
    assert numbers(jittered) == list(range(10_000))
    assert min(delays) >= 0
    assert 4_500_000 < max(delays) <= 5_000_000
    assert [late for late, _ in jittered] == sorted(late for late, _ in jittered)


@pytest.mark.parametrize("faults", [Faults(drop=1), Faults(reorder=1)])
def test_what_is_not_sent_takes_its_time(faults: Faults) -> None:
    """Dropping or holding back everything leaves the pace as it was, and holds a few only."""
    done, places = Done(), 0
    for _, payload in inject(NUMBERED[:100], faults, random.Random(0), done):
        places += payload is None
    assert places == done.dropped + done.reordered >= 90


def test_garbage_without_end_is_given_up() -> None:
    """A source of bytes that never are packets is refused instead of searched for ever."""
    with Path("/dev/zero").open("rb") as file, pytest.raises(MediaError, match="no MPEG-TS"):
        next(iter(PacketReader(file)))


def test_deadlines_are_absolute() -> None:
    """A late datagram does not make the next one late: errors of sleeping do not add up."""
    schedule = Schedule()
    assert schedule.wait(0, 1000) == 0
    assert schedule.wait(10_000_000, 1000 + 14_000_000) == -4_000_000
    assert schedule.wait(20_000_000, 1000 + 14_000_000) == 6_000_000
    assert schedule.stalled == 0


def test_a_long_stall_moves_the_rest_instead_of_bursting() -> None:
    """What a stall delayed beyond a player's patience is not made up for, and is counted."""
    schedule = Schedule()
    schedule.wait(0, 0)
    stall = MAX_LAG_NS + 1
    assert schedule.wait(0, stall) == -stall
    assert schedule.wait(20_000_000, stall) == 20_000_000
    assert schedule.stalled == stall


@pytest.mark.parametrize(
    ("text", "value"),
    [("5M", 5e6), ("500k", 5e5), ("64000", 64000), ("1.5m", 1.5e6), ("1G", 1e9), ("2K", 2000)],
)
def test_bit_rates_are_written_as_people_do(text: str, value: float) -> None:
    """k, M and G are powers of 1000, in either case, with fractions."""
    assert bitrate(text) == value


@pytest.mark.parametrize("text", ["", "M", "5T", "-5M", "0", "1e6", "5 M", "nan", "9999999G"])
def test_other_bit_rates_are_refused(text: str) -> None:
    """Nonsense, zero and the impossible are errors."""
    with pytest.raises(argparse.ArgumentTypeError):
        bitrate(text)


def test_probabilities_may_be_per_cent() -> None:
    """0.02 and 2% are the same, and nothing is more than certain."""
    assert probability("0.02") == probability("2%") == 0.02
    for text in ("1.1", "101%", "-0.1", "nan", "x", "%"):
        with pytest.raises(argparse.ArgumentTypeError):
            probability(text)


def where(options: Options) -> tuple[str, int, Path]:
    """Return what the positional arguments chose."""
    return options.host, options.port, options.file


def test_host_port_and_file_may_each_be_left_out() -> None:
    """One word is a file, two are HOST PORT; of three the file is last or first."""
    film = Path("film.ts")
    assert where(parse([])) == ("127.0.0.1", 9000, SAMPLE)
    assert where(parse(["film.ts"])) == ("127.0.0.1", 9000, film)
    assert where(parse(["h", "1234"])) == ("h", 1234, SAMPLE)
    assert where(parse(["h", "1234", "film.ts"])) == ("h", 1234, film)
    assert where(parse(["film.ts", "h", "1234"])) == ("h", 1234, film)
    assert where(parse(["h", "--loop", "1234", "--rtp", "film.ts"])) == ("h", 1234, film)
