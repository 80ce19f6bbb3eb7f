"""Who watches: each decodes the picture, and tells how many frames of it there have been."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from tools.lab.browser import BROWSERS, Browser
from tools.lab.players import Vlc
from tools.lab.process import ChildProcess, LabError, need

UDP, HTTP, HLS = TRANSPORTS = ("UDP", "HTTP", "HLS")

NO_UDP = "browsers take no UDP"
NO_HLS = "Firefox plays no HLS by itself; the page plays by HTTP"
REASONS = (NO_UDP, NO_HLS)
"""Why a viewer cannot watch one way, in the order of their numbers in the table."""


class Decoding(Protocol):
    """A viewer at work."""

    def frames(self) -> int:
        """Return how many frames it has decoded so far."""

    def trouble(self) -> str:
        """Return what it has to say, in one line."""

    def __enter__(self) -> object: ...

    def __exit__(self, *exc: object) -> None: ...


class StreamPlace(NamedTuple):
    """Where the stream is: `mrl` names the player's port (udp:// or rtp://), `site` is the relay's.

    `home` is a directory that VLC may use.
    """

    home: Path
    mrl: str
    site: str

    @property
    def port(self) -> str:
        """The player's UDP port."""
        return self.mrl.rpartition(":")[2]

    def url(self, transport: str) -> str:
        """The address for a player of this transport."""
        paths = {UDP: self.mrl, HTTP: f"{self.site}/live.ts", HLS: f"{self.site}/live.m3u8"}
        return paths[transport]


class Counting(ChildProcess):
    """A program that prints a line with `sign` for each frame."""

    def __init__(self, sign: str, *words: str) -> None:
        need(words[0])
        super().__init__(*words)
        self._sign = re.compile(sign)

    def frames(self) -> int:
        """See `Decoding`; so are the others below."""
        return sum(self._sign.search(line) is not None for line in self.stdout)

    def trouble(self) -> str:
        return "; ".join(line.strip() for line in self.stderr[-3:])


class WatchingVlc(Vlc):
    """VLC, which saves one of `RATIO` pictures that it shows: of rtp:// it has no statistics."""

    RATIO = 10

    def __init__(self, home: Path, url: str) -> None:
        self._pictures = Path(tempfile.mkdtemp(dir=home))
        self._pictures.chmod(0o777)
        scene = (f"--scene-path={self._pictures}", f"--scene-ratio={self.RATIO}")
        silent = ("--vout=dummy", "--aout=dummy", "--video-filter=scene")
        super().__init__(home, *silent, *scene, url)

    def frames(self) -> int:
        return len(list(self._pictures.iterdir())) * self.RATIO

    def trouble(self) -> str:
        return "; ".join([line.strip() for line in self.stderr if " error: " in line][-3:])


class Video:
    """A video element of the page that a browser has open; `element` is the expression for it."""

    def __init__(self, browser: Browser, element: str) -> None:
        self._browser, self._element = browser, element

    def frames(self) -> int:
        quality = f"{self._element}.getVideoPlaybackQuality()"
        try:
            return int(self._browser.evaluate(f"{quality}.totalVideoFrames"))
        except LabError:
            return 0

    def trouble(self) -> str:
        try:
            return str(self._browser.evaluate(f"`${{{self._element}.error?.message}}`"))
        except LabError as error:
            return str(error)

    def __enter__(self) -> object:
        return self

    def __exit__(self, *exc: object) -> None:
        """Whoever shares the page may still need it: see `Browsers.leave`."""


FRAME_SUM = r"^0, "
"""A frame's line in ffmpeg's format framecrc; the picture is stream 0."""


def vlc(place: StreamPlace, transport: str) -> Decoding:
    url = place.url(transport)
    return WatchingVlc(place.home, url.replace("127.0.0.1", "@") if transport == UDP else url)


def ffmpeg(place: StreamPlace, transport: str) -> Decoding:
    words = ("-nostdin", "-v", "error", "-i", place.url(transport), "-map", "0:v")
    return Counting(FRAME_SUM, "ffmpeg", *words, "-f", "framecrc", "-")


def mpv(place: StreamPlace, transport: str) -> Decoding:
    silent = ("--no-config", "--really-quiet", "--no-audio")
    out = ("--o=/dev/stdout", "--of=framecrc", "--ovc=rawvideo")
    return Counting(FRAME_SUM, "mpv", *silent, *out, place.url(transport))


def gstreamer(place: StreamPlace, transport: str) -> Decoding:
    sources = {
        "udp": f"udpsrc address=127.0.0.1 port={place.port}",
        "rtp": f"udpsrc address=127.0.0.1 port={place.port} caps=application/x-rtp,media=video,"
               "clock-rate=90000,encoding-name=MP2T ! rtpjitterbuffer ! rtpmp2tdepay",
        HTTP: f"souphttpsrc location={place.url(HTTP)}",
        HLS: f"souphttpsrc location={place.url(HLS)} ! hlsdemux",
    }  # fmt: skip
    source = sources[place.mrl.partition(":")[0] if transport == UDP else transport]
    words = f"{source} ! tsdemux ! h264parse ! openh264dec ! fakesink silent=false sync=false"
    return Counting("chain", "gst-launch-1.0", "-v", *words.split())


class Browsers:
    """The browsers, each started when it is needed, and kept for the next source."""

    def __init__(self) -> None:
        self._running: dict[str, Browser] = {}
        self._visited: dict[str, str] = {}

    def open(self, name: str, place: StreamPlace, transport: str) -> Decoding:
        """Watch by the relay's page, or by HLS in an element added to that."""
        if name not in self._running:
            self._running[name] = BROWSERS[name]()
        browser = self._running[name]
        if self._visited.get(name) != place.site:
            self._visited[name] = place.site
            browser.open(place.site)
        if transport == HTTP:
            return Video(browser, "document.querySelector('video')")
        element = f"{{muted: true, autoplay: true, src: '{place.url(HLS)}'}}"
        video = f"Object.assign(document.createElement('video'), {element})"
        browser.evaluate(f"void (window.hls = {video})")
        return Video(browser, "hls")

    def leave(self) -> None:
        """Close the relay's page in each; end a browser that does not answer."""
        for name in self._visited:
            try:
                self._running[name].open("about:blank")
            except LabError:
                self._running.pop(name).close()
        self._visited.clear()

    def close(self) -> None:
        """End them."""
        for browser in self._running.values():
            browser.close()


PLAYERS: dict[str, Callable[[StreamPlace, str], Decoding]] = {
    "VLC": vlc,
    "ffmpeg": ffmpeg,
    "mpv": mpv,
    "GStreamer": gstreamer,
}
IN_PAGES = {"Chromium": "chromium", "Firefox": "firefox"}

VIEWERS = (*PLAYERS, *IN_PAGES)

WHY_NOT = {("Chromium", UDP): NO_UDP, ("Firefox", UDP): NO_UDP, ("Firefox", HLS): NO_HLS}
"""What cannot be, whatever the relay does."""


def watching(viewer: str, place: StreamPlace, transport: str, browsers: Browsers) -> Decoding:
    """Let a viewer watch.

    Raises:
        NeedError: it is not installed.
    """
    if viewer in PLAYERS:
        return PLAYERS[viewer](place, transport)
    return browsers.open(IN_PAGES[viewer], place, transport)
