"""Which streams are played."""

import pytest

from relaylib.media.codecs import AAC, H264, MPEG2, MPEG_AUDIO
from relaylib.media.psi import MapEntry
from relaylib.media.tables import Program
from relaylib.mp4.selection import ChosenStream, select


def program(number: int, **streams: int) -> Program:
    """Build a program: `p<pid>` -> stream type; without streams its map has not been read."""
    listed = tuple(MapEntry(int(name[1:]), kind, b"") for name, kind in streams.items())
    return Program(number, 0x1000 + number, 33 if listed else None, listed)


RADIO, TELEVISION, UNKNOWN = program(1, p40=0x0F), program(2, p50=0x1B, p51=0x03), program(3)


def test_a_program_with_picture_goes_before_one_without() -> None:
    """Sound alone is chosen only when there is nothing more to come, or it has been waited long."""
    assert select({1: RADIO, 3: UNKNOWN}, None, patient=True) is None
    for found in (
        select({1: RADIO, 3: UNKNOWN}, None, patient=False),
        select({1: RADIO}, None, patient=True),
    ):
        assert found is not None
        assert found.audio == ChosenStream(40, AAC)
    chosen = select({1: RADIO, 2: TELEVISION, 3: UNKNOWN}, None, patient=True)
    assert chosen == (2, ChosenStream(50, H264), ChosenStream(51, MPEG_AUDIO), ())


@pytest.mark.parametrize(("current", "number"), [(None, 2), (4, 4), (9, 2)])
def test_what_is_played_goes_on(current: int | None, number: int) -> None:
    """Another program with a picture does not take its place."""
    programs = {2: TELEVISION, 4: program(4, p60=0x1B)}
    found = select(programs, current, patient=True)
    assert found is not None
    assert found.number == number


def test_the_best_sound_and_what_nobody_plays() -> None:
    """AAC goes before MPEG audio; what cannot be played is named only where nothing else can be."""
    found = select({1: program(1, p40=0x02, p41=0x81, p42=0x03, p43=0x0F)}, None, patient=True)
    assert found == (1, None, ChosenStream(43, AAC), (MPEG2,))
