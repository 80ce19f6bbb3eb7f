"""The relay: takes a live stream in over UDP and gives it to every viewer who asks over TCP.

This file reads the configuration, builds the parts, joins them and runs the loop. How a datagram
travels: `ingest` reads a batch, `fanout` sends it, and only then `history` keeps it for a while;
out of that `deferred` sends it to those who are behind, `web` to those who watch by HTTP, and
`inspection` looks at it.
How a command travels: `connection` reads bytes, `lines` and `commands` make a request of them,
`session` says what it does now, `viewer` does it and replies.
"""

import signal

if __name__ in ("__main__", "relay_programs.relay"):  # the latter where it is installed
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports is no traceback

import gc
import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, NoReturn

if sys.version_info < (3, 11):  # noqa: UP036 - whoever starts it with an older one should be told
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
from relaylib.cli import program_name
from relaylib.config import Config, parse
from relaylib.errors import SetupError
from relaylib.lifecycle import check, handover, systemd
from relaylib.lifecycle.guide import show_guide
from relaylib.lifecycle.report import Report
from relaylib.lifecycle.restart import Restart
from relaylib.lifecycle.shutdown import shut_down
from relaylib.lifecycle.signals import Signals
from relaylib.lifecycle.sockets import Sockets, keep_sources, open_http, open_sockets
from relaylib.lifecycle.stand_in import StandIn
from relaylib.log import Throttle, flush_throttles, setup
from relaylib.net.address import Address, show
from relaylib.net.descriptors import (
    descriptor,
    enough_descriptors,
    occupy_standard_descriptors,
    raise_descriptor_limit,
)
from relaylib.net.histogram import Histogram
from relaylib.net.loop import Loop
from relaylib.stdio import say
from relaylib.stream.batch import Run
from relaylib.stream.deferred import Deferred
from relaylib.stream.fanout import Fanout
from relaylib.stream.fixed import FixedOutputs, check_outputs
from relaylib.stream.group import Group
from relaylib.stream.health import Health
from relaylib.stream.history import open_history
from relaylib.stream.ingest import Ingest
from relaylib.stream.output import Output
from relaylib.stream.recorder import open_recorder
from relaylib.stream.watcher import Watcher
from relaylib.track.track import open_track
from relaylib.track.walk import open_walk
from relaylib.viewers.server import Server
from relaylib.web.state import SiteState

if TYPE_CHECKING:
    from relaylib.web.parts import Parts
    from relaylib.web.server import Server as WebServer
    from relaylib.web.site import Site

log = structlog.get_logger()


