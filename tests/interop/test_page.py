"""Real browsers open the page: they play, and it shows what the relay tells."""

import importlib.util
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tools.lab.browser import BROWSERS, Browser
from tools.lab.process import NeedError, Program, wait_for
from tools.lab.relay import Relay
from tools.lab.viewer import Viewer
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
    bar.value = -6;
    for (const kind of ["input", "change"]) bar.dispatchEvent(new Event(kind));
})()"""


def source(relay: Relay) -> Program:
    """Send the sample, again and again."""
    words = ("tools/fake_vlc.py", "127.0.0.1", str(relay.ingest_port), "--rtp", "--loop")
    return Program(sys.executable, *words)


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
def test_watching(name: str) -> None:
    """The picture plays near the edge, goes back and live again; the numbers are the relay's."""
    with ExitStack() as stack:
        browser = stack.enter_context(BROWSERS[name](language="en"))
        relay = stack.enter_context(Relay("--http", "127.0.0.1:0"))
        stack.enter_context(source(relay))
        wait_for(lambda: relay.events("ingest_started"), "the source")
        browser.open(f"http://127.0.0.1:{http_port(relay)}/")
        wait_position(browser, is_live, "live")
        wait_for(lambda: browser.evaluate(AGREES), "the numbers of /status.json on the page")
        viewer = stack.enter_context(Viewer(relay.port)).subscribe()
        for state, command in (("streaming", "ESTADO"), ("paused", "INTERRUMPIR")):
            assert viewer.command(command).startswith("OK")
            row = ROW % (state, viewer.port)
            wait_for(lambda row=row: browser.evaluate(row), f"a viewer, {state}")  # type: ignore[misc]
        wait_for(lambda: browser.evaluate(HISTORY) > 8, "some history")
        browser.evaluate(SEEK)
        wait_position(browser, lambda position: 4 < position["behind"] < 9, "in the past")
        click(browser, "live")
        wait_position(browser, is_live, "live again")
        click(browser, "play")
        wait_for(lambda: browser.evaluate("document.querySelector('video').paused"), "a pause")
        click(browser, "play")
        wait_position(browser, lambda _: True, "after a pause")
        assert [error for error in browser.errors() if not is_later(error)] == []


@pytest.mark.parametrize("name", BROWSERS)
def test_a_relay_that_comes_again(name: str) -> None:
    """The page that was open before the relay ended plays what the next one has."""
    with ExitStack() as stack:
        browser = stack.enter_context(BROWSERS[name](language="es"))
        with Relay("--http", "127.0.0.1:0") as relay, source(relay):
            port = http_port(relay)
            browser.open(f"http://127.0.0.1:{port}/")
            wait_position(browser, is_live, "live")
        wait_for(lambda: browser.evaluate(POSITION)["state"] == "again", "the end")
        relay = stack.enter_context(Relay("--http", f"127.0.0.1:{port}"))
        stack.enter_context(source(relay))
        wait_position(browser, is_live, "live again")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_violation(dark: bool) -> None:
    """The accessibility checker of browsers' makers has nothing to say, on a phone or a desk."""
    found = importlib.util.find_spec("axe_selenium_python")
    if found is None or found.origin is None:
        raise NeedError("needs the Python package axe-selenium-python")
    axe = Path(found.origin).parent / "node_modules/axe-core/axe.min.js"
    with ExitStack() as stack:
        browser = stack.enter_context(BROWSERS["chromium"](language="es", dark=dark))
        relay = stack.enter_context(Relay("--http", "127.0.0.1:0"))
        stack.enter_context(source(relay))
        stack.enter_context(Viewer(relay.port)).subscribe()
        browser.open(f"http://127.0.0.1:{http_port(relay)}/")
        wait_position(browser, lambda _: True, "playing")
        browser.evaluate(f"{axe.read_text()}\n;0")
        for width in (390, 1440):
            browser.resize(width, 900)
            assert browser.evaluate(AXE) == []
            wide = "document.documentElement.scrollWidth <= innerWidth"
            assert browser.evaluate(wide), "the page scrolls sideways"
