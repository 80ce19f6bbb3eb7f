"""The parts of the relay that the web reads."""

from collections.abc import Callable
from dataclasses import dataclass

from relaylib.channel import Channel
from relaylib.net.address import Address
from relaylib.net.loop import Loop
from relaylib.web.server import HttpServer


@dataclass(frozen=True, slots=True)
class ControlPort:
    """The control port's `address`, and its connections since the start: those accepted, and those
    declined, by reason.
    """

    address: Address
    accepted: int
    declined: dict[str, int]


@dataclass(frozen=True, slots=True)
class Parts:
    """The relay, as far as the web reads it: `channel` has the stream's state.

    `door` describes the control port; `web` is the server that serves this.
    """

    loop: Loop
    channel: Channel
    door: Callable[[], ControlPort]
    web: Callable[[], HttpServer]
