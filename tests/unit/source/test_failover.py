"""Who is better than the active source: the decision, and the numbers that it is made from."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.media import rtp
from relaylib.media.form import Form
from relaylib.media.health import Monitor
from relaylib.net.address import Address
from relaylib.net.networks import Network
from relaylib.source.failover import CLEAN, FAULTY, HEALTHY, Failover, Rivals
from relaylib.source.gate import Reason
from tests.unit.media import streams
from tests.unit.media.streams import plain_packet

ONE: Address = ("192.0.2.1", 1000)
OTHER: Address = ("192.0.2.2", 1000)
THIRD: Address = ("192.0.2.3", 1000)
PREFERRED: Address = ("198.51.100.1", 1000)
PREFER = (ipaddress.ip_network("198.51.100.0/24"),)

CONTINUITY = "Continuity_count_error"

Second = tuple[Address, int | None, Address | None, int | None]


def decide(*seconds: tuple[int, Second], limit: int | None = 5) -> list[Reason | None]:
    """Tell what is decided in each of these seconds, each given with its number."""
    made = Failover(limit, PREFER)
    return [made.judge(*second) for count, second in seconds for _ in range(count)]


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        ([(3, (ONE, 6, OTHER, 0))], Reason.ERRORS),
        ([(2, (ONE, 6, OTHER, 0))], None),
        ([(99, (ONE, 5, OTHER, 0))], None),
        ([(99, (ONE, 6, OTHER, 1))], None),
        ([(99, (ONE, 6, None, None))], None),
        ([(9, (ONE, 6, OTHER, 0)), (1, (ONE, 0, OTHER, 0)), (2, (ONE, 6, OTHER, 0))], None),
        ([(9, (ONE, 6, OTHER, 0)), (1, (ONE, 6, OTHER, 1)), (2, (ONE, 6, OTHER, 0))], None),
        ([(9, (ONE, 6, OTHER, 0)), (1, (THIRD, 6, OTHER, 0))], None),
        ([(9, (ONE, 6, OTHER, 0)), (1, (ONE, 6, THIRD, 0))], None),
        ([(2, (ONE, 6, OTHER, 0)), (9, (ONE, None, OTHER, 0))], None),
        ([(2, (ONE, 6, OTHER, 0)), (9, (ONE, 6, OTHER, None))], None),
        ([(2, (ONE, 6, OTHER, 0)), (9, (ONE, 6, OTHER, None)), (1, (ONE, 6, OTHER, 0))],
         Reason.ERRORS),
        ([(10, (ONE, 0, PREFERRED, 0))], Reason.PREFERRED),
        ([(9, (ONE, 0, PREFERRED, 0))], None),
        ([(9, (ONE, 0, PREFERRED, 0)), (1, (ONE, 0, PREFERRED, 1)), (9, (ONE, 0, PREFERRED, 0))],
         None),
        ([(99, (ONE, 0, OTHER, 0))], None),
        ([(99, (PREFERRED, 0, (PREFERRED[0], 2), 0))], None),
        ([(3, (PREFERRED, 6, OTHER, 0))], Reason.ERRORS),
    ],
)  # fmt: skip
def test_every_transition(seconds: list[tuple[int, Second]], reason: Reason | None) -> None:
    """Too many errors for 3 s and a clean standby; or a preferred one that is healthy for 10 s."""
    assert decide(*seconds)[-1] is reason
    assert decide(*seconds, limit=None)[-1] is (None if reason is Reason.ERRORS else reason)


ADDRESSES = st.sampled_from([ONE, OTHER, PREFERRED])
ERRORS = st.none() | st.sampled_from([0, 1, 6])


@given(st.lists(st.tuples(ADDRESSES, ERRORS, st.none() | ADDRESSES, ERRORS), max_size=40))
def test_nothing_is_decided_without_the_evidence(seconds: list[Second]) -> None:
    """Whatever came before: the same two, enough bad seconds, enough clean ones, none between."""
    made = Failover(5, PREFER)
    for end, second in enumerate(seconds, 1):
        reason = made.judge(*second)
        if reason is None:
            continue
        same = []
        for each in reversed(seconds[:end]):
            if (each[0], each[2]) != (second[0], second[2]):
                break
            same.append(each)
        clean = [others for *_, others in same if others is not None]
        assert not any(clean[: HEALTHY if reason is Reason.PREFERRED else CLEAN])
        if reason is Reason.PREFERRED:
            assert made.prefers(second[2] or ONE)
            assert not made.prefers(second[0])


# --- from datagrams


class Camera(streams.Camera):
    """One that has an address."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self.address = address


