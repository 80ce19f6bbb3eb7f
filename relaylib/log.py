"""structlog set-up: one event per line on stderr, for people, for machines, or for journald.

Two things that a usual set-up gets wrong for a relay. A log that cannot be written (closed pipe,
full disk, a terminal stopped with Ctrl-S) must neither end the program nor make it wait, so lines
that would block or fail are dropped, and counted in the next line that gets through. And what a
peer can repeat at will must not fill the disk, so such events pass a `Throttle`.

A pipe takes 4096 bytes whole or not at all (PIPE_BUF, pipe(7)). A longer event loses the middle of
its longest values, not the end of its line: a line of JSON that is cut does not parse, and of a
traceback the last lines matter most.
"""

import json
import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any, AnyStr, ClassVar, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from relaylib.stdio import DescriptorWriter

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}

_STDERR = 2

_ATOMIC = 4096
"""PIPE_BUF: a pipe takes so many bytes whole or not at all (pipe(7))."""

_CUT = " [...] "
"""Mark in place of the middle of a long value."""

_PRIORITIES = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>", "critical": "<2>"}
"""How journald is told of a line's priority (sd-daemon(3)); it removes them again."""

_ROOM = _ATOMIC - len("<6>\n")


# --- writing


class BestEffortStream:
    """The part of a text file that structlog uses, over a descriptor, never blocking or failing.

    `lost` counts the lines that were not written and that no line has told of.
    """

    muted: ClassVar = False

    def __init__(self, fd: int) -> None:
        self._writer = DescriptorWriter(fd)
        self._told = 0
        self.lost = 0

    def write(self, text: str) -> int:
        """Write one line, or count it as lost."""
        if self.muted:
            return len(text)
        data = text.encode("utf-8", "backslashreplace")
        if len(data) > _ATOMIC:
            data = _without_middle(data, _ATOMIC, _CUT.encode())
        if not self._writer.write(data):
            self.lost += 1 + self._told
        self._told = 0
        return len(text)

    def flush(self) -> None:
        """Nothing is buffered."""

    def count_lost(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        """Structlog processor: say in this line how many before it were lost."""
        self._told, self.lost = self.lost, 0
        if self._told:
            event["log_lines_lost"] = self._told
        return event


def mute() -> None:
    """Stop writing to the log, in a forked copy of the process that goes on with it."""
    BestEffortStream.muted = True


# --- rendering


def setup(form: str, level: str) -> None:
    """Configure structlog for the process.

    Args:
        form: "console", "json", or "auto": console on a terminal, JSON otherwise.
        level: a key of `LEVELS`.
    """
    terminal = os.isatty(_STDERR)
    stream = BestEffortStream(_STDERR)
    if hasattr(signal, "SIGTTOU"):  # `stty tostop` would stop a relay in the background that writes
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
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
    steps: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=terminal)]
        if console
        else [structlog.processors.format_exc_info, _render_json]
    )
    return [*steps, cast(Processor, _prioritise)] if _read_by_journald() else steps


_dumps = partial(json.dumps, default=repr)


def _render_json(_logger: WrappedLogger, _name: str, event: EventDict) -> str:
    """Structlog processor: a line of JSON, its longest values shortened until it fits."""
    while (excess := len(line := _dumps(event)) - _ROOM) > 0:
        sizes = {name: len(_dumps(value)) for name, value in event.items()}
        longest = max(sizes, key=lambda name: sizes[name])
        event[longest] = _shortened(event[longest], 1 - excess / sizes[longest])
    return line


def _shortened(value: object, share: float) -> str:
    """Keep that share of a value's text. (A character may take up to 12 bytes of JSON.)"""
    text = value if isinstance(value, str) else _dumps(value)
    return _without_middle(text, int(len(text) * share), _CUT)


def _without_middle(text: AnyStr, size: int, mark: AnyStr) -> AnyStr:
    """Cut the middle out of a text so that so much of it is left, the mark included."""
    half = max(0, size - len(mark)) // 2
    return text[:half] + mark + text[len(text) - half :]


def _read_by_journald() -> bool:
    """Tell whether stderr leads to journald: systemd names it as device:inode (sd-daemon(3))."""
    try:
        status = os.fstat(_STDERR)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _prioritise(_logger: WrappedLogger, name: str, text: str) -> str:
    """Structlog processor: begin each line with its priority."""
    return "\n".join(_PRIORITIES[name] + line for line in text.split("\n"))


# --- limiting

CallLater = Callable[[float, Callable[[], None]], object]
"""`Loop.call_later`: run a callback once, so many seconds from now."""


class Throttle:
    """Lets `limit` events pass in each period of `period` seconds, and counts the others.

    The latest of the others is logged when the period ends, `suppressed` telling how many they
    were; it is the first event of the next period. So a flood costs `limit` lines a period for as
    long as it lasts, its end is told, too, and no event goes uncounted.
    """

    __slots__ = ("_call_later", "_latest", "_limit", "_passed", "_period", "_suppressed")

    def __init__(
        self,
        call_later: CallLater,
        limit: int = 5,
        period: float = 10.0,
    ) -> None:
        self._call_later = call_later
        self._limit = limit
        self._period = period
        self._passed = 0
        self._suppressed = 0
        self._latest: Callable[..., Any] | None = None

    def log(self, method: Callable[..., Any], event: str, **fields: Any) -> None:
        """Log an event with a logger's method, e.g. `log.warning`; or count it."""
        if self._passed == self._limit:
            self._suppressed += 1
            self._latest = partial(method, event, **fields)
            _suppressing.add(self)
        else:
            self._pass()
            method(event, **fields)

    def _pass(self) -> None:
        if not self._passed:
            self._call_later(self._period, self._end_period)
        self._passed += 1

    def _end_period(self) -> None:
        self._passed = 0
        if self._latest is not None:
            self._pass()
            self.flush()

    def flush(self) -> None:
        """Log the latest event that was suppressed, if one was, without waiting any longer."""
        if self._latest is not None:
            latest, suppressed = self._latest, self._suppressed
            self._latest, self._suppressed = None, 0
            _suppressing.discard(self)
            latest(suppressed=suppressed)


_suppressing: set[Throttle] = set()


def flush_throttles() -> None:
    """Log what is still suppressed: this program is about to end, or to become another one."""
    for throttle in list(_suppressing):
        throttle.flush()
