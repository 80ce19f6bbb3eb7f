"""Tracks that tests fill themselves, without a walk."""

import contextlib
import math
from collections.abc import Iterator

from relaylib.media.form import Form
from relaylib.track.ring import Ring
from relaylib.track.track import Entry, Track
from tools.lab.web import PACKET, PACKETS, datagram

SIZE = PACKETS * PACKET
"""Bytes of a datagram's packets."""

TABLES = b"\x47\x00\x00\x10" + bytes(184)


@contextlib.contextmanager
def new_track(byte_count: int, seconds: float = math.inf, form: Form = Form.TS) -> Iterator[Track]:
    """An empty track of a stream of this form, in which every entry point is remembered."""
    track = Track(Ring(seconds, byte_count), 0.0)
    track.form = form
    yield track
    track.ring.close()


def fill(track: Track, first: int, last: int) -> None:
    """Append the packets of these numbered datagrams, one a second."""
    for number in range(first, last):
        track.append(datagram(number, in_rtp=False), float(number))
        track.heard = float(number)


def entry(number: int, packets: int = 0, tables: bytes = TABLES) -> Entry:
    """Make an entry point so many packets into a numbered datagram."""
    return Entry(number * SIZE + packets * PACKET, float(number), None, tables, 0)
