"""Trying the new program in a child before becoming it: `relay.py --check` and a copy of the state.

The child must start, accept its configuration, and understand to the last value the state that it
would take over. It then says so and ends; anything else is a reason to stay the old program. It
also says what its files of options held: the words that were checked are those to run with.

The child begins as a fork, which takes the copy of the state and encodes it: with a thousand
viewers the stream would notice if the loop did.

Rejected: a lower priority for the child (nice(2)). It spared the stream nothing that could be
measured, and where the processors were full the child did not get ready in time.
"""

import contextlib
import json
import os
import re
import signal
import traceback
from collections.abc import Callable
from typing import IO, NoReturn

from relaylib.config import Config
from relaylib.errors import SetupError
from relaylib.lifecycle import handover
from relaylib.net.address import Address, show, with_port
from relaylib.net.listen import resolve_own
from relaylib.net.loop import Loop
from relaylib.net.mrl import Mrl
from relaylib.net.multicast import find_interface
from relaylib.outputs.fixed import check_outputs

TIMEOUT = 40.0
"""Seconds that the child may take. It needs a fifth of one where nothing else runs, and forty times
that beside thirty busy processes on two processors. Waiting costs nothing, because the old program
goes on. Two tries must end within the 90 s that systemd allows a reload (TimeoutStartSec=)."""

RIGHT = "the configuration is right"
"""What the child says at its end. Its exit status would not do: --help or --version in a file of
options exits with 0, too."""

_OUTPUT_KEPT = 1 << 20
"""Bytes of the child's output that are kept: the reason why it failed is at its end, and so are the
words of its command line."""

_PLACE = re.compile(r'  File "(.*)", line (\d+)')
"""A line of a traceback; an error in the syntax has one, too."""


def confirm(config: Config, *, reloading: bool) -> NoReturn:
    """Say that the configuration is right, and end: run by `Check`, or by a person.

    Raises:
        SetupError: it is not.
    """
    if config.http is not None:
        resolve_own(config.http[0], config.http[1] or 0)
    check_outputs(config.to, ingest_address(config))
    if not reloading and config.ingest is not None and config.ingest.is_group:
        _check_interface(config.ingest)  # a running relay waits for one that is gone
    said = [RIGHT, json.dumps(config.words[1:])] if reloading else [RIGHT]  # [0] is our --check
    with contextlib.suppress(OSError), open(1, "w", closefd=False) as output:
        output.writelines(f"{line}\n" for line in said)
    raise SystemExit(0)


def ingest_address(config: Config) -> Address:
    """Return where the stream would come in.

    Raises:
        SetupError: that is no address to listen on.
    """
    _, control = resolve_own(config.host, config.port)
    mrl = config.ingest
    if mrl is None:
        return with_port(control, control[1] if config.ingest_port is None else config.ingest_port)
    if mrl.is_group or not mrl.host:
        return mrl.host or control[0], mrl.port
    return resolve_own(mrl.host, mrl.port)[1]


def _check_interface(mrl: Mrl) -> None:
    try:
        find_interface(mrl)
    except OSError as error:
        raise SetupError(f"cannot join {show((mrl.host, mrl.port))}: {error.strerror}") from None


class Check:
    """Tries the new program, with the state that `export` returns.

    Calls `done` with what was wrong, "" if nothing was, and with the words of the command line that
    were checked, None if they are not known. The loop goes on meanwhile.
    """

    def __init__(
        self,
        loop: Loop,
        export: Callable[[], handover.RelayState],
        done: Callable[[str, list[str] | None], None],
    ) -> None:
        """Start the child.

        Raises:
            OSError: it could not be started.
        """
        self._loop = loop
        self._done = done
        self._output = b""
        reading, writing = os.pipe()
        self._pipe: IO[bytes] = open(reading, "rb", buffering=0)  # noqa: SIM115 - the loop closes it
        try:
            self._pid = os.fork()
            if not self._pid:
                _become_child(export, writing)
        except OSError:
            self._pipe.close()
            raise
        finally:
            os.close(writing)
        os.set_blocking(reading, False)
        self._timer = loop.call_later(TIMEOUT, self._time_out)
        loop.watch(self._pipe, self._readable, broken=self._broken)

    def cancel(self) -> None:
        """End the child; `done` will not be called."""
        self._done = lambda _reason, _words: None
        self._kill()

    def _time_out(self) -> None:
        done = self._done
        self._done = lambda _reason, _words: done(f"no answer within {TIMEOUT:g} s", None)
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # SIGCHLD is ignored here: the system reaps
            os.kill(self._pid, signal.SIGKILL)

    def _broken(self, error: Exception) -> None:
        self._loop.discard(self._pipe)
        self._timer.cancel()
        self._kill()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        self._done(str(error), None)

    def _readable(self) -> None:
        data = os.read(self._pipe.fileno(), 65536)
        if data:
            self._output = (self._output + data)[-_OUTPUT_KEPT:]
            return
        self._loop.discard(self._pipe)
        self._reap()

    def _reap(self) -> None:
        """Wait for the child, which has closed its output and so is about to end."""
        status = _exit_status(self._pid)
        if status is None:
            self._loop.call_later(0.01, self._reap)
            return
        self._timer.cancel()
        lines = self._output.decode(errors="replace").rstrip().splitlines()
        if status == 0 and RIGHT in lines:
            self._done("", _words(lines[-1]))
        else:
            self._done(reason(lines) or f"exit status {status}", None)


def _become_child(export: Callable[[], handover.RelayState], output: int) -> NoReturn:
    """Encode the state, and become the new program, whose output is this pipe."""
    try:
        signal.set_wakeup_fd(-1)  # it leads to the parent's loop
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        with handover.write(export()) as state:
            command, environment = handover.next_program(state, "--check")
            os.set_inheritable(state.fileno(), True)
            os.execve(command[0], command, environment)
    except OSError as error:
        os.write(output, str(error.strerror).encode())
    except BaseException:
        os.write(output, traceback.format_exc().encode())
    finally:  # only ever reached by an exception
        os._exit(1)


def _exit_status(pid: int) -> int | None:
    """Return a child's exit status; None while it runs."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # SIGCHLD is ignored here, so no status is kept
        return 0
    return os.waitstatus_to_exitcode(status) if ended else None


def _words(line: str) -> list[str] | None:
    """Read the words that `confirm` wrote; a program of another age may write none."""
    try:
        words = json.loads(line)
    except ValueError:
        return None
    return words if isinstance(words, list) and all(type(each) is str for each in words) else None


def reason(lines: list[str]) -> str:
    """Return the last thing said; of a traceback the error, and where it happened."""
    for at in reversed(range(len(lines))):
        if place := _PLACE.match(lines[at]):
            error = " ".join(line for line in lines[at:] if not line.startswith(" "))
            return f"{error} ({place[1]}, line {place[2]})"
    return lines[-1] if lines else ""
