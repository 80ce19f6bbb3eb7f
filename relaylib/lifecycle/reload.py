"""Reloading without losing anyone: trying the new program, then becoming it.

`exec` keeps the process, its number and every descriptor that is marked inheritable. So the sockets
simply stay open while the program around them is replaced. The kernel's receive buffers hold the
commands that come meanwhile, and `stand_in` relays the stream. `handover` says what travels
besides, `check` how the new program is tried before. If it fails, the old program goes on and says
why.

Signals are blocked across the exec, because until the new program has its handlers a second SIGHUP
would kill it; those that have come and were not acted on yet are sent again.

A SIGHUP may come while the new program is tried, because its options have been changed once more.
Then it is tried once more; but only once, or SIGHUPs without end would keep the old program for
ever. After that the reload happens with the program that was checked, and one more follows.

Rejected: handing descriptors to a second process over a Unix socket. The PID would change, which
every service manager would have to be told, and for a while two programs would hold the sockets.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import IO, NoReturn

import structlog

from relaylib.channel import Channel
from relaylib.lifecycle import handover, signals, systemd
from relaylib.lifecycle.check import Check
from relaylib.lifecycle.stand_in import StandIn, StandInState
from relaylib.log import flush_throttles
from relaylib.net.descriptors import Descriptor
from relaylib.net.loop import Loop

MOST_TRIES = 2
"""Times that the new program is tried before one reload."""

log = structlog.get_logger()


class Reload:
    """Reloads the relay when `begin` is called; `export` makes the state that travels."""

    def __init__(
        self,
        loop: Loop,
        channel: Channel,
        export: Callable[[], handover.RelayState],
        stand_in: StandIn,
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._export = export
        self._stand_in = stand_in
        self._check: Check | None = None
        self._again = False
        self._tries = 0
        self.failure = ""
        """Why the last reload failed, if none has begun since."""

    def begin(self) -> None:
        """Try the new program and then become it. The loop goes on meanwhile."""
        if self._check is not None:
            self._again = True
            return
        log.info("reload_started")
        self.failure = ""
        systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={self._loop.time() * 1e6:.0f}")
        self._tries = 0
        self._try()

    def cancel(self) -> None:
        """Give up the reload: the program is to end."""
        if self._check is not None:
            self._check.cancel()

    def _try(self) -> None:
        self._again = False
        self._tries += 1
        try:
            self._check = Check(self._loop, self._export_for_check, self._tried)
        except OSError as error:
            self._give_up(str(error.strerror))

    def _export_for_check(self) -> handover.RelayState:
        """Export in a fork, which must not read. What has no value yet is to be tried, too."""
        self._channel.stop_reading()
        return replace(self._export(), stand_in=StandInState(os.getpid(), Descriptor(0)))

    def _tried(self, reason: str, words: list[str] | None) -> None:
        self._check = None
        if self._again and self._tries < MOST_TRIES:  # what was tried may have been changed since
            self._try()
            return
        if self._again:
            os.kill(os.getpid(), signal.SIGHUP)  # to this program, or to the new one: see there
        if reason:
            self._give_up(reason)
        else:
            self._become([] if words is None else [sys.argv[0], *words])

    def _become(self, argv: list[str]) -> None:
        flush_throttles()
        with signals.blocked():
            stand_in = self._stand_in.begin()
            try:
                state = replace(self._export(), argv=argv, stand_in=stand_in)
                with handover.write(state) as file:
                    replace_program(self._loop, file, list(handover.descriptors(state)))
            except OSError as error:
                self._give_up(str(error.strerror))
            finally:  # only ever reached by an exception
                self._stand_in.relieve(stand_in)

    def _give_up(self, reason: str) -> None:
        self.failure = f"Reload failed: {reason}"
        systemd.notify(f"READY=1\nSTATUS={self.failure}")
        log.error("reload_failed", reason=reason)


def replace_program(loop: Loop, state: IO[bytes], descriptors: Sequence[Descriptor]) -> NoReturn:
    """Become the new program. What is neither in the state nor among the descriptors ends here.

    Signals must be blocked.

    Raises:
        OSError: the program could not be started; nothing has changed.
    """
    command, environment = handover.next_program(state)
    try:
        for signum in loop.take_signals():
            os.kill(os.getpid(), signum)
        _set_inheritable([*descriptors, Descriptor(state.fileno())], True)
        os.execve(command[0], command, environment)
    finally:  # only ever reached by an exception
        _set_inheritable(descriptors, False)


def _set_inheritable(descriptors: Sequence[Descriptor], inheritable: bool) -> None:
    for fd in descriptors:
        os.set_inheritable(fd, inheritable)
