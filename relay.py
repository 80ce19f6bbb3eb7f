"""The relay: takes a live stream in over UDP and gives it to every viewer who asks over TCP.

This file reads the options and builds a channel, the doors to it, and what reloads, reports and
ends the program; then it runs the loop.
`relaylib/channel.py` says how a datagram travels. A command travels so: `net/connection` reads
bytes, `protocol/lines` and `protocol/commands` make a command of them, `protocol/session` says what
it does now, `viewers/viewer` does it and replies.
"""

import signal

if __name__ in ("__main__", "relay_programs.relay"):  # the latter where it is installed
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports is no traceback

import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, NoReturn

if sys.version_info < (3, 11):  # noqa: UP036 - for a clear message from an older Python
    sys.exit(
        f"{os.path.basename(sys.argv[0])}: needs Python 3.11 or newer: make run PYTHON=python3.12"
    )

if missing := [
    package
    for package in ("structlog", "h11", "prometheus_client")
    if importlib.util.find_spec(package) is None
]:
    sys.exit(f"{os.path.basename(sys.argv[0])}: needs the Python package {missing[0]}: "
             "make setup, then .venv/bin/python relay.py ...")  # fmt: skip

import structlog

from relaylib import __version__
from relaylib.channel import Channel
from relaylib.cli import program_name
from relaylib.config import Config, parse
from relaylib.errors import SetupError
from relaylib.lifecycle import check, handover, systemd
from relaylib.lifecycle.guide import show_guide
from relaylib.lifecycle.reload import Reload
from relaylib.lifecycle.report import Report
from relaylib.lifecycle.shutdown import shut_down
from relaylib.lifecycle.signals import Signals
from relaylib.lifecycle.sockets import keep_sources, open_http, open_sockets
from relaylib.lifecycle.stand_in import StandIn
from relaylib.log import Throttle, flush_throttles, setup
from relaylib.net.address import show
from relaylib.net.descriptors import (
    descriptor,
    enough_descriptors,
    occupy_standard_descriptors,
    raise_descriptor_limit,
)
from relaylib.net.garbage import search_young_only
from relaylib.net.loop import Loop
from relaylib.outputs.output import Output
from relaylib.outputs.viewer_row import ViewerRow
from relaylib.stdio import say
from relaylib.viewers.egress import Egress
from relaylib.viewers.server import ControlServer
from relaylib.web.state import SiteState

if TYPE_CHECKING:
    from relaylib.web.parts import ControlPort
    from relaylib.web.site import Site

log = structlog.get_logger()


