"""An elementary stream: what the beginnings of its PES packets tell."""

from relaylib.media import mpegts, video
from relaylib.media.codecs import MPEG_AUDIO, Codec, Kind, mpeg_audio
from relaylib.media.mpegts import PTS_HZ, PTS_WRAP
from relaylib.media.tr101290 import PTS_LIMIT, Errors, Interval


class RandomAccess:
    """The places at which a decoder can start."""

    __slots__ = ("_first", "_last", "count")

    def __init__(self) -> None:
        self.count = 0
        self._first = self._last = 0.0

    def add(self, now: float) -> None:
        """Here is one."""
        self._first = self._first if self.count else now
        self._last = now
        self.count += 1

    @property
    def interval(self) -> float | None:
        """Seconds from one to the next, on average; None before there are two."""
        return (self._last - self._first) / (self.count - 1) if self.count > 1 else None


class ElementaryStream:
    """A stream that a program names."""

    __slots__ = ("_pts", "_stamp", "codec", "format", "named", "random_access", "steps", "ticks")

    def __init__(self, named: Codec, errors: Errors, now: float) -> None:
        self.named = named
        """The codec as the table has it."""
        self.codec = named
        """As the stream itself shows it."""
        self.format: video.Format | None = None
        self.steps = self.ticks = 0
        """PES packets, and the time between them by their stamps (DTS where there are any)."""
        self._stamp = -1
        self.random_access = RandomAccess()
        self._pts = Interval(errors, "PTS_error", PTS_LIMIT, now)

    @property
    def is_timed(self) -> bool:
        """Tell whether this is sound or picture, which may not pause."""
        return self.named.kind is not Kind.DATA

    def check(self, now: float) -> None:
        """Time passes."""
        if self.is_timed:
            self._pts.check(now)

    def resume(self, now: float) -> None:
        """Nothing at all came for a while: that is not this stream's fault."""
        self._pts.since = now

    def begin(self, packet: bytes, flagged: bool, now: float) -> bool:
        """A PES packet begins; tell whether decoding can start there.

        `flagged`: the transport stream says that it can.
        """
        if header := mpegts.pes_header(packet):
            if self.is_timed:
                self._pts.renew(now)
            self._step(mpegts.stamp(packet, header.stamps[-1]))
            at = mpegts.payload_at(packet)
            flagged = self._inspect(packet[at + 9 + packet[at + 8] :]) or flagged
        if flagged:
            self.random_access.add(now)
        return flagged

    @property
    def rate(self) -> float:
        """PES packets a second; for video, as good as pictures. 0 while it is not known."""
        return self.steps * PTS_HZ / self.ticks if self.ticks else 0.0

    def _step(self, stamp: int) -> None:
        ticks = (stamp - self._stamp) % PTS_WRAP
        if self._stamp >= 0 and ticks < PTS_HZ:  # more than a second is a jump
            self.steps += 1
            self.ticks += ticks
        self._stamp = stamp

    def _inspect(self, body: bytes) -> bool:
        if self.named.kind is Kind.VIDEO:
            start = video.inspect(self.named, body)
            self.format = start.format or self.format
            return start.random_access
        if self.named == MPEG_AUDIO:
            self.codec = mpeg_audio(body) or self.codec
        return False
