"""A transport stream made into fragmented MP4, live: what browsers play (Media Source Extensions).

Nothing is decoded. Packets go in; an init segment comes out as soon as the headers of picture and
sound are known, then a fragment every fifth of a second, the first of which begins at an
entry point. `selection` chooses the streams, `pes` puts PES packets together, `nal` and `sound`
make samples of them, `boxes` writes. What joins them is here: times, and where a fragment ends.

Times. Pictures are the clock: their DTS makes all times, which begin at 0 and only rise. Sound is
put where its PTS is on that clock. A browser that sees a hole in the times at which samples are
decoded throws away all pictures up to the next random access point (W3C, Media Source Extensions,
coded frame processing). So there is none: after a loss, the next sample is decoded from the end of
the one before, and its composition offset keeps the time at which it is shown.

Loss. Browsers give up at a picture whose reference is missing, where a player would show
something. So pictures pause until the next entry point; sound goes on with the next frame.

A change. Where the clock jumps, or the source is another one, or a header changes, a new init
segment comes at the next entry point, and times go on from where they were.
"""

from collections import deque
from struct import Struct
from typing import NamedTuple

from relaylib.media import mpegts, psi
from relaylib.media.codecs import MPEG_AUDIO, Codec, mpeg_audio
from relaylib.media.mpegts import PACKET_SIZE, PTS_HZ, PTS_WRAP
from relaylib.media.tables import Tables
from relaylib.media.tr101290 import Errors
from relaylib.mp4 import boxes
from relaylib.mp4.nal import Picture, Pictures
from relaylib.mp4.pes import Assembler, Unit
from relaylib.mp4.selection import Selection, select
from relaylib.mp4.sound import Frames, Layout, Splitter

SPAN = PTS_HZ // 5
"""Ticks of a fragment: a viewer's picture is late by as much. Shorter ones cost more headers."""

JUMP = 10 * PTS_HZ
"""Ticks from a picture to the next one that are a jump of the clock, and between picture and sound
that belong to each other."""

HEADROOM = PTS_HZ // 5
"""Ticks that pictures are decoded before their DTS, so that none has to be after it is shown, even
where stamps are wrong: five pictures at 25 a second, as far as they go back and forth."""

WAIT = PTS_HZ
"""Ticks of picture until which sound that the tables name is waited for."""

SILENCE = 3 * PTS_HZ
"""Ticks without sound after which there is none: browsers wait for a track that does not go on."""

BACK = PTS_HZ
"""Ticks that stamps may go back without being a jump. VLC gives two pictures one DTS now and then;
GStreamer gives none if it knows none, and the PTS of pictures go back and forth."""

EARLY = 64
"""PES packets of sound that are kept until the picture begins."""

MAX_SAMPLES = 1000
MAX_BYTES = 16 << 20
"""Bytes of pictures in a fragment, or while sound is waited for: a second at 100 Mb/s."""

PATIENCE = 20
"""PATs, two seconds of them or more, until a program whose map does not come is not waited for."""

MOST_CHANGES = 4
"""Changes of programs and of sound in what is fed at once, which is a few milliseconds of stream.
More are left out: for each, all programs are gone through, or an init segment is made."""

VIDEO, AUDIO = 1, 2
"""Numbers of the tracks."""


class Init(NamedTuple):
    """An init segment: what follows, up to the next one, can only be played behind it."""

    data: bytes
    mime: str
    """MIME type with `codecs`. A SourceBuffer takes another init segment only if it is the same."""
    discontinuity: bool
    """The source changed, or its clock jumped."""
    unplayable: tuple[str, ...]
    """The sound that is left out, because no browser plays it: codecs in words."""


class Fragment(NamedTuple):
    """Some samples. All that belong to a time are in it, or in its neighbours."""

    data: bytes
    random_access: bool
    """It begins with a picture that needs no other, or with sound in a stream without pictures."""
    time: float
    """Seconds at which its first sample is shown."""
    duration: float


class Unplayable(NamedTuple):
    """There will be neither init segment nor fragments until the source changes."""

    codec: str
    """The codec at fault, in words: "MPEG-2 video"."""


Output = Init | Fragment | Unplayable