class Relay:
    """The parts, joined; new, or going on where a previous program stopped."""

    def __init__(self, config: Config, inherited: handover.State | None) -> None:
        """Open or inherit the ports and build everything; `run` does the rest.

        Raises:
            SetupError: a port cannot be opened, or the stream cannot be sent where it should be.
        """
        config = keep_sources(config, inherited)
        sockets = open_sockets(config, inherited)
        self._control_address = sockets.listener.getsockname()
        self._ingest_address = sockets.ingest.getsockname()
        if inherited is None:
            check_outputs(config.to, self._ingest_address)
        self._allow = config.allow
        self.loop = Loop(self._log_bug)
        self._bug_log = Throttle(self.loop.call_later)
        self._restarting = inherited is not None
        self._open_stream(config, sockets, inherited)
        self._open_audience(config, sockets.listener, inherited)
        self._begin_life(config, inherited)

    def _open_stream(self, config: Config, sockets: Sockets, was: handover.State | None) -> None:
        """Make what the stream passes through, and who looks into it."""
        loop, membership = self.loop, sockets.membership
        self.forwarding = Histogram()
        self.fanout = Fanout(loop.call_later, segmentation=config.segmentation)
        self.history = open_history(config, was.history if was else None, restarted=was is not None)
        shared = sockets.shared or membership is not None
        self.ingest = Ingest(
            loop, sockets.ingest, config, self._forward, shared=shared, errors=self._errors
        )
        self.ingest.on_source = self._on_source
        self._group = Group(loop, self.ingest, membership) if membership else None
        self.track = open_track(config, was.track if was else None, reloaded=was is not None)
        self.walk = open_walk(
            loop,
            self.history,
            self.track,
            passed=lambda: self.fanout.forwarded,
            full_reads=lambda: self.ingest.full_reads,
            on_form=self.ingest.recognise,
            saved=was.walk if was else None,
        )
        self.health = Health(
            loop,
            self.ingest,
            self.fanout,
            self.walk if config.inspect else None,
            outputs=self._outputs,
            saved=was.health if was else None,
        )
        self.recorder = open_recorder(
            config, loop, self.history, self._ends, was.recorder if was else None
        )
        if self.recorder is not None:
            self.health.on_change = self.recorder.verdict_changed
        if was is not None:
            self.ingest.restore(was.ingest)

    def _open_audience(
        self, config: Config, listener: socket.socket, was: handover.State | None
    ) -> None:
        """Make what the stream goes to: those who ask for it, and fixed outputs."""
        loop, fanout, ingest = self.loop, self.fanout, self._ingest_address
        self.deferred = Deferred(loop, fanout, self.history, self.track, config)
        self.server = Server(
            loop, listener, fanout, ingest, config, deferred=self.deferred, facts=self._facts
        )
        destinations = self.server.destinations
        self.fixed = FixedOutputs(
            loop,
            fanout,
            ingest,
            config.to,
            was.fixed if was else (),
            taken=destinations.in_use,
            claimed=destinations.claimed,
        )
        if was is not None:
            self.server.restore(was.viewers, was.accepted, was.declined)
        self.site = self._open_site(config, was.site if was else None)

    def _begin_life(self, config: Config, was: handover.State | None) -> None:
        """Make what restarts, reports and ends the program."""
        self._asked = config.asked if was is None else was.asked
        if self._asked != config.asked:
            log.warning(
                "address_unchanged", asked=config.asked, used=self._asked, remedy="stop and start"
            )
        self._stand_in = StandIn(
            self.loop,
            self.ingest,
            self.fanout,
            self._outputs,
            history=self.history,
            deferred=self.deferred,
        )
        self._relieving = was.stand_in if was else None
        self._restart = restart = Restart(self.loop, self._export, self._stand_in)
        self._report = report = Report(
            self.loop,
            self.health,
            self.server,
            self.ingest,
            self.history,
            outputs=self._outputs,
            failure=lambda: restart.failure,
        )
        report.begin(config.report)
        Signals(self.loop, end=self._shut_down, restart=restart.begin, report=report.log)
        systemd.start_watchdog(self.loop)

    def _open_site(self, config: Config, was: SiteState | None) -> "Site | None":
        """Make what is to be had by HTTP, if anything is."""
        listener = open_http(config, was.web if was else None, restarting=self._restarting)
        if listener is None:
            return None
        # Loaded only where it is wanted: it takes a third of the time that a start takes.
        from relaylib.web.site import Site  # noqa: PLC0415

        site = Site(config, listener, self._parts, was)
        self.ingest.is_patient = lambda: not self.fanout.active  # by HTTP nobody notices
        site.server.admit = self.server.egress.admit
        self.server.egress.streams.append(lambda: site.server.watching)
        return site

    def _parts(self, served: "Callable[[], WebServer]") -> "Parts":
        """Return what the web may look at."""
        from relaylib.web.parts import Door, Parts  # noqa: PLC0415 - as above

        viewers, fixed = self.server, self.fixed

        def watchers() -> Iterable[Watcher]:
            return chain(fixed.watchers(), viewers.watchers(), served().watchers())

        return Parts(
            self.loop,
            self.ingest,
            self.fanout,
            self.health,
            self.history,
            self.walk,
            self.deferred,
            self.forwarding,
            self._control_address,
            self._ingest_address,
            watchers=watchers,
            door=lambda: Door(viewers.accepted, viewers.declined),
            web=served,
        )

    def _forward(self, runs: list[Run], now: float) -> None:
        self.fanout.forward(runs, now)
        self.forwarding.add(self.loop.time() - now)
        if self.history is not None:
            self.history.append(runs, now)

    def _on_source(self) -> None:
        self.fanout.forget_limits()
        if self.walk is not None:
            self.walk.new_source()

    def _errors(self) -> int | None:
        return self.walk.continuity_errors() if self.walk else None

    def _log_bug(self, error: Exception) -> None:
        self._bug_log.log(log.error, "bug", exc_info=error)

    def run(self, *, restarted: bool) -> None:
        """Relay until a signal ends it."""
        gc.freeze()  # what is there now stays: searching it for garbage would take 20 ms each time
        self._stand_in.relieve(self._relieving)
        host, port = self._control_address[:2]
        ingest = self._ingest_address
        log.info("listening", host=host, port=port, ingest_port=ingest[1], ingest=show(ingest))
        if restarted:
            log.info("reloaded", clients=len(self.server.clients), version=__version__)
        http = self.site.port if self.site else None
        if os.isatty(1) and not restarted:
            show_guide(self._control_address, ingest, self._allow, http)
        # The last beat may be a whole period old. `tools/demo.py` wants the ports.
        ports = f"{port} {ingest[1]} {http or 0}"
        systemd.notify(f"READY=1\nSTATUS=\nWATCHDOG=1\nX_RELAY_PORTS={ports}")
        self.loop.run()
        if self._group is not None:
            self._group.leave()
        if self.recorder is not None:
            self.recorder.close()
        self.loop.close()
        self.fixed.close()
        flush_throttles()
        log.info(
            "stopped",
            accepted=self.server.accepted,
            declined=dict(self.server.declined),
            received=self.ingest.received,
            rejected=self.ingest.lock.state.rejected,
            overflowed=self.ingest.buffer.drops.total,
        )

    def _facts(self, output: Output | None) -> str:
        """Return what ESTADO tells of the stream that an output gets."""
        return f"{self.ingest.facts()} salud={self.health.word_for(output)}"

    def _outputs(self) -> list[Output]:
        viewers = [each.output for each in self.server.clients if each.output is not None]
        return [*self.fixed.outputs, *viewers]

    def _ends(self) -> tuple[Address | None, Address]:
        return self.ingest.lock.state.active, self.ingest.sockets.stream.getsockname()

    def _export(self) -> handover.State:
        return handover.State(
            listener=descriptor(self.server.listener),
            asked=self._asked,
            ingest=self.ingest.export(),
            accepted=self.server.accepted,
            declined=dict(self.server.declined),
            viewers=self.server.export(),
            fixed=self.fixed.export(),
            history=self.history.export() if self.history else None,
            group=self._group.export() if self._group else None,
            track=self.track.export() if self.track else None,
            walk=self.walk.export() if self.walk else None,
            health=self.health.export(),
            recorder=self.recorder.export() if self.recorder else None,
            site=self.site.export() if self.site else None,
        )

    def _shut_down(self) -> None:
        self._restart.cancel()
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
        setup(config.log_format, config.log_level, Loop.time)
        raise_descriptor_limit()
        if config.check and (inherited is None or "--check" in sys.argv):
            # but --check in a file of options must not end a restarted relay
            check.confirm(config, restarting=inherited is not None)
        if config.doctor and inherited is None:
            from relaylib.doctor.examine import examine  # noqa: PLC0415 - seldom wanted

            examine(config)
        with enough_descriptors():
            relay = Relay(config, inherited)
    except SetupError as error:
        say(f"{program_name()}: {error}\n", 2)
        raise SystemExit(error.status) from None
    relay.run(restarted=inherited is not None)
    raise SystemExit(0)


if __name__ == "__main__":
    main()
