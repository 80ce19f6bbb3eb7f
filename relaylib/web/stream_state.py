"""What a reload hands over of a stream by HTTP. Pure."""

from dataclasses import dataclass


@dataclass(slots=True)
class StreamState:
    """A stream: the bytes in `first`, then those from place `at` on: of the track, or, if `number`
    names a segment, of that.
    """

    at: int
    first: bytes = b""
    skipped: int = 0
    number: int | None = None
