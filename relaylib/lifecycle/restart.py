"""Restarting in place without losing anyone: trying the new program, then becoming it.

`exec` keeps the process, its number and every descriptor that is marked inheritable. So the sockets
simply stay open while the program around them is replaced, and the kernel's receive buffers hold
the stream and the commands that come meanwhile. `handover` says what travels besides.

Before that, the new program is tried in a child (`relay.py --check ...`): it must start, accept its
configuration, and understand a copy of the state that it would take over. If it does not, the old
program goes on and says why.

Signals are blocked across the exec, because until the new program has its handlers a second SIGHUP
would kill it; those that the old program has been told of and has not obeyed yet are sent again.

Rejected: handing descriptors to a second process over a Unix socket. The PID would change, which
every service manager would have to be told, and for a while two programs would own the sockets.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import IO, NoReturn

import structlog

from relaylib.lifecycle import handover, systemd
from relaylib.lifecycle.handover import State
from relaylib.log import flush_throttles
from relaylib.net.descriptors import Descriptor
from relaylib.net.loop import Loop

CHECK_TIMEOUT = 10.0
"""Seconds that the child may take: fifty times what it needs on a machine that is not loaded."""

CHECKED = "the configuration is right"
"""What `--check` prints at its end; a --help or --version in a file of options ends well, too."""

_OUTPUT_KEPT = 4096
"""Bytes of the child's output that are kept: its last line is the reason why it failed."""

_PLACE = re.compile(r'  File "(.*)", line (\d+)')
"""A line of a traceback; an error in the syntax has one, too."""

_SIGNALS = {
    getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGTERM") if hasattr(signal, name)
}

log = structlog.get_logger()


class Restart:
    """Restarts the relay when `begin` is called; `export` makes the state that travels."""

    def __init__(self, loop: Loop, export: Callable[[], State]) -> None:
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
            self._check = Check(self._loop, self._export(), self._tried)
        except OSError as error:
            self._give_up(str(error.strerror))

    def _tried(self, trouble: str) -> None:
        self._check = None
        if self._again:  # what was tried may have been changed since
            self._try()
        elif trouble:
            self._give_up(trouble)
        else:
            self._become()

    def _become(self) -> None:
        flush_throttles()
        try:
            replace_program(self._export(), self._loop)
        except OSError as error:
            self._give_up(str(error.strerror))

    @staticmethod
    def _give_up(trouble: str) -> None:
        systemd.notify(f"READY=1\nSTATUS=Restart failed: {trouble}")
        log.error("reload_failed", reason=trouble)


class Check:
    """Tries the new program in a child; calls `done` with what was wrong, "" if nothing was.

    The loop goes on meanwhile.
    """

    def __init__(self, loop: Loop, state: State, done: Callable[[str], None]) -> None:
        """Start the child.

        Raises:
            OSError: it could not be started.
        """
        self._loop = loop
        self._done = done
        self._output = b""
        with _file_of(state) as file:
            self._child = subprocess.Popen(
                _command("--check"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(file),
                pass_fds=[file.fileno()],
            )
        assert self._child.stdout is not None
        self._pipe: IO[bytes] = self._child.stdout
        os.set_blocking(self._pipe.fileno(), False)
        self._timer = loop.call_later(CHECK_TIMEOUT, self._time_out)
        loop.watch(self._pipe, self._readable, broken=self._broken)

    def cancel(self) -> None:
        """End the child; `done` will not be called."""
        self._done = lambda _trouble: None
        self._child.kill()

    def _time_out(self) -> None:
        done = self._done
        self._done = lambda _trouble: done(f"no answer within {CHECK_TIMEOUT:g} s")
        self._child.kill()

    def _broken(self, error: Exception) -> None:
        self._loop.discard(self._pipe)
        self._timer.cancel()
        self._child.kill()
        self._child.wait()
        self._done(str(error))

    def _readable(self) -> None:
        data = os.read(self._pipe.fileno(), 65536)
        if data:
            self._output = (self._output + data)[-_OUTPUT_KEPT:]
            return
        self._loop.discard(self._pipe)
        self._reap()

    def _reap(self) -> None:
        """Wait for the child, which has closed its output and so is about to end."""
        status = self._child.poll()
        if status is None:
            self._loop.call_later(0.01, self._reap)
            return
        self._timer.cancel()
        lines = self._output.decode(errors="replace").strip().splitlines()
        fine = status == 0 and CHECKED in lines
        self._done("" if fine else _reason(lines) or f"exit status {status}")


def _reason(lines: list[str]) -> str:
    """Return the last thing said; of a traceback the error, and where it happened."""
    for at in reversed(range(len(lines))):
        if place := _PLACE.match(lines[at]):
            error = " ".join(line for line in lines[at:] if not line.startswith(" "))
            return f"{error} ({place[1]}, line {place[2]})"
    return lines[-1] if lines else ""


def unblock_signals() -> None:
    """Let the signals in that the previous program kept away; call it once handlers are set."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def replace_program(state: State, loop: Loop) -> NoReturn:
    """Become the new program. Everything that is not in the state ends here.

    Raises:
        OSError: the program could not be started; nothing has changed.
    """
    descriptors = list(handover.descriptors(state))
    with _file_of(state) as file:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            for signum in loop.take_signals():
                os.kill(os.getpid(), signum)
            _inheritable([*descriptors, Descriptor(file.fileno())], True)
            os.execve(sys.executable, _command(), _environment(file))
        finally:  # only ever reached by an exception
            _inheritable(descriptors, False)
            unblock_signals()


def _file_of(state: State) -> IO[bytes]:
    """Write the state to a file without a name; in memory where possible, as no disk is so free."""
    file: IO[bytes]
    if hasattr(os, "memfd_create"):
        file = open(os.memfd_create("relay-state"), "w+b")  # noqa: SIM115 - the caller closes it
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(handover.encode(state))
    file.flush()
    return file


def _command(*options: str) -> list[str]:
    """Return how this program was started, with more options before its own."""
    words = [sys.executable, *sys.orig_argv[1:]]
    first = len(words) - len(sys.argv[1:])
    return [*words[:first], *options, *words[first:]]


def _environment(file: IO[bytes]) -> dict[str, str]:
    return {**os.environ, handover.STATE_FD: str(file.fileno())}


def _inheritable(descriptors: list[Descriptor], inheritable: bool) -> None:
    for fd in descriptors:
        os.set_inheritable(fd, inheritable)
