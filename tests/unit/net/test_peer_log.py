"""How much of what viewers do is logged, with a clock made of numbers."""

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from relaylib.net.loop import Loop
from relaylib.net.peer_log import ALL, PERIOD, SHARE, PeerLog


class Clock:
    """The part of a loop that the log needs; time passes when it is told."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._made = 0

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        """Call back when so much time has passed."""
        self._made += 1
        heapq.heappush(self._timers, (self.now + delay, self._made, callback))

    def call_every(self, period: float, callback: Callable[[], None]) -> None:
        """Call back again and again."""

        def again() -> None:
            self.call_later(period, again)
            callback()

        self.call_later(period, again)

    def turn_to(self, now: float) -> None:
        """Let time pass."""
        while self._timers and self._timers[0][0] <= now:
            self.now, _, callback = heapq.heappop(self._timers)
            callback()
        self.now = now


class Log:
    """A log of viewers: how often each event is told of, and in how many lines."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lines = 0
        self.told: Counter[str] = Counter()
        self._log = PeerLog(cast(Loop, self.clock))

    def happens(self, event: str, ip: str) -> None:
        """Let an event happen."""
        self._log.log(self._write, event, ip, client=ip)

    def _write(self, event: str, **fields: Any) -> None:
        self.lines += 1
        self.told[event] += fields.get("suppressed", 1)


def test_a_class_that_comes_watches_and_goes_is_logged_in_full() -> None:
    """Thirty at one address, and four times as many at others: a line for everything they do."""
    log = Log()
    addresses = ["192.0.2.1"] * 30 + [f"198.51.100.{number}" for number in range(120)]
    events = ["client_connected", "output_added", "paused", "resumed", "output_removed"]
    for event in (*events, "client_gone"):
        for ip in addresses:
            log.happens(event, ip)
    assert log.lines == sum(log.told.values()) == 6 * len(addresses)


def test_an_address_that_never_stops_writes_little_and_nothing_is_lost() -> None:
    """An hour of 50 events a second is a share each period, a line a minute, and all counted."""
    log, hour = Log(), 3600
    for number in range(hour * 50):
        log.clock.turn_to(number / 50)
        log.happens("paused" if number % 2 else "resumed", "192.0.2.1")
    log.clock.turn_to(hour + PERIOD)
    assert sum(log.told.values()) == hour * 50
    assert log.lines <= (hour / PERIOD + 1) * SHARE + 2 * (hour + PERIOD) / 60 + 2


def test_many_addresses_share_what_is_left() -> None:
    """However many addresses never stop, the lines of a period are bounded, and all is counted."""
    log = Log()
    for number in range(200_000):
        log.clock.turn_to(PERIOD * number / 200_001)
        log.happens("paused", f"2001:db8::{number % 5000}")
    assert log.lines <= ALL + PERIOD / 60
    log.clock.turn_to(2 * PERIOD)
    assert log.told["paused"] == 200_000
