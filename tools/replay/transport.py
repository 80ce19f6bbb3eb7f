"""The packets of a transport stream file, in one pass or in a loop without a seam."""

from collections.abc import Iterator
from typing import BinaryIO

from relaylib.media.mpegts import Framer
from tools.replay.program import ReplayError
from tools.replay.restamp import Restamper

MAX_GARBAGE = 16 << 20
"""Most bytes searched without finding a packet: more is not damage but another kind of file, or one
without end."""

_CHUNK = 1 << 16


class TransportFile:
    """Iterates over the packets of a file."""

    def __init__(self, file: BinaryIO, loop: bool) -> None:
        self._file = file
        self._loop = loop
        self.skipped = 0
        """Bytes of the file that belong to no packet."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield packets.

        Raises:
            ReplayError: there are none, or the loop needs a second pass over what is no real file.
        """
        restamper = Restamper()
        while True:
            empty = True
            for packet in self._pass():
                empty = False
                yield restamper.rewrite(packet)
            if empty:
                raise ReplayError("neither MPEG-TS nor a capture (pcap, pcapng)")
            if not self._loop:
                return
            rewind(self._file)
            restamper.rewind()

    def _pass(self) -> Iterator[bytes]:
        framer = Framer()
        while chunk := self._file.read(_CHUNK):
            yield from framer.feed(chunk)
            if framer.searched > MAX_GARBAGE:
                raise ReplayError(f"no MPEG-TS in {MAX_GARBAGE >> 20} MiB of it")
        yield from framer.finish()
        self.skipped = framer.skipped


def rewind(file: BinaryIO) -> None:
    """Go back to the start of the file.

    Raises:
        ReplayError: it is a pipe or the like.
    """
    try:
        file.seek(0)
    except OSError:
        raise ReplayError("a pipe cannot be read twice: use a file") from None
