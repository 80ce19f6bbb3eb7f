"""What a reload hands over of the web.

It is beside its owners, in a file of its own, because every relay can take over a state, and most
need not load the code that serves HTTP, which takes a third of a start's time more.
"""

from dataclasses import dataclass, field

from relaylib.net.address import Address
from relaylib.net.descriptors import Descriptor
from relaylib.web.playlist import Playlist
from relaylib.web.stream_state import StreamState


@dataclass(slots=True)
class ConnectionState:
    """A connection.

    `received` has not been read yet as a request; `unsent` is the rest of a response, after which
    the connection may be used again unless it is `closing`. `resource` is the path of the stream
    that it carries to `client`, if it carries one.
    """

    sock: Descriptor
    peer: Address
    received: bytes
    unsent: bytes
    closing: bool
    client: str = ""
    resource: str = ""
    stream: StreamState | None = None
    octets: int = 0
    left: int | None = None
    """Bytes of the stream that are still to come, if it has an end."""


@dataclass(slots=True)
class WebState:
    """The server: the listener with the address `asked` for, connections and counters."""

    listener: Descriptor
    asked: tuple[str, int | None]
    connections: list[ConnectionState] = field(default_factory=list)
    accepted: int = 0
    declined: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    octets: int = 0
    skipped: int = 0


@dataclass(slots=True)
class SeriesState:
    """The graphs of the last minutes: points, one a second, up to the second `end`."""

    end: int = 0
    bitrate: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)


@dataclass(slots=True)
class SiteState:
    """The state of the web: connections, segments, graphs."""

    web: WebState
    hls: Playlist | None = None
    series: SeriesState | None = None
