"""The rates of senders, from counts and times alone. Pure.

A rate is in datagrams a second, over the last `PERIOD` seconds, or since the sender began, but
never over less than a second: a few datagrams that come together are no rate.
"""

from collections import deque

from relaylib.net.address import Address

PERIOD = 3.0
"""Seconds over which a rate is measured."""

_STEP = 0.25
"""Seconds whose datagrams are counted together."""

_SENDERS = 8
"""Most senders that are remembered: those that sent last."""


class SendRate:
    """The rate of one sender: `begun` is when it began to send, `last` when it sent last."""

    __slots__ = ("_steps", "begun", "last")

    def __init__(self, now: float) -> None:
        self.begun = self.last = now
        self._steps = deque[tuple[float, int]](maxlen=int(PERIOD / _STEP) + 1)

    def add(self, now: float, count: int = 1) -> None:
        """Count datagrams that have just come."""
        self.last = now
        if self._steps and now - self._steps[-1][0] < _STEP:
            began, before = self._steps.pop()
            self._steps.append((began, before + count))
        else:
            self._steps.append((now, count))

    def at(self, now: float) -> float:
        """Return the rate at this time."""
        count = sum(count for began, count in self._steps if began > now - PERIOD)
        return count / min(PERIOD, max(1.0, now - self.begun))


class SendRates:
    """The rates of the `_SENDERS` senders that sent last."""

    def __init__(self) -> None:
        self._senders = dict[Address, SendRate]()

    def add(self, source: Address, now: float) -> None:
        """Count a datagram. After a pause of more than `PERIOD` a sender's rate begins anew."""
        sender = self._senders.get(source)
        if sender is None or now - sender.last > PERIOD:
            if sender is None and len(self._senders) >= _SENDERS:
                del self._senders[min(self._senders, key=lambda each: self._senders[each].last)]
            sender = self._senders[source] = SendRate(now)
        sender.add(now)

    def at(self, source: Address, now: float, least: float = 0.0) -> float:
        """Return a sender's rate; 0 if it is not remembered, or began less than `least` s ago."""
        sender = self._senders.get(source)
        return sender.at(now) if sender and max(0.0, now - sender.begun) >= least else 0.0
