"""The log of what peers do, limited so that a peer cannot fill the disk.

A peer can repeat anything all day, within every other limit: 50 commands a second wrote 1.5 GB of
log a day. So each address has a share of the lines, large enough for a class of thirty that comes,
watches and goes. Events of an address beyond its share are logged once a minute, with the number of
those suppressed; the events of other addresses stay in the log. All addresses together are limited,
too, each kind of event by itself.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

from relaylib.log import Throttle
from relaylib.net.loop import Loop

PERIOD = 600.0
"""Length of the period that shares are for, in seconds."""

SHARE = 256
"""Most events of one address in a period."""

ALL = 512
"""Most events of each kind in a period, of all addresses within their shares."""

_EXCESS_PERIOD = 60.0
"""Seconds between two lines about the events of a kind that were beyond a share."""

_TRACKED = 4096
"""Most addresses that are counted; with more, counting begins anew."""


class PeerLog:
    """Logs events of peers, or counts them as suppressed."""

    def __init__(self, loop: Loop) -> None:
        self._events: Counter[str] = Counter()
        self._shared = _by_kind(loop, ALL, PERIOD)
        self._excess = _by_kind(loop, 1, _EXCESS_PERIOD)
        loop.call_every(PERIOD, self._events.clear)

    def log(self, method: Callable[..., Any], event: str, ip: str, **fields: Any) -> None:
        """Log an event of the address `ip` with a logger's method (`log.info`), or suppress it."""
        if len(self._events) >= _TRACKED and ip not in self._events:
            self._events.clear()
        self._events[ip] += 1
        throttles = self._shared if self._events[ip] <= SHARE else self._excess
        throttles[event].log(method, event, **fields)


def _by_kind(loop: Loop, limit: int, period: float) -> defaultdict[str, Throttle]:
    return defaultdict(partial(Throttle, loop.call_later, limit, period))