class Relay:
    """A channel, the doors to it, and the program's life; new, or going on from another one."""

    def __init__(self, config: Config, inherited: handover.RelayState | None) -> None:
        """Open or inherit the ports and build everything; `run` does the rest.

        Raises:
            SetupError: a port cannot be opened, or the stream cannot be sent where it should be.
        """
        config = keep_sources(config, inherited)
        sockets = open_sockets(config, inherited)
        self._control_address = sockets.listener.getsockname()
        self._allow, self._allow_source = config.allow, config.allow_source
        self.loop = Loop(self._log_bug)
        self._bug_log = Throttle(self.loop.call_later)
        self._reloading = inherited is not None
        self.channel = Channel(
            self.loop,
            config,
            sockets.ingest,
            sockets.membership,
            shared=sockets.shared,
            viewers=self._outputs_of_viewers,
            viewer_rows=self._viewer_rows,
            saved=inherited.channel if inherited else None,
        )
        self._open_doors(config, sockets.listener, inherited)
        self._begin_life(config, inherited)

    def _open_doors(
        self, config: Config, listener: socket.socket, was: handover.RelayState | None
    ) -> None:
        """Open the doors for viewers: the control protocol, and HTTP."""
        self.site: Site | None = None
        egress = Egress(config.max_egress, self._streams)
        self.server = ControlServer(self.loop, listener, self.channel, config, egress)
        if was is not None:
            self.server.restore(was.viewers, was.accepted, was.declined)
        self.site = self._open_site(config, egress.admit, was.site if was else None)

    def _open_site(
        self, config: Config, admit: Callable[[], None], was: SiteState | None
    ) -> "Site | None":
        listener = open_http(config, was.web if was else None, reloading=self._reloading)
        if listener is None:
            return None
        # Loaded only where it is wanted: it takes a third of the time that a start takes.
        from relaylib.web.site import Site  # noqa: PLC0415

        return Site(
            self.loop,
            config,
            listener,
            self.channel,
            door=self._door,
            admit=admit,
            saved=was,
        )

    def _begin_life(self, config: Config, was: handover.RelayState | None) -> None:
        """Make what reloads, reports and ends the program."""
        self._asked = config.asked if was is None else was.asked
        if self._asked != config.asked:
            log.warning(
                "address_unchanged", asked=config.asked, used=self._asked, remedy="stop and start"
            )
        self._stand_in = StandIn(self.loop, self.channel)
        self._relieving = was.stand_in if was else None
        self._reload = reload = Reload(self.loop, self.channel, self._export, self._stand_in)
        report = Report(
            self.loop,
            self.channel.observer,
            door=lambda: (self.server.accepted, self.server.declined),
            failure=lambda: reload.failure,
        )
        report.begin(config.report)
        Signals(self.loop, end=self._shut_down, reload=reload.begin, report=report.log)
        systemd.start_watchdog(self.loop)

    # --- what the parts ask of each other

    def _outputs_of_viewers(self) -> list[Output]:
        return self.server.outputs()

    def _viewer_rows(self) -> Iterable[ViewerRow]:
        by_http = self.site.server.viewer_rows() if self.site else ()
        return chain(self.server.viewer_rows(), by_http)

    def _streams(self) -> int:
        """Count how many times the stream is sent, by UDP and by HTTP."""
        by_http = self.site.server.watching if self.site else 0
        return self.channel.fanout.active + by_http

    def _door(self) -> "ControlPort":
        from relaylib.web.parts import ControlPort  # noqa: PLC0415 - as in `_open_site`

        return ControlPort(self._control_address, self.server.accepted, self.server.declined)

    def _log_bug(self, error: Exception) -> None:
        self._bug_log.log(log.error, "bug", exc_info=error)

    # --- its life

    def run(self, *, reloaded: bool) -> None:
        """Relay until a signal ends it."""
        search_young_only()
        self._stand_in.relieve(self._relieving)
        host, port = self._control_address[:2]
        ingest = self.channel.address
        log.info("listening", host=host, port=port, ingest_port=ingest[1], ingest=show(ingest))
        if reloaded:
            log.info("reloaded", clients=len(self.server.viewers), version=__version__)
        http = self.site.port if self.site else None
        if os.isatty(1) and not reloaded:
            show_guide(self._control_address, ingest, self._allow, http, self._allow_source)
        # WATCHDOG=1: the last beat may be older than systemd allows. `tools/demo.py` needs ports.
        ports = f"{port} {ingest[1]} {http or 0}"
        systemd.notify(f"READY=1\nSTATUS=\nWATCHDOG=1\nX_RELAY_PORTS={ports}")
        self.loop.run()
        self._stopped()

    def _stopped(self) -> None:
        self.loop.close()
        self.channel.close()
        flush_throttles()
        ingest = self.channel.ingest
        log.info(
            "stopped",
            accepted=self.server.accepted,
            declined=dict(self.server.declined),
            received=ingest.received,
            rejected=ingest.gate.state.rejected,
            overflowed=ingest.buffer.drops.total,
        )

    def _export(self) -> handover.RelayState:
        return handover.RelayState(
            listener=descriptor(self.server.listener),
            asked=self._asked,
            channel=self.channel.export(),
            accepted=self.server.accepted,
            declined=dict(self.server.declined),
            viewers=self.server.export(),
            site=self.site.export() if self.site else None,
        )

    def _shut_down(self) -> None:
        self._reload.cancel()
        if self.site is not None:
            self.site.close()
        shut_down(self.loop, self.server)


def main() -> NoReturn:
    """Run the program; exit 0 after a signal, 1 if a port cannot be had, 2 for a wrong option."""
    occupy_standard_descriptors()
    try:
        inherited = handover.take()
        argv = sys.argv if inherited is None else inherited.argv or sys.argv
        config = parse(argv[1:], program_name())
        setup(config.log_format, config.log_level)
        raise_descriptor_limit()
        if config.check and (inherited is None or "--check" in sys.argv):
            # a reloaded relay ends here only for --check in its command, not in a file of options
            check.confirm(config, reloading=inherited is not None)
        if config.doctor and inherited is None:
            from relaylib.doctor.examine import examine  # noqa: PLC0415 - seldom wanted

            examine(config)
        with enough_descriptors():
            relay = Relay(config, inherited)
    except SetupError as error:
        say(f"{program_name()}: {error}\n", 2)
        raise SystemExit(error.status) from None
    relay.run(reloaded=inherited is not None)
    raise SystemExit(0)


if __name__ == "__main__":
    main()
