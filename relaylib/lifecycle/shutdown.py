"""The end in order: no new connection is accepted, everyone is told, and then the loop stops."""

import structlog

from relaylib.lifecycle import systemd
from relaylib.net.loop import Loop
from relaylib.viewers.server import ControlServer

FAREWELL = "el relay se detiene"

GRACE = 0.5
"""Seconds that the last replies may take to leave; then the remaining connections are cut off."""

_LOOK_EVERY = 0.01

log = structlog.get_logger()


def shut_down(loop: Loop, server: ControlServer) -> None:
    """Send everyone a farewell; stop the loop when all have gone, or after `GRACE`."""
    log.info("shutting_down", clients=len(server.viewers))
    systemd.notify("STOPPING=1")
    server.close(FAREWELL)
    loop.call_later(GRACE, loop.stop)

    def stop_when_empty() -> None:
        if server.viewers:
            loop.call_later(_LOOK_EVERY, stop_when_empty)
        else:
            loop.stop()

    stop_when_empty()