class Watched(Rivals):
    """Rivals, and who looks at the active source's stream; not if it is `blind`."""

    def __init__(self, limit: int | None, prefer: tuple[Network, ...]) -> None:
        super().__init__(limit, prefer, self._errors)
        self.blind = False
        self._monitor = Monitor()
        self._source: Address | None = None

    def _errors(self) -> int | None:
        return None if self.blind else self._monitor.transport.errors.counts[CONTINUITY]

    def feed(self, source: Address, datagram: bytes) -> None:
        """Let the active source send."""
        if source != self._source:
            self._source = source
            self._monitor.begin_anew()
        self._monitor.feed(datagram, 0.0)


def watch(rivals: Watched, active: Camera, standby: Camera | None, *, bad: bool) -> object:
    """Let a second pass in which both send ten datagrams; return who is appointed."""
    for _ in range(10):
        rivals.feed(active.address, active.datagram(skip=bad))
        if standby:
            rivals.follow(standby.address, standby.datagram(), 0.0)
    return rivals.judge(active.address, dropped=False, others_dropped=False)


def test_a_clean_standby_is_found_in_the_datagrams() -> None:
    """After a second in which nobody is judged yet, three in which one is bad and one is not."""
    rivals, one, other = Watched(5, ()), Camera(ONE), Camera(OTHER)
    decided = [watch(rivals, one, other, bad=True) for _ in range(1 + FAULTY)]
    assert decided == [None, None, None, (OTHER, Reason.ERRORS, Form.TS)]
    assert watch(rivals, other, one, bad=False) is None  # what is known of the new one goes on
    assert [watch(rivals, other, one, bad=False) for _ in range(5)] == [None] * 5


def test_one_standby_is_followed_as_long_as_it_sends() -> None:
    """The first that sends a transport stream, whoever else does; a preferred one comes first."""
    rivals, one, other = Watched(5, PREFER), Camera(ONE), Camera(OTHER)
    third, preferred = Camera(THIRD), Camera(PREFERRED)
    noise = [(THIRD, b"hello"), (THIRD, bytes(1316)), (THIRD, rtp.header(1, 2, 3) + bytes(100))]
    for _ in range(9):
        for source, datagram in noise:
            rivals.follow(source, datagram, 0.0)
        rivals.follow(OTHER, other.datagram(), 0.0)
        rivals.follow(THIRD, third.datagram(), 0.0)
        appointed = watch(rivals, one, None, bad=True)
    assert appointed == (OTHER, Reason.ERRORS, Form.TS)
    for _ in range(1 + HEALTHY):
        rivals.follow(PREFERRED, preferred.datagram(), 0.0)
        appointed = watch(rivals, one, other, bad=False)
    assert appointed == (PREFERRED, Reason.PREFERRED, Form.TS)
    assert watch(rivals, one, None, bad=True) is None  # it sends no more


def test_stuffing_is_no_standby() -> None:
    """Packets without a program have no continuity errors either, and show nothing."""
    rivals, one = Watched(0, PREFER), Camera(ONE)
    null = 7 * plain_packet(0x1FFF, 0)
    for _ in range(2 * HEALTHY):
        rivals.follow(PREFERRED, null, 0.0)
        assert watch(rivals, one, None, bad=True) is None


def test_what_is_dropped_here_is_nobodys_fault() -> None:
    """Seconds in which our own buffer was full count neither for nor against the sender."""
    rivals, one, other = Watched(5, ()), Camera(ONE), Camera(OTHER)
    watch(rivals, one, other, bad=True)
    for own in ({"dropped": True}, {"others_dropped": True}):
        for _ in range(9):
            rivals.feed(ONE, one.datagram(skip=1))
            rivals.follow(OTHER, other.datagram(), 0.0)
            flags = {"dropped": False, "others_dropped": False, **own}
            assert rivals.judge(ONE, **flags) is None


def test_what_was_not_seen_is_nobodys_fault() -> None:
    """Seconds in which the active source's stream was not all seen are no evidence.

    Nor is the one after: what came in them is not told apart from what comes then.
    """
    rivals, one, other = Watched(5, ()), Camera(ONE), Camera(OTHER)
    decided = list[object]()
    for second in range(12):
        rivals.blind = second % 3 == 2
        decided.append(watch(rivals, one, other, bad=True))
    assert decided[:5] == [None] * 5
    assert decided.index((OTHER, Reason.ERRORS, Form.TS)) == 7
