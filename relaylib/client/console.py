"""The person's side of the client: lines in, replies and notes out, on a terminal or not.

There are two kinds with the same methods. `Console` reads lines from a pipe or a file and prints
without ornament: replies on standard output, everything the client says itself on standard error,
so that a script sees the relay's words alone. `Terminal` adds a prompt, history and completion. It
takes the keys one by one (the terminal's own line editing is switched off, see termios(3)) and
gives them to a `LineEditor`, so that reading never blocks the loop; what has to be printed while a
line is half typed goes above it: erase the row, print, draw the row again. The prompt does not show
the session's state: a relay may pause it at any time, and tells only when it is asked.

An entered line is shown when it is carried out (`echo`), so that of lines pasted together each
stands above its own reply. With --watch the status stands between these lines and the prompt, and
is drawn with it.

Standard input is never made non-blocking: that would be a change to the open file description,
which the shell and other programs share. A read after the selector said "readable" does not block.
"""

import contextlib
import os
import signal
import sys
import textwrap
from typing import Any, Protocol, TextIO

from relaylib.client.lineedit import Choices, Ended, Entered, LineEditor
from relaylib.client.messages import say
from relaylib.client.status import Row, ToldStatus, Tone
from relaylib.errors import LineTooLongError, SetupError
from relaylib.net.loop import Loop, reraise
from relaylib.protocol.lines import LineReader

READ_SIZE = 4096
"""Bytes read in one turn: a script of hundreds of commands."""

PROMPT = "relay> "

_COLOURS = {Tone.LABEL: "2", Tone.GOOD: "32", Tone.WARN: "33", Tone.BAD: "1;31"}
"""How a span is painted (ECMA-48: SGR)."""


class ConsoleOwner(Protocol):
    """Acts on what the person types."""

    def entered(self, line: bytes) -> None:
        """Take a line, without its ending."""

    def ended(self) -> None:
        """Note that there will be no more lines."""

    def failed(self, reason: str) -> None:
        """Note that the console cannot be used any more."""


