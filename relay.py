"""The relay: takes a live stream in over UDP and gives it to every viewer who asks over TCP.

This file reads the configuration, builds the parts, joins them and runs the loop. How a datagram
travels: `ingest` reads a batch, `fanout` sends it. How a command travels: `connection` reads bytes,
`control` makes a request of them, `session` says what it does now, `viewer` does it and replies.
"""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports is no traceback

import contextlib
import gc
import os
import socket
import sys
from typing import NoReturn

try:
    import structlog
except ModuleNotFoundError:
    sys.exit("relay.py: needs the Python package structlog: "
             "make setup, then .venv/bin/python relay.py ...")  # fmt: skip

from relaylib import __version__
from relaylib.client.player import stream_url
from relaylib.config import Config, parse
from relaylib.errors import SetupError
from relaylib.lifecycle import handover, systemd
from relaylib.lifecycle.restart import CHECKED, Restart, unblock_signals
from relaylib.log import Throttle, occupy_standard_descriptors, setup
from relaylib.net.address import bind_pair, reachable_host, resolve_own, show
from relaylib.net.descriptors import adopt, descriptor, raise_descriptor_limit
from relaylib.net.loop import Loop
from relaylib.stream.batch import Run
from relaylib.stream.fanout import Fanout
from relaylib.stream.ingest import Ingest
from relaylib.viewers.server import Server

GRACE = 0.5
"""Seconds that the farewells may take to leave when the relay ends."""

FAREWELL = "el relay se detiene"

log = structlog.get_logger()

GUIDE = """
  1. Send a stream here, from VLC on any machine:
       vlc FILE --sout '#rtp{{proto=udp,mux=ts,dst={host},port={ingest}}}' --sout-keep
     or the sample that comes with the relay:
       python3 tools/fake_vlc.py {host} {ingest} --rtp --loop
  2. Ask for it, on the viewer's machine:
       python3 client.py {host} {port} 5004 --vlc      (or: nc {host} {port}, then CONECTAR 5004)
  3. Watch it: --vlc opened the player; by hand, open this address in VLC:
       {rtp}      ({udp} if the source sends MPEG-TS without RTP)

  Ctrl-C ends the relay.
"""


