"""A child that relays on while this program becomes another one.

That takes a fifth of a second, on a busy machine and with a thousand viewers several times as much.
If the ingest were not read meanwhile, every picture would stand still, and a receive buffer of the
usual size would overflow. So the relay is forked before. The child, the stand-in, goes on reading
and sending with the same sockets and the same objects, until the new program, which has the
parent's place and number, is about to read itself. Then it reports what it has counted, and ends.

Which of the processes reads is settled by construction, since two would tear the stream: the old
program may not from the fork on (`Channel.stop_reading`), the new one not until the stand-in has
reported (`Channel.begin`). To read at any other time raises.

It also sends to the outputs that are behind, and writes the history. It does nothing else: TCP
connections, all other timers and the log are the parent's. So all that the new program has to learn
of it are counts, and the places of those outputs. A source cannot take over either: the standby
socket is not read, and the sources that might come back are forgotten here. Where there is no
active source, or one that may be displaced at any datagram, there is nothing to read, and no
stand-in unless outputs are behind.

The two are joined by a pair of sockets. The new program sends nothing and closes its side for
writing, which asks for the report; so a stand-in cannot survive a program that died.

Rejected: leaving the stream to the kernel's receive buffer. It takes 0.1 s of a 20 Mb/s stream,
unless the administrator allows more. Rejected, too: a new process that takes the parent's place,
the parent being its own stand-in: a service manager knows the parent's number.
"""

import contextlib
import json
import os
import signal
import socket
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

import structlog

from relaylib.channel import Channel
from relaylib.lifecycle import codec
from relaylib.log import mute
from relaylib.net.descriptors import Descriptor, descriptor
from relaylib.net.loop import Loop
from relaylib.outputs.output import Behind, Counters

LIMIT = 30.0
"""Seconds after which a stand-in ends by itself: a new program that hangs has no use for it."""

ANSWER = 2.0
"""Seconds that its report may take: a thousand times what it needs."""

log = structlog.get_logger()


@dataclass(slots=True)
class StandInState:
    """What a reload hands over of it: its process, and the descriptor that leads to it."""

    pid: int
    channel: Descriptor


@dataclass(slots=True)
class StandInReport:
    """What happened while it relayed: datagrams `received` and `rejected` by it, when the source
    was `heard` last, and of each output, which its socket names, the counters and where it is.
    """

    received: int
    rejected: int
    heard: float
    counters: list[tuple[Descriptor, Counters]]
    behind: list[tuple[Descriptor, Behind | None]] = field(default_factory=list)


class StandIn:
    """Sends a channel's stream in a stand-in, and takes over from it.

    What it adds to the history is in shared memory, and readers find it there.
    """

    def __init__(self, loop: Loop, channel: Channel) -> None:
        self._loop = loop
        self._channel = channel
        self._ingest = channel.ingest

    def begin(self) -> StandInState | None:
        """Let a stand-in read and send, if possible; this process does neither until `relieve`.

        Signals must be blocked: the stand-in keeps them blocked, they are meant for its parent.
        """
        try:
            return self._fork()
        finally:
            self._channel.stop_reading()

    def _fork(self) -> StandInState | None:
        if self._ingest.gate.steady is None and not self._channel.deferred.active:
            return None
        try:
            ours, its = socket.socketpair()
        except OSError as error:
            log.warning("no_stand_in", reason=error.strerror)
            return None
        with ours, its:
            try:
                pid = os.fork()
            except OSError as error:
                log.warning("no_stand_in", reason=error.strerror)
                return None
            if not pid:
                ours.close()
                self._stand_in(its)
            return StandInState(pid, Descriptor(ours.detach()))

    def relieve(self, saved: StandInState | None) -> None:
        """Take over from the stand-in, if there is one: from now on this process reads and sends.

        It is let go whatever happens to it: a stream with a gap is better than none.
        """
        if saved is not None:
            report = _end(saved)
            if report is None:
                log.warning("stand_in_lost", pid=saved.pid)
            else:
                self._add(report)
        self._channel.begin()

    def _add(self, report: StandInReport) -> None:
        lock = self._ingest.gate.state
        self._ingest.received += report.received
        lock.rejected += report.rejected
        lock.last = max(lock.last, report.heard)
        counters, behind = dict(report.counters), dict(report.behind)
        for output in self._channel.outputs():
            sock = descriptor(output.sock)
            output.counters = counters.get(sock, output.counters)
            self._channel.deferred.put(output, behind.get(sock, output.behind))

    # --- in the child

    def _stand_in(self, line: socket.socket) -> NoReturn:
        try:
            _be_silent()
            self._relay_only()
            self._loop.watch(line, self._loop.stop, broken=lambda _error: None)
            self._loop.call_later(LIMIT, self._loop.stop)
            received, rejected = self._ingest.received, self._ingest.gate.state.rejected
            self._loop.run()
            line.settimeout(ANSWER)
            line.sendall(codec.encode(self._report(received, rejected)))
        finally:
            os._exit(0)  # what a program does at its end is not for a copy of it to do

    def _relay_only(self) -> None:
        """Forget all that the parent does besides; read nothing where there is nothing to read."""
        self._loop.keep_only(self._ingest.sockets.stream)
        self._ingest.stop_reading()
        self._ingest.gate.pin()
        if self._ingest.gate.steady is None:
            self._loop.unwatch(self._ingest.sockets.stream)
        else:
            self._ingest.begin()
        self._channel.deferred.begin()

    def _report(self, received: int, rejected: int) -> StandInReport:
        outputs = self._channel.outputs()
        for output in outputs:
            self._channel.fanout.update_counters(output)
        return StandInReport(
            self._ingest.received - received,
            self._ingest.gate.state.rejected - rejected,
            self._ingest.gate.state.last,
            [(descriptor(output.sock), output.counters) for output in outputs],
            [(descriptor(output.sock), output.behind) for output in outputs],
        )


def _be_silent() -> None:
    """Leave the log to the parent, which does not know of what happens here."""
    mute()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)


def _end(saved: StandInState) -> StandInReport | None:
    """End a stand-in; return its report, None if there is none that can be understood."""
    report: StandInReport | None = None
    with contextlib.suppress(OSError, TypeError, ValueError):
        with socket.socket(fileno=saved.channel) as line:
            line.settimeout(ANSWER)
            line.shutdown(socket.SHUT_WR)
            data = b"".join(iter(partial(line.recv, 1 << 16), b""))
        report = codec.read(StandInReport, json.loads(data))
    with contextlib.suppress(ChildProcessError):  # SIGCHLD is ignored here: the system reaps
        if os.waitpid(saved.pid, os.WNOHANG) == (0, 0):
            if report is None:
                os.kill(saved.pid, signal.SIGKILL)
            os.waitpid(saved.pid, 0)
    return report
