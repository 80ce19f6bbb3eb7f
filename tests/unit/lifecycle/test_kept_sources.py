"""Whom a reloaded program lets in: the ingest is where it was, whatever the options say now."""

from types import SimpleNamespace
from typing import Any

import pytest

from relaylib.config import parse
from relaylib.lifecycle.sockets import keep_sources

FORMER = "udp://10.0.0.5@232.1.1.1:5004"
OTHER = "udp://10.0.0.6@232.1.1.1:5004"


@pytest.mark.parametrize(
    ("former", "words", "allowed"),
    [
        ([], ["--ingest", FORMER], ["0.0.0.0/0", "::/0"]),
        ([], ["--allow-source", "10.0.0.7"], ["10.0.0.7/32"]),
        (["--ingest", FORMER], ["--ingest", OTHER], ["10.0.0.5/32"]),
        (["--ingest", FORMER], [], ["10.0.0.5/32"]),
        (["--ingest", FORMER], ["--ingest", FORMER], ["10.0.0.5/32"]),
    ],
)
def test_the_source_of_the_ingest_that_stays(
    former: list[str], words: list[str], allowed: list[str]
) -> None:
    """An MRL that names another one means an ingest that is not there until stop and start."""
    inherited: Any = SimpleNamespace(asked=parse(former).asked)
    config = keep_sources(parse(words), inherited)
    assert [str(each) for each in config.allow_source] == allowed


def test_a_new_program_does_as_it_is_told() -> None:
    """There is nothing that stays."""
    config = parse(["--ingest", OTHER])
    assert keep_sources(config, None) is config
