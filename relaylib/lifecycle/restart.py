"""Restarting in place without losing anyone: trying the new program, then becoming it.

`exec` keeps the process, its number and every descriptor that is marked inheritable. So the sockets
simply stay open while the program around them is replaced, and the kernel's receive buffers hold
the stream and the commands that come meanwhile. `handover` says what travels besides, `check` how
the new program is tried before. If it fails, the old program goes on and says why.

Signals are blocked across the exec, because until the new program has its handlers a second SIGHUP
would kill it; those that the old program has been told of and has not obeyed yet are sent again.

Rejected: handing descriptors to a second process over a Unix socket. The PID would change, which
every service manager would have to be told, and for a while two programs would own the sockets.
"""

import os
from collections.abc import Callable, Sequence
from typing import IO, NoReturn

import structlog

from relaylib.lifecycle import handover, signals, systemd
from relaylib.lifecycle.check import Check
from relaylib.log import flush_throttles
from relaylib.net.descriptors import Descriptor
from relaylib.net.loop import Loop

log = structlog.get_logger()


class Restart:
    """Restarts the relay when `begin` is called; `export` makes the state that travels."""

    def __init__(self, loop: Loop, export: Callable[[], handover.State]) -> None:
        self._loop = loop
        self._export = export
        self._check: Check | None = None
        self._again = False

    def begin(self) -> None:
        """Try the new program and then become it. The loop goes on meanwhile."""
        if self._check is not None:
            self._again = True
            return
        log.info("reload_started")
        systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={self._loop.time() * 1e6:.0f}")
        self._try()

    def cancel(self) -> None:
        """Stay the old program, which has something else to do now."""
        if self._check is not None:
            self._check.cancel()

    def _try(self) -> None:
        self._again = False
        try:
            with handover.write(self._export()) as file:
                self._check = Check(self._loop, file, self._tried)
        except OSError as error:
            self._give_up(str(error.strerror))

    def _tried(self, reason: str) -> None:
        self._check = None
        if self._again:  # what was tried may have been changed since
            self._try()
        elif reason:
            self._give_up(reason)
        else:
            self._become()

    def _become(self) -> None:
        flush_throttles()
        state = self._export()
        try:
            with handover.write(state) as file:
                replace_program(self._loop, file, list(handover.descriptors(state)))
        except OSError as error:
            self._give_up(str(error.strerror))

    @staticmethod
    def _give_up(reason: str) -> None:
        systemd.notify(f"READY=1\nSTATUS=Restart failed: {reason}")
        log.error("reload_failed", reason=reason)


def replace_program(loop: Loop, state: IO[bytes], descriptors: Sequence[Descriptor]) -> NoReturn:
    """Become the new program. What is neither in the state nor among the descriptors ends here.

    Raises:
        OSError: the program could not be started; nothing has changed.
    """
    command, environment = handover.next_program(state)
    signals.block()
    try:
        for signum in loop.take_signals():
            os.kill(os.getpid(), signum)
        _set_inheritable([*descriptors, Descriptor(state.fileno())], True)
        os.execve(command[0], command, environment)
    finally:  # only ever reached by an exception
        signals.unblock()
        _set_inheritable(descriptors, False)


def _set_inheritable(descriptors: Sequence[Descriptor], inheritable: bool) -> None:
    for fd in descriptors:
        os.set_inheritable(fd, inheritable)
