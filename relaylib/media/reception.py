"""What of an RTP stream arrived: lost, reordered, duplicated, jitter (RFC 3550, A.1, A.3, A.8).

The RFC counts what was expected less what came, so a duplicate hides a loss. Here the numbers that
missing are remembered for a while: a packet that comes late is taken off them, and one that is not
among them came before. Every packet gets a place in the stream, which goes on where sequence
numbers wrap and where a sender starts again; the code behind this file knows only places.
"""

from relaylib.media.rtp import CLOCK_HZ, Packet

MAX_DROPOUT = 3000
"""Packets missing at once that are a loss; more are a sender that started again (A.1), unless its
time stamps went on with the clock: at 100 Mb/s so many are missing after 0.3 s."""

_OUTAGE, _CLOCKS_APART = 0.1, 0.5
"""Seconds that such a hole is long, at least, and that time stamps may differ from the clock."""

MAX_MISORDER = 1024
"""How many packets late is still late (A.1 says 100: that is 50 ms at 20 Mb/s)."""

REPEATS = 0.5
"""Seconds in which nothing comes but packets that have come before, one after the other: that is a
sender which has started again, not a network that repeats."""

_IN_A_ROW = 4
"""Least number of such packets."""

_OLDEST = 120 * CLOCK_HZ
"""Ticks that the time stamp of a late packet may lie back, one second of them ahead."""

_SEQUENCES = 1 << 16
_SIGN = 1 << 31


class Reception:
    """Statistics of one sender."""

    def __init__(self) -> None:
        self.reordered = 0
        """Packets that came behind a later one, but came."""
        self.duplicated = 0
        self.restarts = 0
        """How often the sender started again: another SSRC, or a jump that went on."""
        self.jitter = 0.0
        """Seconds, smoothed (6.4.1)."""
        self.ssrc = -1
        self._given_up = 0
        self._missing = set[int]()
        self._first = self._highest = 0
        self._taken = -MAX_MISORDER  # the last place before the sender started again
        self._shift = 0  # sequence number less place, modulo 2^16
        self._suspect: Packet | None = None  # the next one would confirm a jump
        self._repeated = self._repeats = 0  # place of the latest that had; how many in a row
        self._then: tuple[float, int] | None = None  # when the last packet came, and its time stamp

    @property
    def lost(self) -> int:
        """Packets that did not come. Of the last `MAX_MISORDER`, some may still do."""
        return self._given_up + len(self._missing)

    def lost_before(self, place: int) -> int:
        """Return how many of them belong before a place."""
        return self._given_up + sum(each < place for each in self._missing)

    def follow(self, sequence: int, timestamp: int, ssrc: int, now: float) -> int | None:
        """Take a packet if it is just the next one, and return its place; else `add` has to."""
        if ssrc != self.ssrc or (sequence - self._shift - self._highest) % _SEQUENCES != 1:
            return None
        self._highest += 1
        self._time(timestamp, now)
        return self._highest

    def add(self, packet: Packet, now: float) -> int | None:
        """Take a packet as it arrives; return its place, None if it is not to be looked at.

        One that may be the first of a sender which has started again is not; if the next one shows
        that it is, its place is just before that one's. `now` is in seconds, by any clock.
        """
        if packet.ssrc != self.ssrc:
            self.restarts += self.ssrc >= 0
            self.ssrc = packet.ssrc
            return self._begin(packet, now)
        place = self.follow(packet.sequence, packet.timestamp, packet.ssrc, now)
        if place is not None:
            return place
        ahead = (packet.sequence - self._shift - self._highest) % _SEQUENCES
        return self._out_of_turn(packet, ahead, now)

    def begin_anew(self) -> None:
        """Accept any next packet; those still missing are not counted as lost."""
        self._missing = {place for place in self._missing if place <= self._highest - InOrder.DEPTH}
        self.ssrc = -1

    def _begin(self, packet: Packet, now: float) -> int:
        self._give_up(self._highest + 1)
        if self._first:
            self._taken = self._highest
        self._highest += 1
        self._first = self._highest
        self._shift = packet.sequence - self._highest
        self._suspect = None
        self._then, self._repeats = (now, packet.timestamp), 0
        return self._highest

    def _out_of_turn(self, packet: Packet, ahead: int, now: float) -> int | None:
        behind = -ahead % _SEQUENCES
        if ahead and (ahead <= MAX_DROPOUT or self._went_on(packet, ahead, now)):
            self._missing.update(range(self._highest + 1, self._highest + ahead))
            self._highest += ahead
            self._give_up(self._highest - MAX_MISORDER)
            self._time(packet.timestamp, now)
            return self._highest
        if behind <= MAX_MISORDER and self._is_old(packet):
            place = self._late(self._highest - behind)
            if not self._repeats_for_long(now):
                return place
            self.restarts += 1
            return self._begin(packet, now)
        if self._suspect and packet.sequence == (self._suspect.sequence + 1) % _SEQUENCES:
            self.restarts += 1
            self._begin(self._suspect, now)
            return self.follow(packet.sequence, packet.timestamp, packet.ssrc, now)
        self._suspect = packet
        return None

    def _went_on(self, packet: Packet, ahead: int, now: float) -> bool:
        """Tell whether a sender went on meanwhile, and nothing of that came."""
        if self._then is None or ahead >= _SEQUENCES // 2:
            return False
        then, stamp = self._then
        step = (packet.timestamp - stamp) % (2 * _SIGN) / CLOCK_HZ
        return now - then >= _OUTAGE and step > 0 and abs(now - then - step) < _CLOCKS_APART

    def _is_old(self, packet: Packet) -> bool:
        """Tell whether a packet was sent before the newest one, as its time stamp has it.

        One that looks late by its number alone is of a sender that has started again.
        """
        stamp = self._then[1] if self._then else packet.timestamp
        return (stamp - packet.timestamp + CLOCK_HZ) % (2 * _SIGN) <= _OLDEST

    def _repeats_for_long(self, now: float) -> bool:
        newest = self._then[0] if self._then else now
        return self._repeats >= _IN_A_ROW and now - newest >= REPEATS

    def _late(self, place: int) -> int | None:
        if place <= self._taken:
            self.reordered += 1
            return None
        if place < self._first and self._highest - self._first <= InOrder.DEPTH:
            # those before the first one seen
            self._missing.update(range(place, self._first))
            self._first = place
        if place not in self._missing:
            self.duplicated += 1
            self._repeats = self._repeats + 1 if place == self._repeated + 1 else 1
            self._repeated = place
            return None
        self._repeats = 0
        self._missing.remove(place)
        self.reordered += 1
        return place

    def _give_up(self, before: int) -> None:
        """Give up on what is missing before a place."""
        old = {place for place in self._missing if place < before}
        self._missing -= old
        self._given_up += len(old)

    def _time(self, timestamp: int, now: float) -> None:
        if self._then:
            then, stamp = self._then
            step = (timestamp - stamp + _SIGN) % (2 * _SIGN) - _SIGN
            self.jitter += (abs(now - then - step / CLOCK_HZ) - self.jitter) / 16
        self._then = (now, timestamp)


