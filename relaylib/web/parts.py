"""What the web is given of the relay."""

from collections.abc import Callable
from dataclasses import dataclass

from relaylib.channel import Channel
from relaylib.net.address import Address
from relaylib.net.loop import Loop
from relaylib.web.server import HttpServer


@dataclass(frozen=True, slots=True)
class ControlPort:
    """The control port's `address`, and its connections since the start: how many were let in, and,
    by reason, were not.
    """

    address: Address
    accepted: int
    declined: dict[str, int]


@dataclass(frozen=True, slots=True)
class Parts:
    """The relay, as far as the web looks at it: `channel` tells how everything is.

    `door` tells of the control port; `web` is the server that serves this.
    """

    loop: Loop
    channel: Channel
    door: Callable[[], ControlPort]
    web: Callable[[], HttpServer]