_PACKET = Struct(">I184s")
_PID = 0x1FFF00
"""The PID in the first 4 bytes of a packet."""
_SCRAMBLED_OR_ERROR, _START, _FIELD, _PAYLOAD = 0x8000C0, 0x400000, 0x20, 0x10


class _Section:
    """A PID with tables: every packet of it is looked at."""

    expected = -1

    def __init__(self) -> None:
        self.sections = psi.Sections()
        self.parts: list[bytes] = []


class _Lane:
    """The samples of a track that are in no fragment yet."""

    def __init__(self, track: boxes.MediaTrack, end: int) -> None:
        self.track = track
        self.samples = list[boxes.Sample]()
        self.begin = self.end = end
        """Time of the first of the samples, and at which the next one begins."""
        self.fresh = True
        self.size = 0
        """Bytes of the samples."""

    def add(self, data: bytes, duration: int, flags: int, offset: int = 0) -> None:
        self.samples.append(boxes.Sample(data, duration, flags, offset))
        self.end += duration
        self.size += len(data)
        self.fresh = False

    def take(self) -> boxes.TrackRun:
        """Return what there is, and begin anew."""
        run = boxes.TrackRun(self.track.number, self.begin, self.samples)
        self.samples, self.begin, self.size = [], self.end, 0
        return run

    @property
    def span(self) -> int:
        """Ticks of PTS_HZ that have come together."""
        return (self.end - self.begin) * PTS_HZ // self.track.timescale


