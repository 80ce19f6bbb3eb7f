"""Real browsers open the page: they play, and it shows what the relay tells."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tools.lab.browser import BROWSERS, Browser, Chromium
from tools.lab.media import NOBODY, studio
from tools.lab.process import ChildProcess, NeedError, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import reload
from tools.lab.sockets import unused_port
from tools.lab.viewer import TestViewer
from tools.lab.web import http_port

LIVE = 1.5
"""Seconds behind the edge that the picture may be."""

POSITION = """({
    time: document.querySelector("video").currentTime,
    frames: document.querySelector("video").getVideoPlaybackQuality().totalVideoFrames,
    state: document.querySelector("#screen").dataset.state,
    behind: Number(document.querySelector("#position").dataset.behind),
})"""

AGREES = """fetch("status.json").then((answer) => answer.json()).then((status) => {
    const [video] = status.stream.programs[0].streams;
    const $ = (id) => document.getElementById(id);
    return $("bitrate").dataset.bits === String(status.stream.bitrate)
        && $("viewers-count").dataset.total === String(status.viewers.total)
        && $("verdict").dataset.word === status.verdict.word
        && $("fact-source").textContent.includes(status.source.address)
        && $("fact-video").textContent.includes(video.codec)
        && $("fact-video").textContent.includes(video.width);
})"""

ROW = """[...document.querySelectorAll(".row[data-state=%s]")].some((row) =>
    row.textContent.includes(":%d"))"""

HISTORY = 'fetch("status.json").then((answer) => answer.json()).then((it) => it.history.seconds)'

AXE = """axe.run().then(({violations}) =>
    violations.map(({id, nodes}) => [id, nodes.map((node) => node.html)]))"""

SEEK = """(() => {
    const bar = document.querySelector("#seek");
    bar.value = -20;
    for (const kind of ["input", "change"]) bar.dispatchEvent(new Event(kind));
})()"""

NOTICE = (
    """document.querySelector("#notice").hidden || document.querySelector("#notice").textContent"""
)

STRANGERS = """performance.getEntriesByType("resource").map(({name}) => name)
    .filter((name) => !name.startsWith(location.origin))"""

ASKED = """performance.getEntriesByType("resource")
    .filter(({name}) => name.includes("live.mp4")).length"""

CLIPS = {
    "MPEG-2 video": ("-c:v", "mpeg2video", "-c:a", "mp2"),
    "HEVC": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=25"),
    "H.264": ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "0"),
}

HEVC = """MediaSource.isTypeSupported('video/mp4; codecs="hvc1.1.6.L60.90, mp4a.40.2"')"""

FOLDER = """
daemon off; error_log stderr; pid nginx.pid; events {{}}
http {{
    access_log off; client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
    uwsgi_temp_path tmp; scgi_temp_path tmp;
    server {{
        listen 127.0.0.1:{port};
        location /tv/ {{ proxy_pass http://127.0.0.1:{origin}/; proxy_buffering off; }}
    }}
}}
"""


def source(relay: RelayProcess, *clip: Path) -> ChildProcess:
    """Send the sample, or a clip, again and again."""
    words = ("127.0.0.1", str(relay.ingest_port), *map(str, clip), "--rtp", "--loop")
    return ChildProcess(sys.executable, "tools/fake_vlc.py", *words)


@pytest.fixture(scope="module")
def playing() -> Iterator[RelayProcess]:
    """A relay with a source, whose history grows from one test to the next."""
    with RelayProcess("--http", "127.0.0.1:0") as relay, source(relay):
        relay.wait_event("ingest_started")
        yield relay
        assert not relay.events("bug")


def page(relay: RelayProcess) -> str:
    """Return the address of a relay's page."""
    return f"http://127.0.0.1:{http_port(relay)}/"


def click(browser: Browser, name: str) -> None:
    browser.evaluate(f"document.querySelector('#{name}').click()")


def wait_position(browser: Browser, wanted: Callable[[dict[str, Any]], bool], what: str) -> None:
    """Wait until the picture moves, and is where it is wanted."""
    last: dict[str, Any] = {"time": 0.0, "frames": 0}

    def arrived() -> bool:
        nonlocal last
        before, last = last, browser.evaluate(POSITION)
        moves = last["time"] > before["time"] and last["frames"] > before["frames"]
        return wanted(last) and bool(moves and last["state"] == "playing")

    wait_for(arrived, f"the picture, {what}")


def is_live(position: dict[str, Any]) -> bool:
    behind = position["behind"]  # null, until it is known
    return behind is not None and bool(behind <= LIVE)


def is_later(error: str) -> bool:
    """Tell whether the relay only wanted to be asked again, which Chromium calls an error."""
    return "live.mp4" in error and " 503 " in error


@pytest.mark.parametrize("name", BROWSERS)
def test_watching(playing: RelayProcess, name: str) -> None:
    """The picture plays near the edge, goes back and live again; the numbers are the relay's."""
    with BROWSERS[name](language="en") as browser:
        browser.open(page(playing))
        wait_position(browser, is_live, "live")
        wait_for(lambda: browser.evaluate(AGREES), "the numbers of /status.json on the page")
        wait_for(lambda: browser.evaluate(HISTORY) > 22, "some history")
        browser.evaluate(SEEK)
        wait_position(browser, lambda position: 18 < position["behind"] < 23, "in the past")
        click(browser, "live")
        wait_position(browser, is_live, "live again")
        click(browser, "play")
        wait_for(lambda: browser.evaluate("document.querySelector('video').paused"), "a pause")
        click(browser, "play")
        wait_position(browser, lambda _: True, "after a pause")
        assert browser.evaluate(STRANGERS) == []
        assert [error for error in browser.errors() if not is_later(error)] == []


def test_a_viewer_that_pauses_is_shown_within_a_second(playing: RelayProcess) -> None:
    """By UDP, and on the page."""
    with Chromium() as browser, TestViewer(playing.port).subscribe() as viewer:
        browser.open(page(playing))
        waits = []
        for state, command in (("streaming", "CONTINUAR"), ("paused", "INTERRUMPIR")) * 3:
            viewer.command(command)
            told = time.monotonic()
            row = ROW % (state, viewer.port)
            wait_for(lambda row=row: browser.evaluate(row), f"a viewer, {state}")  # type: ignore[misc]
            waits.append(time.monotonic() - told)
        assert min(waits[1::2]) < 1.0  # of three, on a machine that does other things, too


@pytest.mark.parametrize("name", BROWSERS)
def test_a_relay_that_comes_again(name: str) -> None:
    """The page goes on after a reload, and when another relay is in the place of the first."""
    with ExitStack() as stack:
        browser = stack.enter_context(BROWSERS[name](language="es"))
        with RelayProcess("--http", "127.0.0.1:0") as relay, source(relay):
            port = http_port(relay)
            browser.open(page(relay))
            wait_position(browser, is_live, "live")
            reload(relay)
            wait_position(browser, is_live, "after a reload")
        wait_for(lambda: browser.evaluate(POSITION)["state"] == "again", "the end")
        relay = stack.enter_context(RelayProcess("--http", f"127.0.0.1:{port}"))
        stack.enter_context(source(relay))
        wait_position(browser, is_live, "live again")


@pytest.mark.parametrize("name", BROWSERS)
def test_what_browsers_do_not_play(name: str) -> None:
    """It is said by name, with addresses for VLC, and not asked for; another source plays again."""
    need("ffmpeg")
    with (
        studio() as room,
        RelayProcess("--http", "127.0.0.1:0") as relay,
        BROWSERS[name]() as browser,
    ):
        clips = {codec: make(room / f"{at}.ts", codec) for at, codec in enumerate(CLIPS)}
        browser.open(page(relay))
        with source(relay, clips["MPEG-2 video"]):
            said = "Browsers do not play MPEG-2 video"
            wait_for(lambda: said in str(browser.evaluate(NOTICE)), "a notice")
            assert page(relay) + "live.ts" in browser.evaluate(NOTICE)
            assert browser.evaluate(ASKED) == 0
            assert browser.errors() == []
        with source(relay, clips["HEVC"]):
            if browser.evaluate(HEVC):
                wait_position(browser, is_live, "HEVC")
            else:
                said = "This browser does not play HEVC"
                wait_for(lambda: said in str(browser.evaluate(NOTICE)), "a notice")
        with source(relay, clips["H.264"]):
            wait_position(browser, is_live, "H.264")


def make(clip: Path, codec: str) -> Path:
    """Make a clip that goes on for a while."""
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25", "-f", "lavfi", "-i", "sine")
    outputs = ("-t", "6", "-c:a", "aac", *CLIPS[codec], "-f", "mpegts", str(clip))
    subprocess.run(["ffmpeg", "-v", "error", *inputs, *outputs], check=True, timeout=60)
    return clip


def test_a_browser_that_plays_hls_itself(playing: RelayProcess) -> None:
    """Without Media Source Extensions the picture is that of /live.m3u8; it pauses and goes on."""
    with Chromium() as browser:
        without = {"source": "delete globalThis.MediaSource; delete globalThis.ManagedMediaSource"}
        browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", without)
        browser.open(page(playing))
        wait_position(browser, lambda _: True, "by HLS")
        assert browser.evaluate("document.querySelector('video').src").endswith("/live.m3u8")
        click(browser, "play")
        wait_for(lambda: browser.evaluate("document.querySelector('video').paused"), "a pause")
        click(browser, "live")
        wait_position(browser, lambda _: True, "again")
        assert browser.errors() == []


def test_in_a_folder_behind_a_proxy(playing: RelayProcess) -> None:
    """All that the page asks for is asked for in its folder."""
    need("nginx", "setpriv")
    drop = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    with studio() as room, Chromium() as browser:
        port, conf = unused_port(), room / "nginx.conf"
        conf.write_text(FOLDER.format(port=port, origin=http_port(playing)))
        words = ("nginx", "-p", room, "-c", conf, "-e", "stderr")
        with ChildProcess(*(drop if os.geteuid() == 0 else ()), *words) as nginx:
            wait_for(lambda: is_open(port), "nginx")
            browser.open(f"http://127.0.0.1:{port}/tv/")
            wait_position(browser, is_live, "live")
            wait_for(lambda: browser.evaluate(AGREES), "the numbers of /status.json on the page")
            assert browser.errors() == []
            nginx.stop()  # not killed: its children would stay


def is_open(port: int) -> bool:
    """Tell whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_violation(playing: RelayProcess, dark: bool) -> None:
    """The accessibility checker axe has nothing to say, on a phone, a desk or a wall."""
    found = importlib.util.find_spec("axe_selenium_python")
    if found is None or found.origin is None:
        raise NeedError("needs the Python package axe-selenium-python")
    axe = Path(found.origin).parent / "node_modules/axe-core/axe.min.js"
    with ExitStack() as stack:
        browser = stack.enter_context(Chromium(language="es", dark=dark))
        silent = stack.enter_context(RelayProcess("--http", "127.0.0.1:0"))
        stack.enter_context(TestViewer(playing.port)).subscribe()
        for relay in (silent, playing):
            browser.open(page(relay))
            if relay is playing:
                wait_position(browser, lambda _: True, "playing")
            browser.evaluate(f"{axe.read_text()}\n;0")
            for width in (390, 1440, 2560):
                browser.resize(width, 900)
                assert browser.evaluate(AXE) == []
                wide = "document.documentElement.scrollWidth <= innerWidth"
                assert browser.evaluate(wide), "the page scrolls sideways"
