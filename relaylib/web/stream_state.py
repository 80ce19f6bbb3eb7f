"""What a restart hands over of a stream by HTTP. Pure."""

from dataclasses import dataclass


@dataclass(slots=True)
class StreamState:
    """A stream: octets that come `first`, then its place, as numbers that its resource
    understands.
    """

    place: list[int]
    first: bytes = b""
    skipped: int = 0
