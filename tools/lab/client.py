"""What the client's tests share: its process, a relay played by the test, a terminal."""

import contextlib
import os
import pty
import re
import socket
import subprocess
import sys
import termios
from collections.abc import Callable
from typing import Any, Self

from tools.lab.process import PATIENCE, ROOT, ChildProcess, wait_for

VLCPORT = 5004

ENGLISH = {"LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
"""What a client says must not depend on who runs the tests."""


class Client(ChildProcess):
    """A client process on pipes. `text` is piped in at once; `last` then closes the pipe."""

    def __init__(
        self,
        port: int,
        *options: str,
        host: str = "127.0.0.1",
        text: str = "",
        last: bool = False,
        **env: str,
    ) -> None:
        words = (sys.executable, "client.py", host, str(port), str(VLCPORT))
        environ = {**os.environ, **ENGLISH, **env}
        super().__init__(*words, *options, stdin=subprocess.PIPE, env=environ)
        self.type(text)
        if last:
            self.process.stdin.close()  # type: ignore[union-attr]

    def type(self, text: str) -> None:
        """Pipe more text in."""
        os.write(self.process.stdin.fileno(), text.encode())  # type: ignore[union-attr]

    def prints(self, text: str) -> None:
        """Wait until a line of either output contains this."""
        wait_for(lambda: text in "".join(self.stdout + self.stderr), f"{text!r} from the client")


def run(*words: str, stdin: Any = subprocess.DEVNULL, **env: str) -> tuple[int, str, str]:
    """Run a client to its end; return exit status, standard output, standard error."""
    done = subprocess.run(
        [sys.executable, "client.py", *words],
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
        env={**os.environ, **ENGLISH, **env},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


class FakeRelay:
    """A relay played by the test, one connection at a time: for what no real one does."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]
        self.sock: socket.socket

    def accept(self) -> Self:
        """Wait for the client."""
        self.sock, _ = self._listener.accept()
        self.sock.settimeout(PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self.sock.makefile("rb")
        return self

    def line(self) -> str:
        """Read the client's next line; empty when it has closed."""
        return self._lines.readline().decode().rstrip("\n")

    def send(self, *segments: bytes) -> None:
        """Send each as a segment of its own, as far as TCP lets anyone decide."""
        for segment in segments:
            self.sock.sendall(segment)

    def hang_up(self) -> None:
        """Close the connection, and be there for the next one."""
        self._lines.close()
        self.sock.close()

    def close(self) -> None:
        self._listener.close()
        if hasattr(self, "sock"):
            self.hang_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


_PIECE = re.compile(r"\x1b\[(?:(\d*)([ACJ])|[\d;]*m)|([\r\n])|([^\x00-\x1f\x7f])")
_HALF = re.compile(r"\x1b(\[[\d;]*)?")


class Vt100:
    """The few things of a VT100 that the client may use; anything else is an error.

    As newer terminals do, it keeps whole lines and wraps them anew when `columns` changes. The
    cursor then stays behind the same character of its line.
    """

    def __init__(self, columns: int = 80) -> None:
        self.columns = columns
        self.rows = [""]
        self._line = self._place = 0
        self._unread = ""

    @property
    def column(self) -> int:
        """Where the cursor is; behind the last cell of a full row it waits there, as in tmux."""
        at_end = 0 < self._place == len(self.rows[self._line])
        column = self._place % self.columns
        return self.columns if at_end and not column else column

    def feed(self, text: str) -> None:
        """Show characters and obey control sequences."""
        text = self._unread + text
        place = 0
        while place < len(text) and not _HALF.fullmatch(text, place):
            piece = _PIECE.match(text, place)
            assert piece, f"the client sent {text[place : place + 20]!r} to the terminal"
            self._obey(piece)
            place = piece.end()
        self._unread = text[place:]

    def _obey(self, piece: re.Match[str]) -> None:
        number, sequence, control, character = piece.groups()
        row = self.rows[self._line]
        if character:
            before = row[: self._place].ljust(self._place)
            self.rows[self._line] = before + character + row[self._place + 1 :]
            self._place += 1
        elif control == "\n":
            self._place, self._line = self.column, self._line + 1
            self.rows[self._line :] = self.rows[self._line :] or [""]
        elif control == "\r":
            self._place -= self.column
        elif sequence == "J":
            self.rows[self._line :] = [row[: self._place]]
        elif sequence == "C":
            self._place += min(int(number or 1), self.columns - 1 - self.column)
        elif sequence == "A":
            for _ in range(int(number or 1)):
                self._go_up()

    def _go_up(self) -> None:
        if self._place >= self.columns:
            self._place -= self.columns
        elif self._line:
            column = self._place
            self._line -= 1
            self._place = max(0, len(self.rows[self._line]) - 1) // self.columns * self.columns
            self._place += column


class PseudoTerminal:
    """A program on a real pseudo-terminal that is its controlling one, as under a shell."""

    def __init__(self, *words: str, columns: int = 80, **env: str) -> None:
        self._master, self._slave = pty.openpty()
        self._columns = columns
        termios.tcsetwinsize(self._slave, (24, columns))
        self.mode = termios.tcgetattr(self._slave)
        # A session leader that opens a terminal gets it as its controlling one.
        take = 'exec "$@" <"$0" >"$0" 2>&1'
        self.process = subprocess.Popen(
            ["sh", "-c", take, os.ttyname(self._slave), *words],
            start_new_session=True,
            cwd=ROOT,
            env={**os.environ, **ENGLISH, "TERM": "xterm", "PS1": "$ ", **env},
        )
        self._data = bytearray()
        self._resized: list[tuple[int, int]] = []
        os.set_blocking(self._master, False)

    @property
    def text(self) -> str:
        """Everything that came, control sequences included."""
        with contextlib.suppress(OSError):
            while data := os.read(self._master, 4096):
                self._data += data
        return self._data.decode(errors="ignore")  # half a character may be on its way

    @property
    def screen(self) -> Vt100:
        """What a person sees."""
        screen, text, shown = Vt100(self._columns), self.text, 0
        for place, columns in self._resized:
            screen.feed(text[shown:place])
            screen.columns, shown = columns, place
        screen.feed(text[shown:])
        return screen

    @property
    def rows(self) -> list[str]:
        """The rows of the screen, without blanks at their ends."""
        return [row.rstrip() for row in self.screen.rows]

    def resize(self, columns: int) -> None:
        """Make the window narrower or wider; nothing must be on its way to it."""
        self._resized.append((len(self.text), columns))
        termios.tcsetwinsize(self._master, (24, columns))

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def shows(self, *rows: str) -> None:
        """Wait until the last rows are these, but for blanks at their ends."""
        self._wait(lambda: self.rows[-len(rows) :] == [row.rstrip() for row in rows], repr(rows))

    def contains(self, text: str) -> None:
        """Wait until the text is somewhere in what came."""
        self._wait(lambda: text in self.text, repr(text))

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        try:
            wait_for(condition, what)
        except BaseException:
            print(f"the terminal got {self.text!r}")
            raise

    def restored(self) -> bool:
        """Tell whether the terminal is in the mode in which the program found it."""
        return termios.tcgetattr(self._slave) == self.mode

    def hang_up(self) -> None:
        """Close the terminal's window."""
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1

    def close(self) -> None:
        """End the program if it still runs, and close the terminal."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for fd in (self._slave, self._master):
            if fd >= 0:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
