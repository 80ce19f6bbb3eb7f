"""Whose watchdog it is, and a service manager that is not there."""

import os

import pytest

from relaylib.lifecycle import systemd


@pytest.mark.parametrize(
    ("env", "period"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "\u0663"}, None),
        ({"WATCHDOG_USEC": "9" * 400}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
        ({"WATCHDOG_USEC": "9" * 20}, None),
        ({"WATCHDOG_USEC": str(2**64 - 1)}, None),  # USEC_INFINITY
        ({"WATCHDOG_USEC": str(2**64 - 2)}, 3600),
        ({"WATCHDOG_USEC": "1"}, 0.01),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_whose_watchdog_it_is(
    env: dict[str, str], period: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of what is allowed, if this process is watched at all (sd_watchdog_enabled(3))."""
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert systemd.watchdog_period() == period


@pytest.mark.parametrize("path", ["", "/nonexistent/socket", "@nobody", "/" + "x" * 200])
def test_nobody_listens(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manager that is not there is no trouble."""
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    systemd.notify("READY=1")
