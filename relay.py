"""The relay: takes a live stream in over UDP and gives it to every viewer who asks over TCP.

This file reads the configuration, builds the parts, joins them and runs the loop. How a datagram
travels: `ingest` reads a batch, `fanout` sends it, and only then `history` keeps it for a while.
How a command travels: `connection` reads bytes, `lines` and `commands` make a request of them,
`session` says what it does now, `viewer` does it and replies.
"""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports is no traceback

import gc
import importlib.util
import os
import sys
from typing import NoReturn

if missing := [
    package
    for package in ("structlog", "h11", "prometheus_client")
    if importlib.util.find_spec(package) is None
]:
    sys.exit(f"relay.py: needs the Python package {missing[0]}: "
             "make setup, then .venv/bin/python relay.py ...")  # fmt: skip

import structlog

from relaylib import __version__
from relaylib.config import Config, parse
from relaylib.errors import SetupError
from relaylib.lifecycle import check, handover, systemd
from relaylib.lifecycle.guide import show_guide
from relaylib.lifecycle.restart import Restart
from relaylib.lifecycle.shutdown import shut_down
from relaylib.lifecycle.signals import Signals
from relaylib.lifecycle.sockets import open_http, open_sockets
from relaylib.lifecycle.stand_in import StandIn
from relaylib.log import Throttle, flush_throttles, setup
from relaylib.media.form import Form
from relaylib.net.address import show
from relaylib.net.descriptors import (
    descriptor,
    enough_descriptors,
    occupy_standard_descriptors,
    raise_descriptor_limit,
)
from relaylib.net.loop import Loop
from relaylib.stdio import say
from relaylib.stream.batch import Run
from relaylib.stream.fanout import Fanout
from relaylib.stream.fixed import FixedOutputs, check_outputs
from relaylib.stream.group import Group
from relaylib.stream.history import open_history
from relaylib.stream.ingest import Ingest
from relaylib.stream.output import Output
from relaylib.stream.payload import octets, recognise
from relaylib.viewers.server import Server
from relaylib.web import server as web
from relaylib.web.healthz import Healthz
from relaylib.web.live import Live
from relaylib.web.reply import Resource

log = structlog.get_logger()


class Relay:
    """The parts, joined; new, or going on where a previous program stopped."""

    def __init__(self, config: Config, inherited: handover.State | None) -> None:
        """Open or inherit the ports and build everything; `run` does the rest.

        Raises:
            SetupError: a port cannot be opened, or the stream cannot be sent where it should be.
        """
        listener, ingest, shared, membership = open_sockets(config, inherited)
        self._control_address, self._ingest_address = listener.getsockname(), ingest.getsockname()
        if inherited is None:
            check_outputs(config.to, self._ingest_address)
        self._asked = config.asked
        self._allow = config.allow
        self.loop = Loop(self._log_bug)
        self._bug_log = Throttle(self.loop.call_later)
        self.fanout = Fanout(self.loop.call_later, segmentation=config.segmentation)
        self.history = open_history(config, None if inherited is None else inherited.history)
        self.ingest = Ingest(
            self.loop, ingest, config, self._forward, shared=shared or membership is not None
        )
        self.ingest.on_source = self.fanout.forget_limits
        self._group = None if membership is None else Group(self.loop, self.ingest, membership)
        self.server = Server(self.loop, listener, self.fanout, self._ingest_address, config)
        self.fixed = FixedOutputs(
            self.loop,
            self.fanout,
            self._ingest_address,
            config.to,
            () if inherited is None else inherited.fixed,
            taken=self.server.destinations.in_use,
            claimed=self.server.destinations.claimed,
        )
        if inherited is not None:
            self.ingest.restore(inherited.ingest)
            self.server.restore(inherited.viewers, inherited.accepted, inherited.declined)
            self._asked = inherited.asked
        self.web = self._open_web(config, inherited)
        if self._asked != config.asked:
            log.warning(
                "address_unchanged", asked=config.asked, used=self._asked, remedy="stop and start"
            )
        self._stand_in = StandIn(self.loop, self.ingest, self.fanout, self._outputs, self.history)
        self._relieving = None if inherited is None else inherited.stand_in
        self._restart = Restart(self.loop, self._export, self._stand_in)
        Signals(self.loop, end=self._shut_down, restart=self._restart.begin)
        systemd.start_watchdog(self.loop)

    def _forward(self, runs: list[Run], now: float) -> None:
        self.fanout.forward(runs, now)
        if self.history is not None:
            self.history.append(runs, now)

    def _open_web(self, config: Config, inherited: handover.State | None) -> web.Server | None:
        opened = open_http(config, inherited)
        if opened is None:
            return None
        listener, saved = opened
        history = self.history
        table: dict[str, Resource] = {
            "/live.ts": Live(history, self._form),
            "/healthz": Healthz(self._verdict),
        }
        server = web.Server(self.loop, config, lambda: octets(history) if history else 0, table)
        server.listen(listener, saved)
        self.ingest.is_patient = lambda: bool(server.streams) and not self.fanout.active
        return server

    def _form(self) -> Form:
        return Form.OPAQUE if self.history is None else recognise(self.history)

    def _verdict(self) -> tuple[str, bool]:
        lock = self.ingest.lock.state
        present = lock.active is not None and not lock.silent
        return ("activa" if present else "silencio" if lock.active else "ausente"), present

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
        elif os.isatty(1):
            show_guide(self._control_address, ingest, self._allow)
        systemd.notify("READY=1\nSTATUS=\nWATCHDOG=1")  # the last beat may be a whole period old
        self.loop.run()
        if self._group is not None:
            self._group.leave()
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

    def _outputs(self) -> list[Output]:
        viewers = [each.output for each in self.server.clients if each.output is not None]
        return [*self.fixed.outputs, *viewers]

    def _export(self) -> handover.State:
        return handover.State(
            listener=descriptor(self.server.listener),
            asked=self._asked,
            ingest=self.ingest.export(),
            accepted=self.server.accepted,
            declined=dict(self.server.declined),
            viewers=self.server.export(),
            fixed=self.fixed.export(),
            history=None if self.history is None else self.history.export(),
            web=None if self.web is None else self.web.export(),
            group=None if self._group is None else self._group.export(),
        )

    def _shut_down(self) -> None:
        self._restart.cancel()
        if self.web is not None:
            self.web.close()
        shut_down(self.loop, self.server)


def main() -> NoReturn:
    """Run the program; exit 0 after a signal, 1 if a port cannot be had, 2 for a wrong option."""
    occupy_standard_descriptors()
    try:
        inherited = handover.take()
        argv = sys.argv if inherited is None else inherited.argv or sys.argv
        config = parse(argv[1:])
        setup(config.log_format, config.log_level, Loop.time)
        raise_descriptor_limit()
        if config.check and (inherited is None or "--check" in sys.argv):
            # but --check in a file of options must not end a restarted relay
            check.confirm(config, restarting=inherited is not None)
        with enough_descriptors():
            relay = Relay(config, inherited)
    except SetupError as error:
        say(f"relay.py: {error}\n", 2)
        raise SystemExit(error.status) from None
    relay.run(restarted=inherited is not None)
    raise SystemExit(0)


if __name__ == "__main__":
    main()
