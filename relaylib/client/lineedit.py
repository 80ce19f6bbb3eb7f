"""A line editor for terminals: key bytes in, finished lines and a picture of the line out. Pure.

Hand-written because the standard library's `readline` can only be used through `input()`, which
blocks. Rejected: a thread inside `input()` (readline changes the line without holding the
interpreter's lock, so a redraw is never safe, and its cursor cannot be asked for) and calling
readline's callback interface through `ctypes` (where it is depends on how Python was built). Ours
is the small part of readline that short commands need, in the manner of linenoise: one row that
scrolls sideways, and only the control sequences that every terminal since the VT100 knows.

The protocol is ASCII, so a character is a byte and takes one column; others are not accepted.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from relaylib.protocol.lines import MAX_LINE

HISTORY = 200
"""Lines remembered: more than a session has."""

# A key is one byte, ESC and a byte, or a sequence: SS3 (ESC O) from application keypads, CSI
# (ESC [) with parameters. The last form throws away a sequence that no terminal sends.
_KEY = re.compile(
    rb"[^\x1b] | \x1b[^\[O] | \x1bO. | \x1b\[[\x20-\x3f]{0,15}[^\x20-\x3f] | \x1b\[[\x20-\x3f]{16}",
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Entered:
    """A finished line, without its ending."""

    text: str


@dataclass(frozen=True, slots=True)
class Choices:
    """TAB was pressed and these words fit."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """Ctrl-D on an empty line."""


Action = Entered | Choices | Ended


class LineEditor:
    """The line being typed, its history, and completion from a list of upper case `words`."""

    def __init__(self, words: Sequence[str]) -> None:
        self.text = ""
        self.cursor = 0
        self._words = words
        self._history: list[str] = []
        self._place = 0
        self._draft = ""
        self._partial = b""

    def feed(self, data: bytes) -> Iterator[Action]:
        """Take bytes as they came from the terminal; a key may be cut anywhere."""
        self._partial += data
        while match := _KEY.match(self._partial):
            self._partial = self._partial[match.end() :]
            if (action := self._press(match[0])) is not None:
                yield action

    def render(self, prompt: str, width: int) -> tuple[str, int]:
        """Draw one row of less than `width` columns; return it and the cursor's column in it.

        Of a long line it shows a window with the cursor. The row ends in a blank, so that there is
        a character under the cursor: without one, terminals differ in where they leave it when the
        row just fits into a new width.
        """
        prompt = prompt[: max(0, width - 3)]
        room = max(1, width - len(prompt) - 2)
        start = max(0, self.cursor - room)
        row = f"{prompt}{self.text[start : start + room]} "
        return row, len(prompt) + self.cursor - start

    def _press(self, key: bytes) -> Action | None:
        if handler := _KEYS.get(key):
            return handler(self)
        if len(key) == 1 and 0x20 <= key[0] < 0x7F and len(self.text) < MAX_LINE:
            self._replace(self.cursor, self.cursor, key.decode("ascii"))
        return None

    def _replace(self, start: int, end: int, text: str) -> None:
        self.text = self.text[:start] + text + self.text[end:]
        self.cursor = start + len(text)

    def _enter(self) -> Action:
        line = self.text
        if line.strip() and line not in self._history[-1:]:
            self._history = [*self._history[1 - HISTORY :], line]
        self._place = len(self._history)
        self._replace(0, len(line), "")
        return Entered(line)

    def _delete_or_end(self) -> Action | None:
        if not self.text:
            return Ended()
        self._delete()
        return None

    def _delete(self) -> None:
        self._replace(self.cursor, self.cursor + 1, "")

    def _backspace(self) -> None:
        self._replace(max(0, self.cursor - 1), self.cursor, "")

    def _kill_word(self) -> None:
        before = self.text[: self.cursor].rstrip()
        self._replace(before.rfind(" ") + 1, self.cursor, "")

    def _kill_start(self) -> None:
        self._replace(0, self.cursor, "")

    def _kill_end(self) -> None:
        self.text = self.text[: self.cursor]

    def _move(self, place: int) -> None:
        self.cursor = min(max(0, place), len(self.text))

    def _recall(self, place: int) -> None:
        if not 0 <= place <= len(self._history):
            return
        if self._place == len(self._history):
            self._draft = self.text
        self._place = place
        line = self._draft if place == len(self._history) else self._history[place]
        self._replace(0, len(self.text), line)

    def _complete(self) -> Action | None:
        typed = self.text[: self.cursor].lstrip().upper()
        fitting = tuple(word for word in self._words if word.startswith(typed))
        common = _common_start(fitting)
        if len(common) > len(typed):
            self._replace(0, self.cursor, common)
        elif len(fitting) > 1:
            return Choices(fitting)
        return None


def _common_start(words: tuple[str, ...]) -> str:
    pairs = zip(min(words, default=""), max(words, default=""), strict=False)
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


_KEYS: dict[bytes, Callable[[LineEditor], Action | None]] = {
    b"\r": LineEditor._enter,
    b"\n": LineEditor._enter,
    b"\t": LineEditor._complete,
    b"\x04": LineEditor._delete_or_end,  # Ctrl-D
    b"\x7f": LineEditor._backspace,
    b"\x08": LineEditor._backspace,
    b"\x17": LineEditor._kill_word,  # Ctrl-W
    b"\x15": LineEditor._kill_start,  # Ctrl-U
    b"\x0b": LineEditor._kill_end,  # Ctrl-K
    b"\x1b[3~": LineEditor._delete,
    **dict.fromkeys((b"\x02", b"\x1b[D", b"\x1bOD"), lambda line: line._move(line.cursor - 1)),
    **dict.fromkeys((b"\x06", b"\x1b[C", b"\x1bOC"), lambda line: line._move(line.cursor + 1)),
    **dict.fromkeys((b"\x01", b"\x1b[H", b"\x1bOH", b"\x1b[1~"), lambda line: line._move(0)),
    **dict.fromkeys(
        (b"\x05", b"\x1b[F", b"\x1bOF", b"\x1b[4~"), lambda line: line._move(len(line.text))
    ),
    **dict.fromkeys((b"\x10", b"\x1b[A", b"\x1bOA"), lambda line: line._recall(line._place - 1)),
    **dict.fromkeys((b"\x0e", b"\x1b[B", b"\x1bOB"), lambda line: line._recall(line._place + 1)),
}
"""Keys as Emacs and every shell bind them, in the codes of xterm, rxvt and the Linux console."""
