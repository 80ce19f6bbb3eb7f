"""Stands in for VLC: sends a recorded stream to a UDP port at its own pace.

A replay is a chain of generators of (when, what): the datagrams of a file, the change of speed, the
RTP header, the faults. None of them knows the clock or the network; the sender at the end does. So
everything but the sending can be tested without waiting.
"""

import argparse
import io
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from relaylib.cli import Parser, port
from relaylib.errors import SetupError
from tools.replay.captures import is_capture
from tools.replay.faults import Done, Faults, inject
from tools.replay.flows import choose, listing, replay_capture, survey_capture
from tools.replay.pacing import Timed, at_bitrate, datagrams, in_rtp, paced
from tools.replay.program import (
    Interruption,
    Progress,
    ReplayError,
    amount,
    bitrate,
    milliseconds,
    positive,
    probability,
    rate,
    run,
    say,
)
from tools.replay.sender import Sender
from tools.replay.transport import TransportFile

SAMPLE = Path(__file__).resolve().parent / "sample" / "sample.ts"

EXAMPLES = """
HOST PORT defaults to 127.0.0.1 9000, where relay.py listens; FILE to the sample that comes with
it (8 s, H.264 and AAC). A transport stream keeps the pace of its clock (PCR), a capture that of
its time stamps. A transport stream loops without a seam; a capture is sent as it is, always.

examples:
  fake_vlc.py --loop                               the sample, endlessly, to a relay here
  fake_vlc.py 192.168.1.5 9000 film.ts --rtp       as VLC does with #rtp{mux=ts}
  fake_vlc.py 127.0.0.1 9000 film.ts --bitrate 5M  at a constant 5 Mb/s
  fake_vlc.py capture.pcapng                       what was captured, with the same gaps
  fake_vlc.py 127.0.0.1 9000 capture.pcap --flow 239.1.1.1:5004
  fake_vlc.py --loop --drop 1% --jitter 20 --seed 7
                                                   a bad network, the same one every time
"""


@dataclass(frozen=True, slots=True)
class Options:
    host: str
    port: int
    file: Path
    rtp: bool
    loop: bool
    speed: float
    bitrate: float | None
    flow: str | None
    faults: Faults
    seed: int


def parse(argv: Sequence[str] | None) -> Options:
    """Read the command line; if it is wrong, end the program with status 2."""
    parser = _parser()
    given = parser.parse_intermixed_args(argv)
    try:
        host, number, file = _where(given.words)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    return Options(
        host, number, file, given.rtp, given.loop, given.speed, given.bitrate, given.flow,
        Faults(given.drop, given.duplicate, given.reorder, given.jitter), given.seed,
    )  # fmt: skip


def _where(words: Sequence[str]) -> tuple[str, int, Path]:
    """Tell HOST PORT from FILE by their number; of three, the file may also be the first."""
    match words:
        case []:
            return "127.0.0.1", 9000, SAMPLE
        case [file]:
            return "127.0.0.1", 9000, Path(file)
        case [host, number]:
            return host, port(number, 1), SAMPLE
        case [file, host, number] if number.isdecimal() and not host.isdecimal():
            return host, port(number, 1), Path(file)
        case [host, number, file]:
            return host, port(number, 1), Path(file)
        case _:
            raise argparse.ArgumentTypeError(f"too many arguments: {words[3]!r}")


