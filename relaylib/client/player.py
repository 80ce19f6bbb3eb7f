"""The viewer's player: VLC, opened on the port where the stream will arrive."""

import contextlib
import os
import shutil
import signal
import subprocess

from relaylib.client.messages import say
from relaylib.errors import SetupError

GRACE = 2.0
"""Seconds that the player may take to close before it is killed."""


def find_player() -> str:
    """Find VLC.

    Raises:
        SetupError: it is not on PATH.
    """
    if path := shutil.which("vlc"):
        return path
    raise SetupError(
        say("--vlc: there is no vlc on PATH: install VLC, or leave out --vlc and open any player "
            "by hand")
    )  # fmt: skip


class Player:
    """A running player, out of reach of the terminal's Ctrl-C, which is for the client alone."""

    def __init__(self, path: str, url: str) -> None:
        """Start it.

        Raises:
            SetupError: the system cannot run it.
        """
        self._command = f"{path} {url}"
        try:
            self._process = subprocess.Popen(
                [path, url],
                # Never written to, and open as long as the client runs: without a display VLC reads
                # commands here and ends where they end, on the null device at once.
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            reason = error.strerror
            raise SetupError(
                say("--vlc: cannot start {path}: {reason}", path=path, reason=reason)
            ) from None

    def ended(self) -> bool:
        return self._process.poll() is not None

    def why_ended(self) -> str:
        """Say how it ended; only once it has."""
        if self._process.returncode:
            return say(
                "the player failed (try {command} to see why); the session goes on",
                command=self._command,
            )
        return say("the player is closed; the session goes on")

    def close(self) -> None:
        """Close it; takes at most `GRACE` seconds."""
        if self.ended():
            return
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, signum: int) -> None:
        # The whole group: where VLC is started by a script, the script is not the player.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signum)
