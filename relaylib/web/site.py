"""All resources of the web by their paths, joined with the server."""

import socket
from collections.abc import Callable

from relaylib.channel import Channel
from relaylib.config import Config
from relaylib.net.loop import Loop
from relaylib.web.budget import Budget
from relaylib.web.events import Events
from relaylib.web.healthz import Healthz
from relaylib.web.hls import Hls
from relaylib.web.live import Live
from relaylib.web.mp4 import Mp4
from relaylib.web.pages import pages
from relaylib.web.parts import ControlPort, Parts
from relaylib.web.reply import Resource
from relaylib.web.series import Series
from relaylib.web.server import HttpServer
from relaylib.web.shared import Shared
from relaylib.web.state import SiteState
from relaylib.web.status import StatusResource


class Site:
    """The resources and their `server`, which serves the `channel`.

    `door` describes the control port; `admit` raises DeclinedError if there is no room for another
    viewer.
    """

    def __init__(
        self,
        loop: Loop,
        config: Config,
        listener: socket.socket,
        channel: Channel,
        *,
        door: Callable[[], ControlPort],
        admit: Callable[[], None],
        saved: SiteState | None = None,
    ) -> None:
        """Serve from now on, and go on with the streams of the previous program."""
        # Imported only where HTTP is wanted: it takes 3 MiB and 70 ms.
        from relaylib.web.metrics import Metrics  # noqa: PLC0415

        relay = Parts(loop, channel, door, lambda: self.server)
        walk, track = channel.walk, channel.track

        def newest() -> int:
            """Bring the track up to date, and return its length."""
            if walk is None:
                return 0
            walk.catch_up()
            return walk.track.end

        budget = Budget(config.trusted_proxy)
        self._hls = hls = Hls(loop, track, newest, saved.hls if saved else None)
        self._series = series = Series(relay, saved.series if saved else None)
        status = StatusResource(relay, series)
        table: dict[str, Resource] = {
            **pages(),
            "/live.ts": Live(track, newest),
            "/live.mp4": Mp4(loop, track, newest, budget),
            "/live.m3u8": Shared(hls),
            "/hls/*": Shared(hls),
            "/healthz": Healthz(lambda: channel.snapshot().word),
            "/status.json": status,
            "/events": Events(status, series),
            "/metrics": Metrics(relay),
        }
        self.server = HttpServer(loop, config, newest, table, admit=admit, budget=budget)
        self.server.listen(listener, saved.web if saved else None)

    def export(self) -> SiteState | None:
        """Return what the next program needs to go on; None: it is closed."""
        web = self.server.export()
        return SiteState(web, self._hls.export(), self._series.export()) if web else None

    @property
    def port(self) -> int | None:
        """The port on which it listens; None: it is closed."""
        listener = self.server.listener
        return None if listener is None else listener.getsockname()[1]

    def close(self) -> None:
        """Accept no more connections, and end every one."""
        self.server.close()
