"""What an address may use by HTTP: a share of a core, and a few of the scarce places. Pure.

A limit on requests would not do: a request for `/live.mp4` in the past takes a thousand times the
work of the cheapest one. So the work is measured, and an address that has used its share waits.

An account is one number, the time up to which its work is paid for: a second of work pays for
`1 / SHARE` seconds. It may be so far ahead of the clock that a classroom can come at once.
"""

from collections import Counter
from collections.abc import Callable

from relaylib.net.access import is_exempt
from relaylib.net.networks import Network

SHARE = 0.25
"""Share of a core, in the long run: 200 viewers of HLS need a third of that."""

AT_ONCE = 0.5
"""Seconds of work that may be had at once: a classroom that opens the page, some in the past."""

_TRACKED = 4096
"""Accounts that are kept: the most recently used ones."""


class Budget:
    """The accounts of all addresses. Times are seconds."""

    def __init__(self, exempt: tuple[Network, ...] = ()) -> None:
        """Keep accounts. The loopback and proxies are exempt: many clients are behind a proxy."""
        self._exempt = exempt
        self._paid_until: dict[str, float] = {}

    def is_exempt(self, address: str) -> bool:
        return is_exempt(address, self._exempt)

    def wait(self, address: str, now: float) -> float:
        """Return for how long the address has to wait until more is done for it; 0: not at all."""
        ahead = self._paid_until.get(address, now) - now - AT_ONCE / SHARE
        return 0.0 if ahead <= 0 or self.is_exempt(address) else ahead

    def spend(self, address: str, seconds: float, now: float) -> None:
        """Note that so much work was done for it."""
        until = max(now, self._paid_until.pop(address, now)) + seconds / SHARE
        if len(self._paid_until) >= _TRACKED:
            del self._paid_until[next(iter(self._paid_until))]
        self._paid_until[address] = until


class Account:
    """The account of one address."""

    def __init__(self, budget: Budget, address: str) -> None:
        self._budget, self._address = budget, address

    def wait(self, now: float) -> float:
        """Return for how long it has to wait."""
        return self._budget.wait(self._address, now)

    def spend(self, seconds: float, now: float) -> None:
        """Note that so much work was done for it."""
        self._budget.spend(self._address, seconds, now)


class Places:
    """A number of places, of which an address has no more than it leaves free.

    Of eight, the first address can have four, the next one two; it takes five to have all.
    """

    def __init__(self, most: int, is_exempt: Callable[[str], bool]) -> None:
        """Begin with all places free; addresses that are exempt may take any."""
        self._free = most
        self._is_exempt = is_exempt
        self._taken: Counter[str] = Counter()

    def may_take(self, address: str) -> bool:
        """Tell whether there is one for this address."""
        taken = self._taken[address]
        return self._free > taken or (self._free > 0 and self._is_exempt(address))

    def take(self, address: str) -> None:
        """Take a place; `leave` must follow."""
        self._free -= 1
        self._taken[address] += 1

    def leave(self, address: str) -> None:
        """Give a place back."""
        self._free += 1
        self._taken[address] -= 1
        if not self._taken[address]:
            del self._taken[address]