Arrival = tuple[bytes, float, int]
"""A payload, when it came, and its position (`Transport.feed`)."""


class InOrder:
    """Gives packets by their places, as a receiver does; waits a little for one that is missing."""

    DEPTH = 32
    """Later packets that come before a missing one is given up: 20 ms at 20 Mb/s."""

    WAIT = 0.1
    """Seconds before it is given up, in a slow stream."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._held = dict[int, Arrival]()

    @property
    def turn(self) -> int:
        """The place whose turn it is: what is missing before it is waited for no longer."""
        return self._next or 0

    def follow(self, place: int) -> bool:
        """Tell whether the packet at this place need not wait; then it is taken for given."""
        if self._held or place != self._next:
            return False
        self._next = place + 1
        return True

    def put(self, place: int, payload: bytes, now: float, position: int = 0) -> list[Arrival]:
        """Take a packet that arrived `now`; return those whose turn it is."""
        if self._next is None:
            self._next = place
        if place == self._next and not self._held:
            self._next += 1
            return [(payload, now, position)]
        if place >= self._next:
            self._held[place] = (payload, now, position)
        waited = self._held and now - next(iter(self._held.values()))[1] > self.WAIT
        return self._due(0 if waited else self.DEPTH)

    def rest(self) -> list[Arrival]:
        """Return all that is held: nothing more comes."""
        return self._due(0)

    def _due(self, depth: int) -> list[Arrival]:
        due = list[Arrival]()
        while self._held:
            if self._next not in self._held:
                if len(self._held) <= depth:
                    break
                self._next = min(self._held)
            due.append(self._held.pop(self._next))
            self._next += 1
        return due
