"""One row of the list of viewers. Pure."""

from collections.abc import Hashable
from typing import NamedTuple

from relaylib.net.address import Address

UDP, FIXED, HTTP = "udp", "fixed", "http"
KINDS = (UDP, FIXED, HTTP)

IDLE, STREAMING, PAUSED, DEFERRED, UNREACHABLE = (
    "idle", "streaming", "paused", "deferred", "unreachable",
)  # fmt: skip
STATES = {
    UDP: (IDLE, STREAMING, PAUSED, DEFERRED),
    FIXED: (STREAMING, UNREACHABLE),
    HTTP: (STREAMING, PAUSED),
}
"""States of each kind."""


class ViewerRow(NamedTuple):
    """A viewer, or a fixed output.

    `sent` is in datagrams, or, by HTTP, in bytes; `lost` in datagrams, or, by HTTP, in gaps.
    `since` is when it came, in seconds of the loop's clock; `delay` how many seconds it is behind.
    `same` is equal in two rows of the same viewer.
    """

    same: Hashable
    kind: str
    state: str
    client: Address | None
    destination: Address | str | None = None
    delay: float | None = None
    sent: int = 0
    lost: int = 0
    since: float = 0.0
