"""The log of what peers do: as much of it as anybody reads.

Whatever a peer does it can do again all day, within every other limit: 50 commands a second wrote
1.5 GB of log a day. So each address has a share of the lines, large enough for a class of thirty
that comes, watches and goes. What an address does beyond its share is logged a line a minute, with
how much of it was suppressed; it hides what nobody else does. Many addresses together are limited,
too, likewise by kind of event.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

from relaylib.log import Throttle
from relaylib.net.loop import Loop

PERIOD = 600.0
"""Seconds for which the shares are."""

SHARE = 256
"""Events of one address in a period."""

ALL = 512
"""Events of each kind in a period, of all addresses within their shares."""

_EXCESS_PERIOD = 60.0
"""Seconds between two lines about the events of a kind that were beyond a share."""

_TRACKED = 4096
"""Addresses that are counted; with more, counting begins anew."""


class PeerLog:
    """Logs events of peers, or counts them as suppressed."""

    def __init__(self, loop: Loop) -> None:
        self._events: Counter[str] = Counter()
        self._shared = _by_kind(loop, ALL, PERIOD)
        self._excess = _by_kind(loop, 1, _EXCESS_PERIOD)
        loop.call_every(PERIOD, self._events.clear)

    def log(self, method: Callable[..., Any], event: str, ip: str, **fields: Any) -> None:
        """Log an event of the address `ip` with a logger's method, e.g. `log.info`; or count it."""
        if len(self._events) >= _TRACKED and ip not in self._events:
            self._events.clear()
        self._events[ip] += 1
        throttles = self._shared if self._events[ip] <= SHARE else self._excess
        throttles[event].log(method, event, **fields)


def _by_kind(loop: Loop, limit: int, period: float) -> defaultdict[str, Throttle]:
    return defaultdict(partial(Throttle, loop.call_later, limit, period))
