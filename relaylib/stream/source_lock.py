"""Those who may not send the stream, or not now: counted, and reported once a minute."""

import structlog

from relaylib.log import Throttle
from relaylib.net.address import Address, show, unmapped
from relaylib.net.loop import Loop
from relaylib.net.networks import Network, contains

log = structlog.get_logger()


class Strangers:
    """Knows who could own the ingest; `total` counts the datagrams of those who do not."""

    def __init__(self, allowed: tuple[Network, ...], loop: Loop) -> None:
        self.total = 0
        self._allowed = allowed
        self._log = Throttle(loop.call_later, limit=1, period=60)

    def allows(self, source: Address) -> bool:
        """Tell whether this source may send the stream when nobody else does."""
        return contains(self._allowed, unmapped(source)[0])

    def reject(self, source: Address, *, locked: bool) -> None:
        """Count a datagram that is not relayed.

        `locked` means that somebody else owns the ingest. If nobody does, an allowed source is only
        rejected because its datagram is empty: there is nothing to report.
        """
        self.total += 1
        allowed = self.allows(source)
        if allowed and not locked:
            return
        reason = "locked" if allowed else "not_allowed"
        self._log.log(
            log.warning, "source_rejected", source=show(source), reason=reason, total=self.total
        )
