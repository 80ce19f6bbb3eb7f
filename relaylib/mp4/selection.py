"""Which streams of a transport stream are played: the first program's picture, and its sound."""

from collections.abc import Mapping
from typing import NamedTuple

from relaylib.media.codecs import AAC, H264, HEVC, MPEG_AUDIO, Codec, Kind, codec
from relaylib.media.tables import Program

PLAYABLE = (H264, HEVC, AAC, MPEG_AUDIO)
"""What browsers play, the better sound first. Of MPEG audio they play MP3, which the tables do not
tell from MP2."""


class ChosenStream(NamedTuple):
    """A stream that was chosen."""

    pid: int
    codec: Codec


class Selection(NamedTuple):
    """What is played of a program."""

    number: int
    video: ChosenStream | None
    audio: ChosenStream | None
    unplayable: tuple[Codec, ...]
    """The kinds of which no stream can be played: picture, sound."""

    @property
    def obstacle(self) -> Codec | None:
        """The codec because of which nothing is played: the picture's, or else the sound's."""
        found = (each for each in self.unplayable if each.kind is Kind.VIDEO or not self.video)
        return next(found, None)


def select(programs: Mapping[int, Program], current: int | None, patient: bool) -> Selection | None:
    """Choose: `current` is the program that is played now, and goes on to be if it can.

    A program with a picture goes before one without. While there is none with, and not every map
    has been read, and one is still `patient`, nothing is chosen.
    """
    known = sorted(
        programs.values(), key=lambda program: (program.number != current, program.number)
    )
    found = [each for program in known if (each := _of(program))]
    for each in found:
        if _has(each, Kind.VIDEO):
            return each
    if patient and any(program.pcr_pid is None for program in known):
        return None
    return found[0] if found else None


def _has(selection: Selection, kind: Kind) -> bool:
    chosen = selection.video if kind is Kind.VIDEO else selection.audio
    return bool(chosen) or any(codec.kind is kind for codec in selection.unplayable)


def _of(program: Program) -> Selection | None:
    streams = [ChosenStream(s.pid, codec(s.type, s.descriptors)) for s in program.streams]
    chosen, unplayable = list[ChosenStream | None](), list[Codec]()
    for kind in (Kind.VIDEO, Kind.AUDIO):
        of_kind = [stream for stream in streams if stream.codec.kind is kind]
        playable = [stream for stream in of_kind if stream.codec in PLAYABLE]
        best = min(playable, key=lambda stream: PLAYABLE.index(stream.codec), default=None)
        chosen.append(best)
        if of_kind and not best:
            unplayable.append(of_kind[0].codec)
    video, audio = chosen
    if not (video or audio or unplayable):
        return None
    return Selection(program.number, video, audio, tuple(unplayable))
