"""The tests, and what each of them gets.

    unit/<room>/  the parts of one room, most without a process: start here to change a room
    system/       the programs as people run them: relay, client, reloads, the targets of make
    interop/      real VLC, ffmpeg and GStreamer on both sides of the relay
    netns/        hosts of their own in network namespaces: bad paths, many addresses (takes root)
    attack/       what must not be felt by anybody who watches
    test_architecture.py   which room may know which

`make test` runs all but the long ones, several at once; `make test ARGS='-k reload'` some of it.
`make test-long` runs those: interop, netns, attack, and some more that are marked `long`. One
alone, with its output: `.venv/bin/python -m pytest -s tests/system/test_relay.py::test_version`.
The harness is `tools/lab`. What a machine lacks (a program, root, IPv6) skips the tests that need
it, and is an error where the environment says CI=true.

Hypothesis runs without deadlines: a loaded machine is no fault of the relay's.
"""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tools.lab.client import FakeRelay
from tools.lab.process import NeedError
from tools.lab.relay import RelayProcess
from tools.lab.reloads import Held

settings.register_profile(
    "relay", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("relay")


LONG = {"interop", "netns", "attack"}
"""Folders whose tests take minutes together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the long ones."""
    for item in items:
        if item.path.parent.name in LONG:
            item.add_marker("long")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    """Skip a test whose fixture lacks something."""
    return (yield from _skip_what_lacks())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """Skip a test that lacks something."""
    return (yield from _skip_what_lacks())


def _skip_what_lacks() -> Generator[None]:
    try:
        yield
    except NeedError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture
def relay() -> Iterator[RelayProcess]:
    """A relay of this test's own, with the defaults."""
    with RelayProcess() as program:
        yield program


@pytest.fixture(scope="module")
def shared_relay() -> Iterator[RelayProcess]:
    """A relay that a module's tests share: each brings its own connections and takes them away."""
    with RelayProcess() as program:
        yield program


@pytest.fixture
def fake() -> Iterator[FakeRelay]:
    """A relay played by the test."""
    with FakeRelay() as fake:
        yield fake


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    """A relay whose new program can be held."""
    made = Held(tmp_path)
    with made.relay:
        yield made
