"""What every test gets: hypothesis without clocks, so that a loaded machine fails nothing.

And Ctrl-C: a shell starts what it puts in the background with SIGINT and SIGQUIT ignored, which the
programs under test would inherit, and then not be interrupted by the tests that interrupt them.
"""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tools.lab.relay import Relay

settings.register_profile(
    "relay", deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("relay")

for signum, default in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(signum) == signal.SIG_IGN:
        signal.signal(signum, default)


@pytest.fixture
def relay() -> Iterator[Relay]:
    """A relay of this test's own, with the defaults."""
    with Relay() as program:
        yield program


@pytest.fixture(scope="module")
def shared_relay() -> Iterator[Relay]:
    """A relay that a module's tests share: each brings its own connections and takes them away."""
    with Relay() as program:
        yield program
