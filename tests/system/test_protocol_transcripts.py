"""The transcripts of docs/PROTOCOL.md, replayed against a relay: each reply is the one written."""

import re
import socket
import sys
from collections.abc import Iterator

import pytest

from tools.lab.process import PATIENCE, ROOT, ChildProcess
from tools.lab.relay import RelayProcess
from tools.lab.sockets import udp_socket
from tools.lab.viewer import TestViewer

DOCUMENT = (ROOT / "docs" / "PROTOCOL.md").read_text()
TRANSCRIPTS = re.findall(r"^```transcript\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)

CLOSE = "[close]"
VARIES = {"{n}": r"\d+", "{s}": r"\d+\.\d", "{word}": "(?:sano|fuente|rele|red|silencio)"}


@pytest.fixture(scope="module")
def streaming() -> Iterator[RelayProcess]:
    """A relay that keeps a history, and has some of a stream in it."""
    with (
        RelayProcess("--timeshift", "60") as relay,
        ChildProcess(
            sys.executable, "tools/fake_vlc.py", "127.0.0.1", str(relay.ingest_port), "--loop"
        ),
    ):
        relay.wait_event("source_locked")
        yield relay


def pattern(line: str) -> str:
    """Make a regular expression of what the document says of a reply."""
    text = re.escape(line)
    for placeholder, values in VARIES.items():
        text = text.replace(re.escape(placeholder), values)
    return text


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda text: text.splitlines()[0])
def test_the_transcript_is_what_happens(streaming: RelayProcess, transcript: str) -> None:
    """What the client sends gets the replies that the document shows, and the same end."""
    with TestViewer(streaming.port) as viewer, udp_socket() as other:
        names = {"{port}": viewer.port, "{other}": other.getsockname()[1]}
        for name, port in names.items():
            transcript = transcript.replace(name, str(port))
        for row in transcript.splitlines():
            who, line = row[:2], row[3:]
            text = line.removesuffix(CLOSE)
            if who == "C:":
                viewer.send(text.encode() + (b"" if text != line else b"\n"))
                if text != line:
                    viewer.control.shutdown(socket.SHUT_WR)
            elif line == CLOSE:
                viewer.control.settimeout(PATIENCE)
                assert viewer.replies.read() == b""
            else:
                assert re.fullmatch(pattern(line), viewer.reply().rstrip("\r")), line


def test_there_are_transcripts() -> None:
    """None of them is lost for a slip in its form."""
    assert len(TRANSCRIPTS) == DOCUMENT.count("```transcript") == 3
