"""Records what arrives at a UDP port, or for a multicast group, to a capture file.

The other half of fake_vlc, which replays the file byte for byte with the same gaps. It listens at a
socket, not at the network card: no privilege is needed, fragments arrive joined, and what another
program sends in one piece for the kernel to cut up arrives as the datagrams that a player would
get. IP headers are rebuilt from what the socket tells: both addresses, and the time at which the
kernel received the datagram, which does not depend on when this program was scheduled.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from relaylib.cli import Parser, port
from relaylib.errors import SetupError
from relaylib.net.address import show
from relaylib.net.mrl import Mrl, is_group
from tools.replay.captures import FORMATS, Write
from tools.replay.packets import encode, library
from tools.replay.program import (
    Interruption,
    Progress,
    amount,
    positive,
    rate,
    run,
    say,
    whole,
)
from tools.replay.tap import Tap

TURN = 256
"""Datagrams taken in a row before signals and limits are looked at again."""

EXAMPLES = """
examples:
  capture.py 5004 stream.pcapng                  until Ctrl-C
  capture.py 5004 stream.pcap --seconds 10       ten seconds, beginning now
  capture.py 5004 iptv.pcapng --group 239.1.1.1 --host 192.168.1.5
                                                 a multicast group, on that interface
  capture.py 5004 six.pcapng --host :: --count 1000
                                                 the first 1000 datagrams, over IPv6

then: fake_vlc.py stream.pcapng
"""


def _parser() -> Parser:
    parser = Parser(
        prog="capture.py",
        description="Record the datagrams that arrive at a UDP port; fake_vlc.py replays them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("port", metavar="PORT", type=port, help="UDP port to listen at (0: any free one)")
    add("file", metavar="FILE", type=_file, help="capture to write: .pcap or .pcapng")
    add("--group", metavar="ADDR", type=_group, help="multicast group to join")
    add("--host", metavar="ADDR", help="address of this machine to listen at, or the interface "
        "for --group, by its address or name (default: all IPv4)")  # fmt: skip
    add("--seconds", metavar="S", type=positive, help="stop after this time")
    add("--count", metavar="N", type=whole, help="stop after this many datagrams")
    return parser


def _group(text: str) -> str:
    if is_group(text):
        return text
    raise argparse.ArgumentTypeError(f"not a multicast group: {text!r}")


def _where(given: argparse.Namespace) -> Mrl:
    if given.group:
        return Mrl("udp", "", given.group.partition("%")[0], given.port, given.host or "")
    return Mrl("udp", "", given.host or "", given.port)


def _file(text: str) -> Path:
    path = Path(text)
    if path.suffix in FORMATS:
        return path
    raise argparse.ArgumentTypeError(f"not a name ending in .pcap or .pcapng: {text!r}")


class CaptureWriter:
    """Takes datagrams from a tap to a file until there are enough or a signal comes."""

    def __init__(self, tap: Tap, file: BinaryIO, write: Write, limit: int | None) -> None:
        self._tap = tap
        self._file = file
        self._write = write
        self._limit = limit
        self.datagrams = self.byte_count = 0
        self.first = self.last = 0
        """Times of arrival in nanoseconds since 1970."""

    def record(self, interruption: Interruption, seconds: float | None, progress: Progress) -> None:
        """Record until the limit, the time or a signal."""
        end = None if seconds is None else time.monotonic() + seconds
        while interruption.signum is None and self.datagrams != self._limit:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            if not self._take():
                self._file.flush()  # what is there can be replayed, whatever happens now
                interruption.wait(left, self._tap.socket)
            progress.update(self._line)

    def _take(self) -> bool:
        """Take what has arrived, up to a turn's worth; tell whether there may be more."""
        for _ in range(TURN):
            if self.datagrams == self._limit:
                return True
            arrival = self._tap.receive()
            if arrival is None:
                return False
            self._write(arrival.time, encode(arrival.datagram))
            self.first, self.last = self.first or arrival.time, arrival.time
            self.datagrams += 1
            self.byte_count += len(arrival.datagram.payload)
        return True

    def _line(self) -> str:
        return f"{self.datagrams} datagrams  {amount(self.byte_count)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status. A signal is a way to end, not a failure."""
    given = _parser().parse_args(argv)
    library()  # if it is missing, better now than when the file is open, and empty
    progress = Progress()
    if given.file.is_fifo():  # opening it would wait for a reader, and no signal would end that
        raise SetupError(f"cannot record to {given.file}: a named pipe; name a file")
    with Tap(_where(given)) as tap, Interruption() as interruption:
        try:
            with given.file.open("wb") as file:
                write = FORMATS[given.file.suffix](file)
                file.flush()
                recorder = CaptureWriter(tap, file, write, given.count)
                say(f"recording {show(tap.address)} to {given.file}; Ctrl-C ends")
                recorder.record(interruption, given.seconds, progress)
        except OSError as error:
            raise SetupError(f"cannot record to {given.file}: {error.strerror}") from None
        finally:
            progress.clear()
        _summarise(recorder, tap, given.file)
    return 0


def _summarise(recorder: CaptureWriter, tap: Tap, file: Path) -> None:
    seconds = (recorder.last - recorder.first) / 1e9
    say(
        f"recorded {recorder.datagrams} datagrams, {amount(recorder.byte_count)} "
        f"in {seconds:.1f} s "
        f"({rate(recorder.byte_count, seconds)}) to {file}"
    )
    if tap.lost:
        say(f"lost {tap.lost} datagrams: the receive buffer was full (net.core.rmem_max limits it)")


if __name__ == "__main__":
    sys.exit(run("capture.py", main))