def _parser() -> Parser:
    parser = Parser(
        prog="fake_vlc.py",
        usage="%(prog)s [options] [HOST PORT] [FILE]",
        description="Send a recorded stream to a UDP port, as VLC would.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("words", nargs="*", help=argparse.SUPPRESS)
    add("--rtp", action="store_true", help="put every datagram of MPEG-TS in RTP")
    add("--loop", action="store_true", help="start again at the end, until Ctrl-C")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--speed", metavar="X", type=positive, default=1.0, help="X times as fast")
    pace.add_argument("--bitrate", metavar="RATE", type=bitrate,
        help="constant bits per second (5M, 500k) instead of the file's own pace")  # fmt: skip
    add("--flow", metavar="WHICH", help="which flow of a capture: its rank by size, or the "
        "ADDRESS:PORT of one end (default: the largest)")  # fmt: skip
    add("--drop", metavar="P", type=probability, default=0.0, help="lose datagrams (0.01 or 1%%)")
    add("--duplicate", metavar="P", type=probability, default=0.0, help="send datagrams twice")
    add("--reorder", metavar="P", type=probability, default=0.0,
        help="send datagrams after the one behind them")  # fmt: skip
    add("--jitter", metavar="MS", type=milliseconds, default=0.0,
        help="delay datagrams by 0 to MS milliseconds")  # fmt: skip
    add("--seed", metavar="N", type=int, default=random.SystemRandom().getrandbits(32),
        help="repeat what chance did in a replay with this seed")  # fmt: skip
    return parser


class Replay:
    """The chain from a file to datagrams that are ready to send.

    Raises:
        ReplayError: now or on iteration, if the file cannot be replayed as asked.
    """

    def __init__(self, file: io.BufferedReader, options: Options) -> None:
        self._options = options
        self.speed = options.speed
        self._stream: TransportFile | None = None
        self._faults = Done()
        head = file.peek(4)[:4]
        if not head:
            raise ReplayError("the file is empty")
        self._timed = self._capture(file) if is_capture(head) else self._transport(file)

    def _transport(self, file: io.BufferedReader) -> Iterator[Timed]:
        if self._options.flow is not None:
            raise ReplayError("--flow chooses from a capture (pcap, pcapng), and this is none")
        self._stream = TransportFile(file, self._options.loop)
        pace = self._options.bitrate
        return datagrams(at_bitrate(self._stream, pace) if pace else paced(self._stream))

    def _capture(self, file: io.BufferedReader) -> Iterator[Timed]:
        survey = survey_capture(file)
        flow = choose(survey, self._options.flow)
        for warning in survey.warnings():
            say(f"{self._options.file}: {warning}")
        if len(survey.flows) > 1 and self._options.flow is None:
            say(f"{self._options.file} has {len(survey.flows)} flows; replaying the first of these "
                "(--flow chooses):")  # fmt: skip
            for line in listing(survey):
                say(line)
        timed = replay_capture(file, flow, survey.flows[flow], self._options.loop)
        pace = self._options.bitrate
        return at_bitrate((payload for _, payload in timed), pace) if pace else timed

    def __iter__(self) -> Iterator[tuple[int, bytes | None]]:
        options, rng, timed = self._options, random.Random(self._options.seed), self._timed
        if options.speed != 1:
            timed = ((round(due / options.speed), payload) for due, payload in timed)
        if options.rtp:
            timed = in_rtp(timed, rng)
        return inject(timed, options.faults, rng, self._faults)

    def notes(self) -> Iterator[str]:
        """Yield what there is to say at the end."""
        done = self._faults
        if self._options.faults != Faults():
            yield (
                f"dropped {done.dropped}, duplicated {done.duplicated}, "
                f"reordered {done.reordered} (seed {self._options.seed})"
            )
        if self._stream and self._stream.skipped:
            yield f"skipped {amount(self._stream.skipped)} that are no MPEG-TS"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status, 128 and the signal if one ended it."""
    options = parse(argv)
    try:
        with options.file.open("rb") as file, Sender(options.host, options.port) as sender:
            return _send(Replay(file, options), sender)
    except ReplayError as error:
        raise SetupError(f"{options.file}: {error}") from None
    except OSError as error:  # of the file; `Sender` reports those of its socket itself
        raise SetupError(f"cannot read {options.file}: {error.strerror}") from None


def _send(replay: Replay, sender: Sender) -> int:
    begun, progress = time.monotonic(), Progress()
    with Interruption() as interruption:
        try:
            sender.replay(replay, interruption, progress, replay.speed)
        finally:
            progress.clear()
    _summarise(sender, replay, time.monotonic() - begun)
    return 128 + interruption.signum if interruption.signum else 0


def _summarise(sender: Sender, replay: Replay, seconds: float) -> None:
    say(
        f"sent {sender.sent} datagrams, {amount(sender.byte_count)} in {seconds:.1f} s "
        f"({rate(sender.byte_count, seconds)}) to {sender.where}"
    )
    if sender.failed:
        say(f"could not send {sender.failed} datagrams")
    if sender.schedule.stalled:
        say(f"fell behind by {sender.schedule.stalled / 1e9:.1f} s in all")
    for note in replay.notes():
        say(note)


if __name__ == "__main__":
    sys.exit(run("fake_vlc.py", main))
