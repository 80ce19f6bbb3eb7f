"""The line editor, without a terminal."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.client.lineedit import Action, Choices, Ended, Entered, LineEditor
from relaylib.protocol.lines import MAX_LINE

WORDS = ("CONECTAR", "CONTINUAR", "CONTINUAR DIFERIDO", "DESCONECTAR", "ESTADO")
UP, DOWN, RIGHT, LEFT = b"\x1b[A", b"\x1b[B", b"\x1b[C", b"\x1b[D"
HOME, END, DELETE = b"\x1b[H", b"\x1b[F", b"\x1b[3~"


def whole(keys: bytes) -> Iterator[bytes]:
    """The keys in one piece."""
    yield keys


def bytewise(keys: bytes) -> Iterator[bytes]:
    """The keys one byte at a time."""
    for byte in keys:
        yield bytes([byte])


@pytest.fixture(params=[whole, bytewise])
def press(request: pytest.FixtureRequest) -> "Press":
    """Presses keys, whole or byte by byte."""
    return Press(request.param)


class Press:
    """An editor and a way to cut what is typed."""

    def __init__(self, cut: object) -> None:
        self.editor = LineEditor(WORDS)
        self._cut = cut

    def __call__(self, keys: bytes) -> list[Action]:
        """Press and return what happened."""
        pieces = self._cut(keys)  # type: ignore[operator]
        return [action for piece in pieces for action in self.editor.feed(piece)]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (b"ESTADO", "ESTADO"),
        (b"ESTADA\x7fO", "ESTADO"),
        (b"STADO" + HOME + b"E" + END + b"!", "ESTADO!"),
        (b"STADO\x01E\x05!", "ESTADO!"),
        (b"EXSTADO" + LEFT * 5 + b"\x08", "ESTADO"),
        (b"XESTADO" + b"\x1bOH" + DELETE, "ESTADO"),
        (b"XESTADO\x01\x04", "ESTADO"),
        (b"ESADO" + LEFT * 3 + b"T" + RIGHT * 9 + b".", "ESTADO."),
        (b"uno dos  \x17tres", "uno tres"),
        (b"uno dos\x15tres", "tres"),
        (b"uno dos" + LEFT * 4 + b"\x0b", "uno"),
        (LEFT + RIGHT + b"\x7f" + DELETE + b"x", "x"),
        (b"a\xc3\xb1\x1b[200~\x1b[1;5Cb\x1bfc\x00\x0c", "abc"),
        (b"a\x1b[" + b"1" * 16 + b"b", "ab"),
    ],
)
def test_keys_edit_the_line(press: "Press", keys: bytes, line: str) -> None:
    """The keys of every shell do what they do there; keys without a meaning do nothing."""
    assert press(keys + b"\r") == [Entered(line)]
    assert press.editor.text == ""


def test_a_paste_of_several_lines_enters_each(press: "Press") -> None:
    """Lines pasted at once are entered in order and the rest stays in the line."""
    assert press(b"CONECTAR\nESTADO\rDES") == [Entered("CONECTAR"), Entered("ESTADO")]
    assert press.editor.text == "DES"


def test_history_goes_back_and_forth(press: "Press") -> None:
    """Up and Down walk the lines entered, without repetitions, and return to the draft."""
    press(b"uno\rdos\rdos\r  \rdraft")
    seen = []
    for key in (UP, UP, UP, b"\x1bOB", DOWN, DOWN):
        press(key)
        seen.append(press.editor.text)
    assert seen == ["dos", "uno", "uno", "dos", "draft", "draft"]


@pytest.mark.parametrize(
    ("typed", "line", "choices"),
    [
        (b"des\t", "DESCONECTAR", []),
        (b"cont\t", "CONTINUAR", []),
        (b"cont\t\t", "CONTINUAR", [Choices(("CONTINUAR", "CONTINUAR DIFERIDO"))]),
        (b"continuar d\t", "CONTINUAR DIFERIDO", []),
        (b"con\t", "con", [Choices(WORDS[:3])]),
        (b"\t", "", [Choices(WORDS)]),
        (b"xyz\t", "xyz", []),
    ],
)
def test_tab_completes_commands(
    press: "Press", typed: bytes, line: str, choices: list[Action]
) -> None:
    """TAB completes as far as it is clear, in any case, and lists the words when it is not."""
    assert press(typed) == choices
    assert press.editor.text == line


def test_ctrl_d_ends_only_an_empty_line(press: "Press") -> None:
    """Ctrl-D on an empty line is the end of the input; in a line it deletes."""
    assert press(b"ab\x01\x04") == []
    assert press(b"\x04\x04") == [Ended()]


def test_a_line_cannot_grow_beyond_the_protocol(press: "Press") -> None:
    """What is typed beyond the longest line of the protocol is not taken."""
    press(b"a" * (MAX_LINE + 50))
    assert len(press.editor.text) == MAX_LINE


@pytest.mark.parametrize(
    ("left", "width", "row", "column"),
    [
        (0, 10, "> uvwxyz ", 8),
        (26, 10, "> abcdef ", 2),
        (13, 80, "> abcdefghijklmnopqrstuvwxyz ", 15),
        (26, 4, ">a ", 1),
        (0, 3, "z ", 1),
    ],
)
def test_a_long_line_scrolls_sideways(left: int, width: int, row: str, column: int) -> None:
    """However long the line and narrow the terminal, one row shows the cursor's part of it."""
    editor = LineEditor(WORDS)
    list(editor.feed(b"abcdefghijklmnopqrstuvwxyz" + LEFT * left))
    assert editor.render("> ", width) == (row, column)


@given(st.lists(st.binary(max_size=12)), st.integers(1, 100))
def test_no_keys_break_the_editor(pieces: list[bytes], width: int) -> None:
    """Any bytes leave a printable line within its limit, the cursor in it, on one row."""
    editor = LineEditor(WORDS)
    for piece in pieces:
        for action in editor.feed(piece):
            assert not isinstance(action, Entered) or action.text.isprintable()
        assert 0 <= editor.cursor <= len(editor.text) <= MAX_LINE
    row, column = editor.render("relay> ", width)
    assert row.isprintable()
    assert column < len(row) <= max(2, width - 1)
