"""The health of a stream, from its datagrams: form, reception, transport. Start with `Monitor`.

A monitor is for one source. It is fed after the datagrams have been passed on, and keeps only
numbers (and, of a stream in RTP, some datagrams that wait for a missing one: what a player would
put in order is no fault of the transport stream).
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from relaylib.media import rtp
from relaylib.media.clock import Clock
from relaylib.media.codecs import Kind
from relaylib.media.form import CHANGE, Form, Recogniser
from relaylib.media.meter import Meter
from relaylib.media.mpegts import PACKET_SIZE, PCR_HZ, SYNC_BYTE
from relaylib.media.reception import Arrival, InOrder, Reception
from relaylib.media.transport import DecodingStart, Pid, Transport, ignore

_SYNC = bytes((SYNC_BYTE,))


@dataclass(frozen=True, slots=True)
class RtpReport:
    """What happened to the RTP packets on their way."""

    lost: int
    reordered: int
    duplicated: int
    jitter_ms: float
    ssrc: int
    payload_type: int


@dataclass(frozen=True, slots=True)
class StreamReport:
    """An elementary stream; `type` is its stream type."""

    pid: int
    type: int
    codec: str


@dataclass(frozen=True, slots=True)
class ProgramReport:
    """A program; `pcr_pid` is None until its table has come."""

    number: int
    pmt_pid: int
    pcr_pid: int | None
    streams: list[StreamReport]


@dataclass(frozen=True, slots=True)
class RandomAccessReport:
    """Where decoding can start, in the first video stream; `interval_s` on average."""

    count: int
    interval_s: float | None


@dataclass(frozen=True, slots=True)
class TsReport:
    """The transport stream; `bitrate` in bits a second, by its own clock if it has one."""

    packets: int
    bitrate: int
    programs: list[ProgramReport]
    tr_101_290: dict[str, int]
    random_access: RandomAccessReport
    scrambled: int


@dataclass(frozen=True, slots=True)
class MonitorReport:
    """All of it. `form` is None before the first datagram; `rtp` and `ts` where there is none."""

    form: Form | None
    datagrams: int
    bytes: int
    seconds: float
    rtp: RtpReport | None
    ts: TsReport | None

    @property
    def is_healthy(self) -> bool:
        """Tell whether this is a stream that a player gets whole.

        A player gets what was only reordered or duplicated. An opaque stream cannot be judged, and
        RTP that carries something else plays nowhere without an SDP file.
        """
        if self.rtp and self.rtp.lost:
            return False
        if self.ts:
            return not any(self.ts.tr_101_290.values()) and bool(self.ts.programs)
        return False


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """Decoding can start with a packet, after `tables` (packets of PAT and PMT).

    It arrived at `time`, `offset` bytes of whole packets before it in its piece (see
    `DecodingStart`), its first byte at `position`; `stamp` is its DTS, or PTS, in ticks of PTS_HZ,
    if it has one.
    """

    offset: int
    position: int
    stamp: int | None
    tables: bytes
    time: float


class Monitor:
    """Watches the stream of one source.

    `on_access` is told where in the main stream decoding can start; then `on_packets` is given the
    packets of the stream as they belong, and when they arrived. `on_break` is called before packets
    that need not go on where those before ended: the sender has started again, or sends in another
    form.
    """

    def __init__(
        self,
        on_access: Callable[[FoundEntry], None] = ignore,
        on_packets: Callable[[bytes, float], None] = ignore,
        on_break: Callable[[], None] = ignore,
    ) -> None:
        self._on_access, self._on_break = on_access, on_break
        self.datagrams = self.bytes = 0
        self.longest_gap = 0.0
        """Seconds without a datagram."""
        self.meter = Meter()
        """Rate of the stream in bytes."""
        self.reception = Reception()
        self.transport = Transport(self._access, on_packets)
        self._recogniser = Recogniser()
        self._order = InOrder()
        self._restarts = 0
        self._doubtful: tuple[int, Arrival] | None = None  # of RTP: may be the first of a restart
        self._waiting = deque[tuple[int, Arrival]](maxlen=CHANGE)  # may be of another form
        self._foreign = 0
        self._first_size = 0
        self._looked = 0, 0  # datagrams and packets a second ago
        self.begun = self._now = 0.0
        """When the first datagram came."""
        self._second_at = -math.inf

    @property
    def form(self) -> Form | None:
        """What the datagrams are, as far as is known."""
        return self._recogniser.form if self.datagrams else None

    @property
    def payload_type(self) -> int | None:
        """Payload type of the RTP packets that are the stream; None: it is not in RTP."""
        known = self._recogniser.payload_type
        return known if known >= 0 else None

    @property
    def foreign(self) -> int:
        """Datagrams that are no part of the stream, though they came with it: FEC, keepalives."""
        return self._foreign + self.transport.foreign

    @property
    def seconds(self) -> float:
        """From the first datagram to the last."""
        return self._now - self.begun

    @property
    def lost(self) -> int:
        """RTP packets that did not come in time, those left out that a receiver still waits for."""
        return self.reception.lost_before(self._order.turn)

    def feed(self, datagram: bytes | memoryview, now: float, position: int = 0) -> None:
        """Take a datagram that arrived `now` (seconds by any clock); it is not kept or changed.

        `position` is its first byte's, for `on_access`; the byte behind it has one more.
        """
        self._count(len(datagram), now)
        data, form = bytes(datagram), self._recogniser.form
        if form is Form.RTP and self._follow(data, now, position):
            return
        if form is not Form.TS or len(data) % PACKET_SIZE or data[:1] != _SYNC:
            form = self._recognise(data)
        self._take(form, data, now, position)

    def _take(self, form: Form, data: bytes, now: float, position: int) -> None:
        if form is Form.TS:
            self.transport.feed(data, now, position)
        elif form is not Form.OPAQUE:
            self._receive(data, now, position)

    def _recognise(self, data: bytes) -> Form:
        """Look at a datagram that is not just as expected: the form may be another one now."""
        before, kind = self._recogniser.form, self._recogniser.payload_type
        form = self._recogniser.feed(data, self.datagrams)
        if (form, self._recogniser.payload_type) != (before, kind):
            first = self.datagrams - self._recogniser.row
            waiting = [arrival for number, arrival in self._waiting if number > first]
            self._become(before)
            self._foreign -= len(waiting)
            for arrival in waiting:  # by which it is known
                self._take(form, *arrival)
        return form

    def _become(self, before: Form) -> None:
        """Begin anew with another form: what was counted before is of something else."""
        if before.has_packets:
            self.skip()
            self._on_break()
        elif before is Form.RTP_OTHER:
            self.reception, self._restarts = Reception(), 0

    def begin_anew(self) -> None:
        """Another source goes on where this one ended: what it sends need not fit."""
        self._recogniser = Recogniser()
        self.skip()

    def skip(self) -> None:
        """A later part of the stream comes next: what lies between was not fed, and is not lost."""
        self.finish()
        self._waiting.clear()
        self.reception.begin_anew()
        self.transport.begin_anew()

    def finish(self) -> None:
        """Nothing more comes: what waits for a missing datagram has waited enough."""
        self._transport_takes(self._order.rest())

    def _count(self, size: int, now: float) -> None:
        if not self.datagrams:
            self.begun, self._now, self._first_size = now, now, size
        gap = now - self._now
        if gap > 0:
            self._now = now
            self.longest_gap = max(self.longest_gap, gap)
        self.datagrams += 1
        self.bytes += size
        if now >= self._second_at:
            self.meter.mark(now, self.bytes)
            self._look_for_packets(now)
            self._second_at = now + 1

    def _look_for_packets(self, now: float) -> None:
        """Say so if datagrams come, but nothing of the stream: it has ended behind its form, or
        its numbers stand still.
        """
        datagrams, packets = self._looked
        self._looked = self.datagrams, self.transport.packets
        is_stream = self._recogniser.form.has_packets and self.datagrams - datagrams > CHANGE
        if is_stream and packets == self.transport.packets:
            self.transport.errors.add("TS_sync_loss", now)

    def _follow(self, data: bytes, now: float, position: int) -> bool:
        """Take an RTP packet that is just the next one, as most are."""
        fields = rtp.plain(data) if self._recogniser.payload_type == rtp.MP2T else None
        place = fields and self.reception.follow(*fields, now)
        if not place:
            return False
        start = rtp.HEADER_SIZE
        if self._order.follow(place):
            self.transport.feed(data[start:], now, position + start)
        else:
            self._transport_takes(self._order.put(place, data[start:], now, position + start))
        return True

    def _receive(self, data: bytes, now: float, position: int) -> None:
        packet = rtp.parse(data)
        if packet is None or packet.payload_type != self._recogniser.payload_type:
            self._foreign += 1
            self._waiting.append((self.datagrams, (data, now, position)))
            return
        arrival = bytes(packet.payload), now, position + packet.start
        place = self.reception.add(packet, now)
        if self._restarts != self.reception.restarts:
            self._restarts = self.reception.restarts
            self.finish()
            self.transport.begin_anew()
            self._on_break()
            if place and self._doubtful and self._doubtful[0] == (packet.sequence - 1) & 0xFFFF:
                self._put(place - 1, self._doubtful[1])
        self._doubtful = (packet.sequence, arrival) if place is None else None
        if place is not None:
            self._put(place, arrival)

    def _put(self, place: int, arrival: Arrival) -> None:
        if self.form is Form.RTP:
            self._transport_takes(self._order.put(place, *arrival))

    def _transport_takes(self, arrivals: list[Arrival]) -> None:
        for payload, then, position in arrivals:
            self.transport.feed(payload, then, position)

    def _access(self, start: DecodingStart, now: float) -> None:
        if start.pid is not self.main_stream:
            return
        tables = self.transport.tables_of(start.pid.number)
        if tables:
            self._on_access(FoundEntry(start.offset, start.position, start.stamp, tables, now))

    def report(self) -> MonitorReport:
        """Return what is known by now."""
        reception, seconds = self.reception, round(self.seconds, 3)
        received = RtpReport(
            reception.lost, reception.reordered, reception.duplicated,
            round(reception.jitter * 1000, 3), reception.ssrc, self._recogniser.payload_type,
        )  # fmt: skip
        return MonitorReport(
            self.form, self.datagrams, self.bytes, seconds,
            received if self.form in (Form.RTP, Form.RTP_OTHER) else None,
            self._transport() if self.transport.packets else None,
        )  # fmt: skip

    def _transport(self) -> TsReport:
        transport, main = self.transport, self.main_stream
        access = main.elementary.random_access if main and main.elementary else None
        interval = access.interval if access else None
        return TsReport(
            transport.packets, self._bitrate(), self._programs(), dict(transport.errors.counts),
            RandomAccessReport(
                access.count if access else 0, None if interval is None else round(interval, 3)
            ),
            transport.scrambled,
        )  # fmt: skip

    def _bitrate(self) -> int:
        clock, seconds = self.clock, self.seconds
        packets = self.transport.packets - self._first_size // PACKET_SIZE  # before them: no time
        if clock and clock.ticks:
            packets, seconds = clock.packets, clock.ticks / PCR_HZ
        return round(packets * PACKET_SIZE * 8 / seconds) if seconds > 0.001 else 0

    @property
    def clock(self) -> Clock | None:
        """The clock of the first program that has one, or else of any."""
        clocks = self.transport.clocks
        pids = [program.pcr_pid for program in self.transport.tables.programs.values()]
        return next((clocks[pid] for pid in (*pids, *clocks) if pid in clocks), None)

    def _programs(self) -> list[ProgramReport]:
        return [
            ProgramReport(
                program.number, program.pmt_pid, program.pcr_pid,
                [StreamReport(s.pid, s.type, self.codec_of(s.pid)) for s in program.streams],
            )
            for program in self.transport.tables.programs.values()
        ]  # fmt: skip

    def codec_of(self, pid: int) -> str:
        """Name what a stream of a program is."""
        known = self.transport.pids.get(pid)
        return known.elementary.codec.name if known and known.elementary else ""

    @property
    def main_stream(self) -> Pid | None:
        """The first video stream of the programs, or else their first sound."""
        pids = [
            pid
            for program in self.transport.tables.programs.values()
            for stream in program.streams
            if (pid := self.transport.pids.get(stream.pid)) and pid.elementary
        ]
        for kind in (Kind.VIDEO, Kind.AUDIO):
            for pid in pids:
                if pid.elementary and pid.elementary.named.kind is kind:
                    return pid
        return None
