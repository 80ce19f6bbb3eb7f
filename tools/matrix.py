"""Who can send to the relay and who can watch, by trying all of them: `make matrix`.

For each source in turn a relay, and all viewers at once by each way that they know. A cell is good
when that many frames have been decoded. One that is not is tried once more, since a busy machine
may stand still for longer than a player waits. The parts are in tools/interop/.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from relaylib.cli import Parser
from relaylib.errors import SetupError
from tools.interop import table
from tools.interop.sources import SOURCES, make_film, sending
from tools.interop.viewers import UDP, Browsers, Decoding, StreamPlace, watching
from tools.lab.machine import FAILURES
from tools.lab.media import studio
from tools.lab.process import PATIENCE, ROOT, NeedError, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.sockets import is_bound, unused_port
from tools.lab.viewer import TestViewer
from tools.lab.web import HttpViewer, http_port
from tools.replay.program import run, say

ENOUGH = 50
"""Frames: two seconds, which is more than any player shows of a stream that it cannot decode."""

SEGMENTS = 3
"""In the playlist, before anybody comes: so many a player of HLS wants."""

LOOK = 0.2
"""Seconds between two looks at what has been decoded."""


class Round:
    """A relay, a source, and some cells of its row."""

    def __init__(self, stack: ExitStack, home: Path, browsers: Browsers) -> None:
        self._stack, self._home, self._browsers = stack, home, browsers
        self._relay = stack.enter_context(RelayProcess("--http", "127.0.0.1:0"))
        self._http = http_port(self._relay)
        stack.callback(browsers.leave)
        self.missing: table.Results = {}
        """Cells whose viewer is not installed."""

    def send(self, source: str, film: Path) -> None:
        """Start the source, and wait until there is something to watch."""
        self._stack.enter_context(sending(source, film, self._relay.ingest_port))
        wait_for(lambda: self._segments() >= SEGMENTS, f"{source}: segments of its stream")

    def _segments(self) -> int:
        with HttpViewer(self._http) as asking:
            return asking.get("/live.m3u8").body.count(b"#EXTINF")

    def watch(self, cells: Sequence[table.Cell]) -> table.Results:
        """Let them all watch; return what became of each."""
        at_work: dict[table.Cell, Decoding] = {}
        failed: table.Results = {}
        for cell in cells:
            try:
                at_work[cell] = self._open(*cell)
            except NeedError as error:
                self.missing[cell] = str(error)
            except FAILURES as error:
                failed[cell] = str(error)
        self._wait(list(at_work.values()))
        return {cell: _judge(each) for cell, each in at_work.items()} | failed

    def _open(self, source: str, viewer: str, transport: str) -> Decoding:
        port = unused_port() & ~1  # for RTP ffmpeg takes an even one, and the next
        place = StreamPlace(
            self._home,
            f"{SOURCES[source].scheme}://127.0.0.1:{port}",
            f"http://127.0.0.1:{self._http}",
        )
        decoding = watching(viewer, place, transport, self._browsers)
        self._stack.enter_context(decoding)
        if transport == UDP:
            wait_for(lambda: is_bound(port), f"{viewer} to listen")
            control = self._stack.enter_context(TestViewer(self._relay.port))
            assert control.command(f"CONECTAR {port}") == "OK"
        return decoding

    @staticmethod
    def _wait(waiting: list[Decoding]) -> None:
        deadline = time.monotonic() + PATIENCE
        while waiting and time.monotonic() < deadline:
            waiting = [each for each in waiting if each.frames() < ENOUGH]
            time.sleep(LOOK)


def _judge(decoding: Decoding) -> str:
    frames = decoding.frames()
    return "" if frames >= ENOUGH else f"{frames} frames; {decoding.trouble()}"


def _try(
    source: str, cells: Sequence[table.Cell], film: Path, browsers: Browsers
) -> tuple[table.Results, table.Results]:
    """Return what became of these cells, and those that need what is not installed."""
    try:
        with ExitStack() as stack:
            here = Round(stack, film.parent, browsers)
            here.send(source, film)
            return here.watch(cells), here.missing
    except NeedError as error:
        return {}, dict.fromkeys(cells, str(error))
    except FAILURES as error:
        return dict.fromkeys(cells, str(error)), {}


def row(source: str, film: Path, browsers: Browsers) -> tuple[table.Results, table.Results]:
    """Try a source with everybody, and once more what failed."""
    cells = [cell for cell in table.CELLS if cell[0] == source]
    results, missing = _try(source, cells, film, browsers)
    if failed := [cell for cell, why in results.items() if why]:
        for cell in failed:
            say(f"once more: {', '.join(cell)}: {results[cell]}")
        results |= _try(source, failed, film, browsers)[0]
    return results, missing


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name for name in SOURCES if text.casefold() in name.casefold())
    if not names:
        raise argparse.ArgumentTypeError(f"no source {text!r}; there are {'; '.join(SOURCES)}")
    return names


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="matrix.py", description="Try every source with every viewer.")
    parser.add_argument("--only", type=_names, metavar="TEXT", default=tuple(SOURCES),
                        help="sources whose name contains this")  # fmt: skip
    parser.add_argument("--publish", action="store_true", help="write docs/PLAYERS.md")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Try them; return the exit status, 1 when a cell failed or, if CI is set, was not tried."""
    options = _options(words)
    results: table.Results = {}
    missing: table.Results = {}
    with ExitStack() as stack:
        home = stack.enter_context(studio())
        try:
            film = make_film(home)
        except NeedError as error:
            raise SetupError(str(error)) from None
        browsers = Browsers()
        stack.callback(browsers.close)
        for source in options.only:
            started = time.monotonic()
            found, lacking = row(source, film, browsers)
            results |= found
            missing |= lacking
            say(f"{source}: {time.monotonic() - started:.0f} s")
    text = table.markdown(results, options.only)
    print(f"{text}\n{table.notes()}", end="")
    failed = {cell: why for cell, why in results.items() if why}
    for cell, why in {**failed, **missing}.items():
        say(f"{', '.join(cell)}: {why}")
    if options.publish:
        if len(results) < len(table.CELLS):
            raise SetupError("not published: not everything was tried")
        (ROOT / "docs" / "PLAYERS.md").write_text(table.page(results))
    return int(bool(failed) or (bool(missing) and "CI" in os.environ))


if __name__ == "__main__":
    sys.exit(run("matrix.py", main))
