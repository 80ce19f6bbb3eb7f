"""The relay: takes a live stream in over UDP and gives it to every viewer who asks over TCP.

This file reads the configuration, builds the parts, joins them and runs the loop. How a datagram
travels: `ingest` reads a batch, `fanout` sends it. How a command travels: `connection` reads bytes,
`control` makes a request of them, `session` says what it does now, `server` does it and replies.
"""

import contextlib
import signal
import sys
from typing import NoReturn

import structlog

from relaylib import kernel
from relaylib.address import bind_pair, reachable_host, show
from relaylib.batch import Run
from relaylib.config import Config, parse
from relaylib.errors import SetupError
from relaylib.fanout import Fanout
from relaylib.ingest import Ingest
from relaylib.log import setup
from relaylib.loop import Loop
from relaylib.server import Server

GRACE = 0.5
"""Seconds that the farewells may take to leave when the relay ends."""

FAREWELL = "el relay se detiene"

log = structlog.get_logger()

GUIDE = """
  1. Send a stream here, from VLC on any machine:
       vlc FILE --sout '#rtp{{proto=udp,mux=ts,dst={host},port={ingest}}}' --sout-keep
     or try the sample that comes with the relay:
       make demo
  2. Ask for it, on the viewer's machine:
       python client.py {host} {port} 5004 --vlc      (or: nc {host} {port}, then CONECTAR 5004)
  3. Watch it: --vlc opened the player; by hand, open this address in VLC:
       rtp://@:5004      (udp://@:5004 if the source sends MPEG-TS without RTP)

  Ctrl-C ends the relay.
"""


class Relay:
    """The parts, joined."""

    def __init__(self, config: Config) -> None:
        """Bind the ports and build everything; `run` does the rest.

        Raises:
            SetupError: a port cannot be bound.
        """
        self._config = config
        listener, ingest = bind_pair(config.host, config.port, config.ingest_port)
        self._control_address, self._ingest_address = listener.getsockname(), ingest.getsockname()
        self.loop = Loop(_log_bug)
        self.fanout = Fanout(segmentation=config.segmentation)
        self.ingest = Ingest(self.loop, ingest, config, self._forward)
        self.server = Server(self.loop, listener, self.fanout, self._ingest_address)
        self.fanout.on_refused = self.server.destinations.player_refused
        for signum in (signal.SIGINT, signal.SIGTERM):
            self.loop.on_signal(signum, self._shut_down)

    def _forward(self, runs: list[Run]) -> None:
        self.fanout.forward(runs, self.loop.now)

    def run(self) -> None:
        """Relay until a signal ends it."""
        log.info(
            "listening",
            host=self._control_address[0],
            port=self._control_address[1],
            ingest_port=self._ingest_address[1],
        )
        self._guide()
        self.loop.run()
        log.info(
            "stopped",
            clients=self.server.accepted,
            received=self.ingest.received,
            strangers=self.ingest.strangers,
            overflowed=self.ingest.overflowed,
        )
        self.loop.close()

    def _guide(self) -> None:
        """Tell a person at a terminal what to type next."""
        if not sys.stdout.isatty():
            return
        host, port = reachable_host(self._control_address[0]), self._control_address[1]
        print(f"Relay listening on {show(self._control_address)}")
        print(GUIDE.format(host=host, port=port, ingest=self._ingest_address[1]), flush=True)

    def _shut_down(self) -> None:
        """End in order: no new clients, a farewell to the present ones; a second signal kills."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            self.loop.default_signal(signum)
        log.info("shutting_down", clients=len(self.server.clients))
        self.server.close(FAREWELL)
        self.loop.call_later(GRACE, self.loop.stop)
        self._stop_when_empty()

    def _stop_when_empty(self) -> None:
        if self.server.clients:
            self.loop.call_later(0.01, self._stop_when_empty)
        else:
            self.loop.stop()


def _log_bug(error: Exception) -> None:
    log.error("bug", exc_info=error)


def main() -> NoReturn:
    """Run the program; exit 0 after a signal, 1 if a port cannot be had, 2 for a wrong option."""
    config = parse(sys.argv[1:])
    setup(config.log_format, config.log_level)
    kernel.raise_descriptor_limit()
    try:
        relay = Relay(config)
    except SetupError as error:
        sys.stderr.write(f"relay.py: {error}\n")
        raise SystemExit(error.status) from None
    relay.run()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    raise SystemExit(0)


if __name__ == "__main__":
    main()
