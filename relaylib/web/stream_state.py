"""What a reload hands over of a stream by HTTP. Pure."""

from dataclasses import dataclass


@dataclass(slots=True)
class StreamState:
    """A stream: bytes that come `first`, then those from place `at` on. The place is a byte of the
    track, or, where `number` names a segment, of that.
    """

    at: int
    first: bytes = b""
    skipped: int = 0
    number: int | None = None
