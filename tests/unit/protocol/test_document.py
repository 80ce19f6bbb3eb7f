"""docs/PROTOCOL.md says what the program does: its grammar, tables and reasons against the code."""

import ast
import itertools
import re

import pytest
from abnf import Node, ParseError, Rule
from hypothesis import given
from hypothesis import strategies as st

from relaylib.config import Config
from relaylib.errors import PeerError
from relaylib.net import access, connection
from relaylib.outputs import port_probe
from relaylib.protocol import commands, lines, words
from relaylib.protocol.commands import MAX_PORT, MAX_SECONDS, MIN_PORT, Command, Verb
from relaylib.protocol.lines import LineReader, Telnet
from relaylib.protocol.session import TABLE, State
from tools.lab.process import ROOT

DOCUMENT = (ROOT / "docs" / "PROTOCOL.md").read_text()


class Grammar(Rule):
    """The document's rules, and the core ones of RFC 5234."""


Grammar.load_grammar("".join(re.findall(r"^```abnf\n(.*?)^```", DOCUMENT, re.DOTALL | re.M)))

VERBS = {
    "connect": Verb.CONNECT,
    "interrupt": Verb.INTERRUPT,
    "continue": Verb.CONTINUE,
    "deferred": Verb.CONTINUE_DEFERRED,
    "rewind": Verb.REWIND,
    "disconnect": Verb.DISCONNECT,
    "status": Verb.STATUS,
    "help": Verb.HELP,
}
"""What the names of rules stand for."""


def tree(rule: str, octets: bytes) -> Node | None:
    """Read octets by a rule of the grammar; None: they are no such thing."""
    try:
        return Grammar(rule).parse_all(octets.decode("latin-1"))
    except ParseError:
        return None


def value(node: Node, name: str) -> str:
    """Return what a rule has matched somewhere in a tree, "" if it is not in it."""
    if node.name == name:
        return str(node.value)
    return next(filter(None, (value(each, name) for each in node.children)), "")


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the tables under a heading, without the lines above them."""
    section = DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)
    cells = [[cell.strip() for cell in row.split("|")] for row in table]
    return [row for row in cells if row[0].startswith("`")] or cells[2:]


# --- the grammar

WORDS = [verb.value.split()[0].encode() for verb in Verb if verb is not Verb.CONTINUE_DEFERRED]
BETWEEN = [b"", b" ", b"\t", b"\r", b"\v \f", b"-", b"- ", b" -", b"--", b"\x00", b"\x1c"]
ARGUMENTS = [
    b"", b"DIFERIDO", b"diferido ", b"0", b"1023", b"1024", b"65535 ", b"65536", b"000005004",
    b"5004 5", b"5.5", b"5,125", b"5.1250", b"0.0", b"0.001", b"86400", b"86400.1", b"086400",
    b"5.", b".5", b"5s", b"\xff",
]  # fmt: skip


def meaning(line: bytes) -> Command | str | None:
    """Say what a line asks for by the document alone: a request, nothing, or an error."""
    found = tree("line", line + b"\n")
    if found is None:
        return "error"
    verb = next((verb for name, verb in VERBS.items() if value(found, name)), None)
    if verb is None:
        return None
    port, seconds = value(found, "port"), value(found, "seconds").replace(",", ".")
    if port and not MIN_PORT <= int(port) <= MAX_PORT:
        return "error"
    if seconds and not 0 < float(seconds) <= MAX_SECONDS:
        return "error"
    return Command(verb, int(port) if port else None, float(seconds) if seconds else None)


def understood(line: bytes) -> Command | bytes | None:
    """Let the program read a line; return the request, or the reply that it gets at once."""
    try:
        return commands.parse(line)
    except PeerError as error:
        return commands.error(str(error))


def agree(line: bytes) -> None:
    """Assert that program and document make the same of a line, and that a reply is one."""
    expected, found = meaning(line), understood(line)
    if isinstance(found, bytes):
        assert tree("reply", found)
    assert ("error" if isinstance(found, bytes) else found) == expected, line


@pytest.mark.parametrize("word", [*WORDS, b"conectar", b" Retroceder", b"", b"hola"])
def test_the_grammar_is_the_parsers(word: bytes) -> None:
    """A line means what the grammar says, and what it does not allow gets one line of error."""
    for between, argument in itertools.product(BETWEEN, ARGUMENTS):
        agree(word + between + argument)


@given(st.binary(max_size=20).filter(lambda line: b"\n" not in line))
def test_the_grammar_allows_nothing_else(line: bytes) -> None:
    """Whatever the bytes of a line, program and document agree."""
    agree(line)


@pytest.mark.parametrize("verb", Verb)
def test_the_grammar_has_every_command(verb: Verb) -> None:
    """No command of the program is missing in the document."""
    arguments = {Verb.CONNECT: b" 5004", Verb.REWIND: b" 2,5"}
    line = verb.value.encode() + arguments.get(verb, b"")
    assert meaning(line) == commands.parse(line)


PIECES = [b"\xfa", b"\xff\xf0", b"\xff\xf1", b"\xff", b"\xf0", b"\xfb", b"\xfe\xff", b"\n"]


@pytest.mark.parametrize("length", range(4))
def test_telnet_sequences_are_the_readers(length: int) -> None:
    """What is dropped as Telnet's is what the grammar says, to the byte."""
    for rest in map(b"".join, itertools.product(PIECES, repeat=length)):
        reader, sequence = LineReader(), b"\xff"
        reader.feed(sequence)
        for byte in rest:
            if reader.telnet is Telnet.TEXT:
                break
            reader.feed(bytes((byte,)))
            sequence += bytes((byte,))
        assert reader.pending == b""
        assert bool(tree("telnet", sequence)) == (reader.telnet is Telnet.TEXT), sequence


