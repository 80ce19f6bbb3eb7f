"""structlog set-up: one event per line on stderr, for people or for machines.

Two things that a usual set-up gets wrong for a relay. A log that cannot be written (closed pipe,
full disk, a terminal stopped with Ctrl-S) must neither end the program nor make it wait, so lines
that would block or fail are dropped, and counted in the next line that gets through. And a fault
that a peer can repeat at will must not fill the disk, so such events pass a `Throttle`.
"""

import logging
import os
import select
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}

_STDERR = 2

_ATOMIC = 4096
"""PIPE_BUF: what a writable pipe takes without blocking (pipe(7)). Longer lines are cut."""


class BestEffortStream:
    """The part of a text file that structlog uses, over a descriptor, never blocking or failing."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._told = 0
        self.lost = 0

    def write(self, text: str) -> int:
        """Write one line, or count it as lost."""
        data = text.encode("utf-8", "backslashreplace")
        if len(data) > _ATOMIC:
            data = data[: _ATOMIC - 1] + b"\n"
        if not self._written(data):
            self.lost += 1 + self._told
        self._told = 0
        return len(text)

    def _written(self, data: bytes) -> bool:
        try:
            if select.select([], [self._fd], [], 0)[1]:
                return os.write(self._fd, data) > 0
        except (OSError, ValueError):
            pass
        return False

    def flush(self) -> None:
        """Nothing is buffered."""

    def count_lost(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        """Structlog processor: say in this line how many before it were lost."""
        self._told, self.lost = self.lost, 0
        if self._told:
            event["log_lines_lost"] = self._told
        return event


def setup(form: str, level: str) -> None:
    """Configure structlog for the process.

    Args:
        form: "console", "json", or "auto": console on a terminal, JSON otherwise.
        level: a key of `LEVELS`.
    """
    terminal = os.isatty(_STDERR)
    stream = BestEffortStream(_STDERR)
    console = form == "console" or (form == "auto" and terminal)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
            stream.count_lost,
            *_rendering(console, terminal),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, stream)),
        cache_logger_on_first_use=True,
    )


def _rendering(console: bool, terminal: bool) -> list[Processor]:
    if console:
        return [structlog.dev.ConsoleRenderer(colors=terminal)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def occupy_standard_descriptors() -> None:
    """Open what the parent closed of stdin, stdout and stderr on nothing.

    Otherwise the first socket would get the number 2, and the log would be sent to a viewer.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class Throttle:
    """Lets `limit` events pass in each period of `period` seconds and counts the rest."""

    __slots__ = ("_limit", "_passed", "_period", "_since", "_suppressed")

    def __init__(self, limit: int = 5, period: float = 10.0) -> None:
        self._limit = limit
        self._period = period
        self._since = float("-inf")
        self._passed = 0
        self._suppressed = 0

    def admit(self, now: float) -> dict[str, int] | None:
        """Return the fields to add to an event that may pass, or None to suppress it."""
        if now - self._since >= self._period:
            self._since, self._passed = now, 0
        if self._passed >= self._limit:
            self._suppressed += 1
            return None
        self._passed += 1
        suppressed, self._suppressed = self._suppressed, 0
        return {"suppressed": suppressed} if suppressed else {}
