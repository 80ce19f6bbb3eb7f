"""What signals mean: SIGINT and SIGTERM the end, SIGHUP a reload, SIGUSR1 a report.

SIGHUP has two senses, a service manager's "reload" and the kernel's "your terminal is gone". If
what was a terminal when the program started is none any more, the second one is meant.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

from relaylib.net.loop import Loop

_END = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Calls `end` at most once, before that `reload` at each SIGHUP; `report` at each SIGUSR1."""

    def __init__(
        self,
        loop: Loop,
        *,
        end: Callable[[], None],
        reload: Callable[[], None],
        report: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._end = end
        self._reload = reload
        self._terminals = [fd for fd in range(3) if os.isatty(fd)]
        for signum in _END:
            loop.on_signal(signum, self._end_once)
        if hasattr(signal, "SIGHUP"):
            loop.on_signal(signal.SIGHUP, self._hang_up)
            loop.on_signal(signal.SIGUSR1, report)  # a system that has one has the other
            unblock()

    def _hang_up(self) -> None:
        if all(os.isatty(fd) for fd in self._terminals):
            self._reload()
        else:
            self._end_once()

    def _end_once(self) -> None:
        """End in order. From now on SIGINT and SIGTERM kill, and SIGHUP means nothing.

        A terminal that is closed may send the latter twice.
        """
        for signum in _END:
            self._loop.default_signal(signum)
        if hasattr(signal, "SIGHUP"):
            self._loop.ignore_signal(signal.SIGHUP)
        self._end()


def _all() -> tuple[signal.Signals, ...]:
    return (*_END, signal.SIGHUP, signal.SIGUSR1)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Keep signals away: until the next program has its handlers, they would kill it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _all())
    try:
        yield
    finally:
        unblock()


def unblock() -> None:
    """Let in what `blocked` kept away, in this program or in the previous one."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _all())