# --- the tables


def test_the_table_of_states_is_the_programs() -> None:
    """Every command in every state leads where the document says."""
    states = [state for state in State if state is not State.CLOSED]
    known = {state.word: state for state in State}
    assert {cell.strip("`") for _, *cells in rows("5. States") for cell in cells} <= {*known, "-"}
    found = {
        (state, Verb(command.strip("`"))): None
        if cell == "-"
        else State(words.english(words.STATES, cell.strip("`")))
        for command, *cells in rows("5. States")
        for state, cell in zip(states, cells, strict=True)
    }
    assert found == {pair: after for pair, after in TABLE.items() if pair[0] is not State.CLOSED}


def test_the_values_of_estado_are_the_programs() -> None:
    """Words that ESTADO uses are those that the document lists."""
    table = rows("6. ESTADO")
    listed = {name.strip("`"): re.findall(r"`([^`]+)`", values) for name, values, _ in table}
    assert listed["estado"] == [state.word for state in State if state is not State.CLOSED]
    assert set(listed["fuente"]) == set(words.PRESENCES.values())
    assert set(listed["forma"]) == set(words.FORMS.values())
    assert set(listed["salud"]) == set(words.HEALTH.values())


def test_the_limits_are_the_programs() -> None:
    """Each number in the table of limits is one of the code."""
    limits = access.Limits()
    own, shared, connecting = limits.own_commands, limits.commands, limits.connections
    table = [re.findall(r"\d+", limit) for _, limit, _ in rows("9. Limits and times")]
    assert [[int(number) for number in numbers] for numbers in table] == [
        [lines.MAX_LINE],
        [commands._SHOWN],
        [own.per_second, own.burst],
        [shared.per_second, shared.burst],
        [connecting.per_second, connecting.burst],
        [limits.max_clients_per_ip],
        [limits.max_clients],
        [Config().idle_timeout],
        [connection.UNSENT_CAP],
        [connection.LINGER],
        [port_probe.CLOSED_LIMIT],
    ]  # fmt: skip


# --- the reasons

SOURCES = [
    path.read_text()
    for room in ("protocol", "viewers", "net", "lifecycle")
    for path in sorted((ROOT / "relaylib" / room).glob("*.py"))
]

RAISED = {
    "BadCommandError", "DeclinedError", "LineTooLongError", "OtherProtocolError", "OutOfOrderError",
}  # fmt: skip

ASKED = {
    b"hola": "unknown_command",
    b"caf\xe9": "not_ascii",
    b"CONECTAR": "missing_port",
    b"CONECTAR 80": "bad_port",
    b"RETROCEDER": "missing_seconds",
    b"RETROCEDER 0": "bad_seconds",
    b"ESTADO ya": "extra_argument",
    b"GET / HTTP/1.1": "http",
    b"\x16\x03\x01": "tls",
}
"""Lines that are turned away by what they say, and the log's word for it."""


def documented() -> dict[str, str]:
    """Return the reasons of the document by their words in the log."""
    return {
        kind: reason.strip("`")
        for reason, kinds, *_ in rows("7. ERROR reasons")
        for kind in re.findall(r"`(\w+)`", kinds)
    }


def pattern(reason: str) -> str:
    """Make a regular expression of a reason; what stands between < and > varies."""
    return ".+".join(re.escape(fixed) for fixed in re.split(r"<[^>]*>", reason))


@pytest.mark.parametrize(("line", "kind"), ASKED.items())
def test_a_line_gets_the_documented_reason(line: bytes, kind: str) -> None:
    """The reply is the sentence in the document, and so is its word in the log."""
    with pytest.raises(PeerError) as raised:
        commands.parse(line)
    assert raised.value.kind == kind
    assert re.fullmatch(pattern(documented()[kind]), str(raised.value))


def kinds_raised() -> set[str]:
    """Return the log's words of what is raised with a reason for the wire, where they stand."""
    calls = [node for text in SOURCES for node in ast.walk(ast.parse(text))]
    return {
        str(call.args[1].value)
        for call in calls
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in RAISED
        and isinstance(call.args[1], ast.Constant)
    }


def test_every_reason_has_its_row() -> None:
    """The document has each word that the code raises, and none that the code does not have."""
    assert kinds_raised() <= documented().keys()
    assert [kind for kind in documented() if f'"{kind}"' not in "".join(SOURCES)] == []