def _signed(ticks: int) -> int:
    """A difference of two stamps, whichever way round is shorter."""
    return (ticks + PTS_WRAP // 2) % PTS_WRAP - PTS_WRAP // 2


def _offset(unit: Unit) -> int:
    """Ticks from when a picture is decoded to when it is shown; 0 where they make no sense."""
    offset = _signed(unit.pts - unit.dts)
    return offset if 0 <= offset <= JUMP else 0


class _StampClock:
    """Makes stamps of 33 bits times that go on."""

    def __init__(self) -> None:
        self.stamp = self.time = 0
        """The last stamp, and the time that it is."""
        self.step = PTS_HZ // 25
        """Ticks from one picture to the next, lately."""

    def begin_anew(self, stamp: int, time: int) -> None:
        """From here on the stamp is this time."""
        self.stamp, self.time = stamp % PTS_WRAP, time

    def ahead(self, stamp: int) -> int:
        """Ticks from the last stamp to this one."""
        return _signed(stamp - self.stamp)

    def advance(self, stamp: int) -> None:
        """Time passes, up to this stamp."""
        self.time += self.ahead(stamp)
        self.stamp = stamp


class Remuxer:
    """Remuxes one stream, once for all viewers. No input makes it fail."""

    def __init__(self) -> None:
        self._out = list[Output]()
        self._number = 0
        self._clock = _StampClock()
        self._shown = 0  # when the last picture (or sound alone) ends
        self._ends = dict[int, tuple[int, int]]()  # of each track's last sample, and its timescale
        self._broken = False
        self._reset()

    def feed(self, data: bytes | memoryview) -> list[Output]:
        """Take whole packets, one behind the other; return what is ready with them."""
        pids, self._changes = self._pids, 0
        whole = len(data) - len(data) % PACKET_SIZE
        for header, content in _PACKET.iter_unpack(data[:whole]):
            pid = pids.get(header & _PID)
            if pid is None:
                continue
            if pid.expected == header:
                pid.expected = header & ~15 | header + 1 & 15
                pid.parts.append(content)
            else:
                self._look(pid, header, content)
        for stream in (self._video, self._audio):
            if stream:
                stream.drop_if_endless()
        return self._ready()

    def begin_anew(self) -> list[Output]:
        """Take the next packets as another source's. Return what is left of the one before.

        The picture under way is left out: it may not be whole.
        """
        self._break()
        self._reset()
        return self._ready()

    def finish(self) -> list[Output]:
        """The stream is at its end, where pictures are whole: return what is left."""
        for stream, take in ((self._video, self._picture), (self._audio, self._sound)):
            if stream and (unit := stream.finish()):
                take(unit)
        self._announce_if_known(final=True)
        self._break()
        return self._ready()

    def _ready(self) -> list[Output]:
        out, self._out = self._out, []
        return out

    def _reset(self) -> None:
        self._tables = Tables(Errors())
        self._pats = self._changes = 0
        self._selection: Selection | None = None
        self._pids: dict[int, Assembler | _Section] = {psi.PAT_PID: _Section()}
        self._select_nothing()

    # --- tables

    def _look(self, pid: Assembler | _Section, header: int, content: bytes) -> None:
        if isinstance(pid, _Section):
            self._table(pid, header, content)
        elif unit := pid.look(header, content):
            (self._picture if pid is self._video else self._sound)(unit)

    def _table(self, pid: _Section, header: int, content: bytes) -> None:
        if header >> 24 != mpegts.SYNC_BYTE or header & _SCRAMBLED_OR_ERROR:
            pid.sections.drop()
            return
        number = (header & _PID) >> 8
        self._pats += number == psi.PAT_PID
        at = 1 + content[0] if header & _FIELD else 0
        if not header & _PAYLOAD:
            return
        before = self._changes
        for section in pid.sections.add(content[at:], bool(header & _START)):
            if len(section) >= psi.SHORTEST and self._changes < MOST_CHANGES:
                self._changes += self._tables.take(number, section, 0.0)
        if self._changes > before or (number == psi.PAT_PID and self._pats == PATIENCE):
            self._select()

    def _select(self) -> None:
        current = self._selection.number if self._selection else None
        selection = select(self._tables.programs, current, self._pats < PATIENCE)
        tables = self._tables.pids.difference(psi.SI_PIDS)
        for number in tables:
            if not isinstance(self._pids.get(number << 8), _Section):
                self._pids[number << 8] = _Section()
        if selection != self._selection:
            self._break()
            self._select_nothing()
            self._selection = selection
            if selection:
                self._play(selection)
        streams = (self._selection.video, self._selection.audio) if self._selection else ()
        wanted = tables | {stream.pid for stream in streams if stream}
        for number in [key for key in self._pids if key >> 8 not in wanted]:
            del self._pids[number]

    def _select_nothing(self) -> None:
        self._video: Assembler | None = None
        self._audio: Assembler | None = None
        self._pictures: Pictures | None = None
        self._splitter: Splitter | None = None
        self._unplayable = tuple[str, ...]()
        self._tracks = tuple[boxes.MediaTrack, ...]()
        self._lanes = dict[int, _Lane]()
        self._layout: Layout | None = None
        self._heard = self._since = 0
        self._early = deque[Frames](maxlen=EARLY)
        self._skew = 0
        self._old: int | None = None
        self._losses, self._follows = 0, False  # all pictures that the next one may need are there
        self._first = 0  # PTS of the entry point: what is shown before it needs lost ones
        self._shift = HEADROOM  # of the times at which pictures are decoded; it may have to grow
        self._running = False

    def _play(self, selection: Selection) -> None:
        self._unplayable = tuple(codec.name for codec in selection.unplayable)
        if selection.obstacle:
            self._out.append(Unplayable(selection.obstacle.name))
            return
        if selection.video:
            self._video = self._pids[selection.video.pid << 8] = Assembler(by_length=False)
            self._pictures = Pictures(selection.video.codec, VIDEO)
        if selection.audio:
            self._audio = self._pids[selection.audio.pid << 8] = Assembler(by_length=True)
            self._splitter = Splitter(selection.audio.codec, AUDIO)

    # --- pictures

    def _picture(self, unit: Unit) -> None:
        if self._video and self._video.losses != self._losses:
            self._losses = self._video.losses
            self._follows = False
        picture = self._pictures.take(unit.data) if self._pictures and unit.whole else None
        if picture is None:
            self._follows = self._follows and unit.whole
            return
        if self._running and not -BACK < self._clock.ahead(unit.dts) <= JUMP:
            self._break()
        if picture.random_access:
            if self._running and self._clock.time - self._lanes[VIDEO].end > JUMP:
                self._break()  # too long without: the next sample would have to last all the time
            if not self._follows or not self._running:
                self._first = unit.pts
            self._enter(unit.dts, _offset(unit))
            self._follows = True
        if not self._running:
            return
        self._clock.advance(unit.dts)
        if self._follows and _signed(unit.pts - self._first) >= 0:
            self._add_picture(picture, unit)

    def _add_picture(self, picture: Picture, unit: Unit) -> None:
        lane = self._lanes[VIDEO]
        step = JUMP if unit.following is None else self._clock.ahead(unit.following)
        if 0 < step < JUMP:
            self._clock.step = step
        elif not -BACK < step <= 0:
            step = self._clock.step
        shown = self._clock.time + _offset(unit)
        self._shift = min(max(self._shift, self._shift + lane.end - shown), BACK)
        end = max(self._clock.time + step - self._shift, lane.end + 1)
        flags = boxes.SYNC if picture.random_access else boxes.NO_SYNC
        flags |= boxes.DISPOSABLE if picture.disposable else 0
        lane.add(picture.data, end - lane.end, flags, max(0, shown - lane.end))
        self._shown = max(self._shown, shown + max(step, 0))
        full = lane.size > MAX_BYTES or len(lane.samples) > MAX_SAMPLES
        self._announce_if_known(final=full)
        if lane.span >= SPAN or full:
            self._cut()

    # --- sound

    def _sound(self, unit: Unit) -> None:
        if not self._splitter or not self._selection or not self._selection.audio:
            return
        if self._layout is None and self._selection.audio.codec == MPEG_AUDIO:
            kind = mpeg_audio(unit.data)
            if kind and kind.name != "MP3":
                self._leave_out(kind)
                return
        for frames in self._splitter.take(unit.data, unit.pts, unit.whole):
            self._frames(frames)

    def _leave_out(self, codec: Codec) -> None:
        """This is sound that cannot be played."""
        self._splitter = None
        if self._pictures:
            self._unplayable = (codec.name,)
        else:
            self._out.append(Unplayable(codec.name))

    def _frames(self, frames: Frames) -> None:
        if self._layout and frames.layout != self._layout:
            if self._changes >= MOST_CHANGES:
                return
            self._changes += 1
        if not self._pictures:
            self._master(frames)
        elif self._running:
            if not self._belongs(frames):
                return
            self._heard = self._clock.time
        self._layout = frames.layout
        if AUDIO in self._lanes:
            self._place(frames)
        else:
            self._early.append(frames)

    def _master(self, frames: Frames) -> None:
        """Without pictures sound is the clock."""
        if self._running and not -BACK < self._clock.ahead(frames.stamp) <= JUMP:
            self._break()
        if not self._running or frames.layout != self._layout:
            self._layout = frames.layout
            self._enter(frames.stamp, 0)
            self._heard = self._clock.time
            self._announce_if_known()
        self._clock.advance(frames.stamp)
        self._heard = self._clock.time

    def _belongs(self, frames: Frames) -> bool:
        """Tell whether sound belongs to the pictures that come with it."""
        ahead = self._clock.ahead(frames.stamp)
        if self._old is not None:
            # The pictures jumped, and sound comes a little later. From before the jump or not?
            if abs(_signed(frames.stamp - self._old) - self._skew) < abs(ahead - self._skew):
                return False
            self._old = None
        if abs(ahead) > JUMP:
            return False
        self._skew = ahead
        return True

    def _place(self, frames: Frames) -> None:
        """Put frames where their stamp says."""
        lane, samples = self._lanes[AUDIO], frames.layout.samples
        if lane.track != frames.layout.track:
            return  # the next init segment has it
        rate = lane.track.timescale
        time = (self._clock.time + self._clock.ahead(frames.stamp)) * rate // PTS_HZ
        slack = samples // 2
        late = -((time + slack - lane.end) // samples)
        wanted = frames.frames[max(0, late) :]
        if not wanted:
            return
        gap = max(0, time + max(0, late) * samples - lane.end)
        if lane.fresh or gap > JUMP * rate // PTS_HZ:
            if lane.samples:
                self._cut()
            lane.begin = lane.end = lane.end + gap
            gap = 0
        gap = gap if gap > slack else 0
        for data in wanted:
            lane.add(data, samples + gap, boxes.SYNC, gap)
            gap = 0
        if not self._pictures:
            self._shown = lane.end * PTS_HZ // rate
        if lane.span >= (2 * SPAN if self._pictures else SPAN):
            self._cut()

    # --- init segments and fragments

    def _enter(self, stamp: int, offset: int) -> None:
        """Decoding can start at what comes now, which has this stamp and is shown so much later."""
        if self._pictures and not self._pictures.track:
            return
        self._cut()
        if self._running:
            self._clock.advance(stamp)
        else:
            least = self._ended(VIDEO, PTS_HZ) + HEADROOM if self._pictures else 0
            self._clock.begin_anew(stamp, max(self._shown - offset, least))
            self._running, self._since, self._shift = True, self._clock.time, HEADROOM
        if self._tracks and self._wanted() == self._tracks:
            return
        held = self._lanes.get(VIDEO) if not self._tracks else None
        if held and self._pictures and held.track == self._pictures.track:
            return  # sound is still waited for
        if self._pictures and self._pictures.track:
            first = max(0, self._clock.time - HEADROOM)
            end = self._ended(VIDEO, PTS_HZ) if VIDEO in self._ends else first
            self._lanes[VIDEO] = _Lane(self._pictures.track, end)
        self._tracks = ()

    def _ended(self, track: int, timescale: int) -> int:
        """When what was made of a track ends."""
        end, scale = self._ends.get(track, (0, timescale))
        return end if scale == timescale else end * timescale // scale

    def _wanted(self) -> tuple[boxes.MediaTrack, ...]:
        """What can be played now."""
        tracks = [self._pictures.track] if self._pictures and self._pictures.track else []
        if self._splitter and self._layout and self._clock.time - self._heard <= SILENCE:
            tracks.append(self._layout.track)
        return tuple(tracks)

    def _announce_if_known(self, *, final: bool = False) -> None:
        """Make an init segment if there has to be one, and sound is known or not worth waiting."""
        if self._tracks or not self._running:
            return
        tracks = self._wanted()
        sound = next((track for track in tracks if track.number == AUDIO), None)
        waited = final or self._clock.time - self._since > WAIT
        if self._splitter and not sound and not waited:
            return
        self._tracks = tracks
        kind = "video" if self._pictures else "audio"
        mime = f'{kind}/mp4; codecs="{", ".join(track.codec for track in tracks)}"'
        data = boxes.init_segment(tracks)
        self._out.append(Init(data, mime, self._broken, self._unplayable))
        self._broken = False
        self._open_sound(sound)

    def _open_sound(self, track: boxes.MediaTrack | None) -> None:
        self._lanes.pop(AUDIO, None)
        if track:
            first = self._lanes[VIDEO].begin if self._pictures else self._clock.time
            lane = _Lane(track, first * track.timescale // PTS_HZ)
            if AUDIO in self._ends:
                lane.begin = lane.end = self._ended(AUDIO, track.timescale)
                lane.fresh = False
            self._lanes[AUDIO] = lane
            for frames in self._early:
                if self._belongs(frames):
                    self._place(frames)
            self._early.clear()

    def _cut(self) -> None:
        """Make a fragment of what has come together."""
        lanes = [self._lanes[n] for n in (VIDEO, AUDIO) if n in self._lanes]
        lanes = [lane for lane in lanes if lane.samples]
        if not self._tracks or not lanes:
            return
        first, scale = lanes[0], lanes[0].track.timescale
        time, duration = (
            (ticks / scale)
            for ticks in (first.begin + first.samples[0].offset, first.end - first.begin)
        )
        leads = first.track.number == VIDEO or not self._pictures
        random_access = leads and first.samples[0].flags == boxes.SYNC
        self._ends |= {lane.track.number: (lane.end, lane.track.timescale) for lane in lanes}
        self._number += 1
        data = boxes.fragment(self._number, [lane.take() for lane in lanes])
        self._out.append(Fragment(data, random_access, time, duration))

    def _break(self) -> None:
        """What comes next does not go on from here."""
        self._cut()
        if self._running and self._pictures:
            self._old = self._clock.stamp + self._clock.step
        self._broken = self._broken or bool(self._tracks)
        self._running, self._tracks, self._layout = False, (), None
        self._lanes.clear()
        self._early.clear()
