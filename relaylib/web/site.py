"""Which resource is where: all that is to be had by HTTP, joined."""

import socket
from collections.abc import Callable

from relaylib.config import Config
from relaylib.web.events import Events
from relaylib.web.healthz import Healthz
from relaylib.web.hls import Hls
from relaylib.web.live import Live
from relaylib.web.mp4 import Mp4
from relaylib.web.pages import pages
from relaylib.web.parts import Parts
from relaylib.web.reply import Resource
from relaylib.web.series import Series
from relaylib.web.server import Server
from relaylib.web.state import SiteState
from relaylib.web.status import Status


class Site:
    """The resources and their `server`; `parts` tells what they look at, once there is that."""

    def __init__(
        self,
        config: Config,
        listener: socket.socket,
        parts: Callable[[Callable[[], Server]], Parts],
        saved: SiteState | None = None,
    ) -> None:
        """Serve from now on, and go on with the streams of the previous program."""
        # Imported only where HTTP is wanted: it takes 3 MiB and 70 ms.
        from relaylib.web.metrics import Metrics  # noqa: PLC0415

        relay = parts(lambda: self.server)
        loop, walk = relay.loop, relay.walk
        track = walk.track if walk else None

        def newest() -> int:
            """Bring the track up to date, and tell how long it is."""
            if walk is None:
                return 0
            walk.catch_up()
            return walk.track.end

        self._hls = hls = Hls(loop, track, newest, saved.hls if saved else None)
        self._series = series = Series(relay, saved.series if saved else None)
        status = Status(relay, series)
        table: dict[str, Resource] = {
            **pages(),
            "/live.ts": Live(track, newest),
            "/live.mp4": Mp4(loop, track, newest),
            "/live.m3u8": hls,
            "/hls/*": hls,
            "/healthz": Healthz(relay.word),
            "/status.json": status,
            "/events": Events(status, series),
            "/metrics": Metrics(relay),
        }
        self.server = Server(loop, config, newest, table)
        self.server.listen(listener, saved.web if saved else None)

    def export(self) -> SiteState | None:
        """Return what the next program needs to go on; None: it is closed."""
        web = self.server.export()
        return SiteState(web, self._hls.export(), self._series.export()) if web else None

    @property
    def port(self) -> int | None:
        """Where it listens; None: it is closed."""
        listener = self.server.listener
        return None if listener is None else listener.getsockname()[1]

    def close(self) -> None:
        """Accept nobody any more, and end every connection."""
        self.server.close()