class Console:
    """Plain lines in, plain lines out; without `stdin` only out.

    `interactive`: a person types them; `readable`: a person reads what comes.
    """

    def __init__(
        self, loop: Loop, owner: ConsoleOwner, stdin: TextIO | None, stdout: TextIO
    ) -> None:
        self.interactive = stdin is not None and stdin.isatty()
        self.readable = stdout.isatty()
        self._loop = loop
        self._owner = owner
        self._stdin = stdin
        self._stdout = stdout
        self._lines = LineReader()
        self._colours = self.readable and _can_paint() and not os.environ.get("NO_COLOR")
        self._shape: object = None  # of the status that was printed last
        if stdin is not None:
            loop.watch(stdin, self._readable, broken=reraise)

    @property
    def _open(self) -> bool:
        return self._stdin is not None

    def listen(self, wanted: bool) -> None:
        """Go on reading, or stop until the commands read so far have been dealt with."""
        if self._stdin is not None:
            self._loop.interest(self._stdin, read=wanted)

    def echo(self, line: str) -> None:
        """Show a command that is being obeyed, where the terminal has not done it."""

    def reply(self, text: str) -> None:
        """Print what was asked for, on standard output."""
        self._print(self._stdout, text)

    def note(self, text: str) -> None:
        """Print what the client has to say itself, on standard error."""
        self._print(sys.stderr, text)

    def block(self, status: ToldStatus) -> None:
        """Print how the session stands, as rows that a person reads."""
        self.reply("\n".join(self._painted(row) for row in status.rows(self._size()[0])))

    def panel(self, status: ToldStatus) -> None:
        """Show how the session stands now; where that cannot stay in its place, when it changes.
        A program has no use for it.
        """
        if self.readable and status.shape() != self._shape:
            self._shape = status.shape()
            self.block(status)

    def close(self) -> None:
        """Stop reading, for good."""
        stdin, self._stdin = self._stdin, None
        if stdin is not None:
            self._loop.unwatch(stdin)

    def _size(self) -> tuple[int, int]:
        """Ask the terminal itself for its columns and lines: an exported COLUMNS stays as it is
        when the window does not.
        """
        try:
            columns, lines = os.get_terminal_size(self._stdout.fileno())
        except OSError:  # it was hung up
            return 80, 24
        return columns or 80, lines or 24

    def _painted(self, row: Row) -> str:
        return "".join(
            f"\x1b[{_COLOURS[tone]}m{text}\x1b[m" if self._colours and tone in _COLOURS else text
            for text, tone in row
        ).rstrip()

    def _readable(self) -> None:
        assert self._stdin is not None
        data = self._read(self._stdin)
        self._lines.feed(data or b"\n")  # the last line may lack its ending
        try:
            while (line := self._lines.next_line()) is not None:
                self._owner.entered(line)
        except LineTooLongError:
            self.close()
            self._owner.failed(say("a line of the input is too long to be a command"))
            return
        if not data:
            self._end()

    @staticmethod
    def _read(stdin: TextIO) -> bytes:
        try:
            return os.read(stdin.fileno(), READ_SIZE)
        except OSError:  # EIO: the terminal was hung up
            return b""

    def _end(self) -> None:
        self.close()
        self._owner.ended()

    def _print(self, stream: TextIO, text: str) -> None:
        self._write(stream, text + "\n")

    def _write(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(text)
            stream.flush()
        except OSError as error:
            _silence(stream)
            self._owner.failed(say("cannot write: {reason}", reason=error.strerror))


class Terminal(Console):
    """A console with a line editor. The terminal must be given back with `close`."""

    def __init__(
        self, loop: Loop, owner: ConsoleOwner, stdin: TextIO, stdout: TextIO, words: tuple[str, ...]
    ) -> None:
        super().__init__(loop, owner, stdin, stdout)
        self._terminal = stdin
        self._editor = LineEditor(words)
        self._column = 0  # of the cursor in the row that is drawn
        self._above: list[int] = []  # how long the rows of the status above it are
        self._status: ToldStatus | None = None
        self._saved: list[Any] = []
        self._take()
        loop.on_signal(signal.SIGTSTP, self._suspend)
        loop.on_signal(signal.SIGWINCH, self._redraw)

    def close(self) -> None:
        """Stop reading and give the terminal back as it was found."""
        if self._open:
            super().close()
            self._loop.default_signal(signal.SIGTSTP)
            self._give_back()

    def echo(self, line: str) -> None:
        """Show a command behind the prompt, above the line being typed."""
        self._print(self._stdout, f"{PROMPT}{line}")

    def note(self, text: str) -> None:
        """Print it without cutting words in two; an address to be copied stays whole, too."""
        width = max(2, self._size()[0])
        lines = textwrap.wrap(text, width - 1, break_long_words=False, break_on_hyphens=False)
        super().note("\n".join(lines))

    def panel(self, status: ToldStatus) -> None:
        """Show how the session stands above the prompt, from now on."""
        self._status = status
        self._redraw()

    def _readable(self) -> None:
        if not (data := self._read(self._terminal)):
            self._end()
            return
        for action in self._editor.feed(data):
            match action:
                case Entered(text):
                    self._owner.entered(text.encode())
                case Choices(words):
                    self.reply("  ".join(words))
                case Ended():
                    self._owner.ended()
        self._redraw()

    def _print(self, stream: TextIO, text: str) -> None:
        if self._open:
            self._write(self._stdout, self._erased())
        super()._print(stream, text)
        self._redraw()

    def _redraw(self) -> None:
        if self._open:
            self._write(self._stdout, self._erased() + self._drawn())

    def _drawn(self) -> str:
        """Draw the status, if it is shown, and below it the row with the prompt."""
        width, height = self._size()
        rows = self._status.rows(width, height - 2) if self._status else []
        self._above = [sum(len(text) for text, _ in row) for row in rows]
        panel = "".join(f"{self._painted(row)}\n" for row in rows)
        row, self._column = self._editor.render(PROMPT, width)
        return f"{panel}{row}\r\x1b[{self._column}C"

    def _erased(self) -> str:
        """Go to where the drawn rows begin and erase from there on (ECMA-48: CUU, ED).

        A terminal that was made narrower has wrapped them, and the cursor may be further below
        their start. The few that cut them off instead, such as xterm, lose as many rows above.
        """
        width = self._size()[0]
        above = self._column // width + sum(max(1, -(-length // width)) for length in self._above)
        self._column, self._above = 0, []
        return (f"\x1b[{above}A" if above else "") + "\r\x1b[J"

    def _take(self) -> None:
        """Have each key delivered at once and unechoed; signals and output stay as they are."""
        import termios  # noqa: PLC0415 -- not on every system, and only needed here

        self._saved = termios.tcgetattr(self._terminal)
        mode = termios.tcgetattr(self._terminal)
        mode[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._terminal, termios.TCSANOW, mode)

    def _give_back(self) -> None:
        import termios  # noqa: PLC0415

        self._write(self._stdout, self._erased())
        with contextlib.suppress(termios.error):  # it was hung up
            termios.tcsetattr(self._terminal, termios.TCSANOW, self._saved)

    def _suspend(self) -> None:
        """Ctrl-Z: the shell must not find its terminal without echo."""
        self._give_back()
        self._loop.default_signal(signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGTSTP)  # sleeps here until SIGCONT
        self._take()
        self._loop.on_signal(signal.SIGTSTP, self._suspend)
        self._redraw()


def open_console(
    loop: Loop, owner: ConsoleOwner, words: tuple[str, ...], *, typed: bool, watch: bool
) -> Console:
    """Choose the console that suits standard input and output; `words` are offered on TAB.

    Without `typed` standard input is left alone, unless there is a person to `watch`.

    Raises:
        SetupError: standard input or output is closed.
    """
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        raise SetupError(say("standard input, output and error must be open (use /dev/null)"))
    screen = sys.stdin.isatty() and sys.stdout.isatty() and _can_paint()
    if screen and (typed or watch):
        return Terminal(loop, owner, sys.stdin, sys.stdout, words)
    return Console(loop, owner, sys.stdin if typed else None, sys.stdout)


def _can_paint() -> bool:
    """Tell whether the terminal, if there is one, knows control sequences."""
    return os.environ.get("TERM", "dumb") != "dumb"


def _silence(stream: TextIO) -> None:
    """Redirect a broken stream to the null device: no more errors, not even at exit."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