class Relay:
    """The parts, joined; new, or going on where a previous program stopped."""

    def __init__(self, config: Config, inherited: handover.State | None) -> None:
        """Bind or inherit the ports and build everything; `run` does the rest.

        Raises:
            SetupError: a port cannot be bound.
        """
        listener, ingest, shared = _sockets(config, inherited)
        self._control_address, self._ingest_address = listener.getsockname(), ingest.getsockname()
        self._asked = asked = (config.host, config.port, config.ingest_port)
        self._terminals = [fd for fd in range(3) if os.isatty(fd)]
        self._bug_log = Throttle()
        self.loop = Loop(self._log_bug)
        self.fanout = Fanout(segmentation=config.segmentation)
        self.ingest = Ingest(self.loop, ingest, config, self._forward, shared=shared)
        self.ingest.on_source = self.fanout.forget_limits
        self.server = Server(self.loop, listener, self.fanout, self._ingest_address, config)
        if inherited is not None:
            self.ingest.restore(inherited.ingest)
            self.server.restore(inherited.viewers, inherited.accepted, inherited.declined)
            self._asked = inherited.asked
        if self._asked != asked:
            log.warning("address_unchanged", asked=asked, used=self._asked, remedy="stop and start")
        self._restart = Restart(self.loop, self._export)
        self._listen_to_signals()
        if (period := systemd.watchdog_period()) is not None:
            self.loop.call_every(period, lambda: systemd.notify("WATCHDOG=1"))

    def _log_bug(self, error: Exception) -> None:
        if (fields := self._bug_log.admit(self.loop.now)) is not None:
            log.error("bug", exc_info=error, **fields)

    def _forward(self, runs: list[Run]) -> None:
        self.fanout.forward(runs, self.loop.now)

    def run(self, *, restarted: bool) -> None:
        """Relay until a signal ends it."""
        host, port = self._control_address[:2]
        log.info("listening", host=host, port=port, ingest_port=self._ingest_address[1])
        if restarted:
            log.info("reloaded", clients=len(self.server.clients), version=__version__)
        elif os.isatty(1):
            self._guide()
        systemd.notify("READY=1\nSTATUS=\nWATCHDOG=1")  # the last beat may be a whole period old
        gc.freeze()  # what is there now stays: searching it for garbage would take 20 ms each time
        self.loop.run()
        log.info(
            "stopped",
            accepted=self.server.accepted,
            declined=dict(self.server.declined),
            received=self.ingest.received,
            rejected=self.ingest.lock.state.rejected,
            overflowed=self.ingest.buffer.drops.total,
        )
        self.loop.close()

    def _guide(self) -> None:
        """Tell a person at a terminal what to type next."""
        host, port = reachable_host(self._control_address[0]), self._control_address[1]
        print(f"Relay listening on {show(self._control_address)}")
        rtp, udp = (stream_url(scheme, 5004, ipv6=":" in host) for scheme in ("rtp", "udp"))
        ingest = self._ingest_address[1]
        print(GUIDE.format(host=host, port=port, ingest=ingest, rtp=rtp, udp=udp), flush=True)

    # --- signals

    def _listen_to_signals(self) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            self.loop.on_signal(signum, self._shut_down)
        if hasattr(signal, "SIGHUP"):
            self.loop.on_signal(signal.SIGHUP, self._hang_up)
            unblock_signals()

    def _shut_down(self) -> None:
        """End in order: no new clients, a farewell to the present ones; a second signal kills."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            self.loop.default_signal(signum)
        if hasattr(signal, "SIGHUP"):  # a terminal that is closed may send it twice
            self.loop.on_signal(signal.SIGHUP, lambda: None)
        self._restart.cancel()
        log.info("shutting_down", clients=len(self.server.clients))
        systemd.notify("STOPPING=1")
        self.server.close(FAREWELL)
        self.loop.call_later(GRACE, self.loop.stop)
        self._stop_when_empty()

    def _stop_when_empty(self) -> None:
        if self.server.clients:
            self.loop.call_later(0.01, self._stop_when_empty)
        else:
            self.loop.stop()

    def _hang_up(self) -> None:
        """Restart in place; but end if the signal means that our terminal was closed."""
        if not all(os.isatty(fd) for fd in self._terminals):
            self._shut_down()
        else:
            self._restart.begin()

    def _export(self) -> handover.State:
        return handover.State(
            listener=descriptor(self.server.listener),
            asked=self._asked,
            ingest=self.ingest.export(),
            accepted=self.server.accepted,
            declined=dict(self.server.declined),
            viewers=self.server.export(),
        )


def _sockets(
    config: Config, inherited: handover.State | None
) -> tuple[socket.socket, socket.socket, bool]:
    """Return the listener and the ingest: inherited, opened by systemd, or bound now.

    And whether the ingest is shared with systemd.
    """
    if inherited is not None:
        return adopt(inherited.listener), adopt(inherited.ingest.sockets.stream), False
    given = systemd.take_listen_sockets()
    listener, ingest = bind_pair(
        config.host,
        config.port,
        config.ingest_port,
        listener=given.get(socket.SOCK_STREAM),
        ingest=given.get(socket.SOCK_DGRAM),
    )
    return listener, ingest, socket.SOCK_DGRAM in given


def _confirm(config: Config) -> NoReturn:
    """Say that the configuration is right, and end.

    Raises:
        SetupError: it is not.
    """
    resolve_own(config.host, config.port)
    with contextlib.suppress(OSError):
        os.write(1, f"{CHECKED}\n".encode())
    raise SystemExit(0)


def main() -> NoReturn:
    """Run the program; exit 0 after a signal, 1 if a port cannot be had, 2 for a wrong option."""
    occupy_standard_descriptors()
    config = parse(sys.argv[1:])
    setup(config.log_format, config.log_level)
    raise_descriptor_limit()
    try:
        inherited = handover.take()
        if config.check and (inherited is None or "--check" in sys.argv):
            _confirm(config)  # but --check in a file of options must not end a restarted relay
        relay = Relay(config, inherited)
    except SetupError as error:
        print(f"relay.py: {error}", file=sys.stderr)
        raise SystemExit(error.status) from None
    relay.run(restarted=inherited is not None)
    raise SystemExit(0)


if __name__ == "__main__":
    main()
