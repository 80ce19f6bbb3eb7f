"""Real browsers without a window: Chromium by its driver, Firefox by WebDriver BiDi, alike.

There is no geckodriver in Debian, but Firefox itself speaks WebDriver BiDi over a WebSocket. Both
need the package `selenium` (extra `dev`), which brings the WebSocket. Each has a profile of its
own, which goes with it.
"""

import base64
import contextlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, Self

from tools.lab.process import PATIENCE, ChildProcess, LabError, NeedError, need, wait_for


class Browser(Protocol):
    """A browser with one tab. `language` is what it asks for, `dark` the scheme of its colours.

    Whatever it is asked raises LabError where it does not answer.
    """

    def __init__(self, *, language: str = "en", dark: bool = False) -> None: ...

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; of a promise, what comes of it.

        Raises:
            LabError: an exception.
        """

    def errors(self) -> list[str]:
        """Return what the console has had of errors since the last call."""

    def resize(self, width: int, height: int) -> None:
        """Change the size of the page."""

    def screenshot(self, to: Path) -> None:
        """Save what the page looks like, as PNG."""

    def close(self) -> None:
        """End the browser."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Make LabError of what the packages raise."""
    from selenium.common.exceptions import WebDriverException
    from websocket import WebSocketException

    try:
        yield
    except (WebDriverException, WebSocketException) as error:
        raise LabError(f"a browser: {error}") from error


def need_browser(*programs: str) -> None:
    """Go on if these programs and the package are installed.

    Raises:
        NeedError: one is not.
    """
    need(*programs)
    if not all(map(importlib.util.find_spec, ("selenium", "websocket"))):
        raise NeedError("needs the Python package selenium")


class Chromium:
    """Chromium; `driver` is selenium's, for what needs that."""

    def __init__(self, *, language: str = "en", dark: bool = False) -> None:
        need_browser("chromium", "chromedriver")
        from selenium import webdriver

        self._profile = tempfile.mkdtemp(prefix="relay-chromium-")
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for word in (
            *("headless=new", "disable-dev-shm-usage", "disable-gpu", "mute-audio"),
            *("no-first-run", "disable-background-networking", "disable-component-update"),
            *("no-sandbox",) * (os.geteuid() == 0),
            *(f"user-data-dir={self._profile}", f"lang={language}", f"accept-lang={language}"),
            "autoplay-policy=no-user-gesture-required",
        ):
            options.add_argument(f"--{word}")
        options.set_capability("goog:loggingPrefs", {"browser": "SEVERE"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        try:
            with _answering():
                self.driver = webdriver.Chrome(options, service)
        except BaseException:
            shutil.rmtree(self._profile, ignore_errors=True)
            raise
        self.driver.set_page_load_timeout(PATIENCE)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command("Emulation.setEmulatedMedia", features=[scheme])

    def _command(self, name: str, **words: object) -> dict[str, Any]:
        with _answering():
            result: dict[str, Any] = self.driver.execute_cdp_cmd(name, words)
        return result

    def open(self, url: str) -> None:
        """See `Browser`; so are the others below."""
        with _answering():
            self.driver.get(url)

    def evaluate(self, expression: str) -> Any:
        words = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        found = self._command("Runtime.evaluate", expression=expression, **words)
        if "exceptionDetails" in found:
            raise LabError(f"{expression[:200]}: {json.dumps(found['exceptionDetails'])}")
        return found["result"].get("value")

    def errors(self) -> list[str]:
        entries = self.driver.execute("getLog", {"type": "browser"})["value"]
        return [entry["message"] for entry in entries]

    def resize(self, width: int, height: int) -> None:
        self._command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def screenshot(self, to: Path) -> None:
        to.write_bytes(base64.b64decode(self.driver.get_screenshot_as_base64()))

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.driver.quit()
        shutil.rmtree(self._profile, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


_FIREFOX = {
    "app.normandy.enabled": False,
    "app.update.auto": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "media.autoplay.default": 0,
    "media.gmp-manager.updateEnabled": False,
    "media.volume_scale": "0.0",
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
}
_LISTENING = "WebDriver BiDi listening on "


class Firefox:
    """Firefox."""

    def __init__(self, *, language: str = "en", dark: bool = False) -> None:
        need_browser("firefox-esr")
        self._profile = tempfile.mkdtemp(prefix="relay-firefox-")
        chosen = {
            "intl.accept_languages": language,
            "layout.css.prefers-color-scheme.content-override": 0 if dark else 1,
        }
        lines = [
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
            for name, value in {**_FIREFOX, **chosen}.items()
        ]
        Path(self._profile, "user.js").write_text("".join(lines))
        words = ("--headless", "--no-remote", "--remote-debugging-port=0", "--profile")
        self._program = ChildProcess("firefox-esr", *words, self._profile)
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        import websocket

        self._socket: Any = None
        self._number = 0
        self._errors = list[str]()
        said = self._program.stderr
        lines = wait_for(lambda: [each for each in said if each.startswith(_LISTENING)], "Firefox")
        address = f"{lines[0].removeprefix(_LISTENING).strip()}/session"
        self._socket = websocket.create_connection(
            address, timeout=PATIENCE, suppress_origin=True, skip_utf8_validation=True
        )
        self._command("session.new", capabilities={})
        self._command("session.subscribe", events=["log.entryAdded"])
        self._tab = self._command("browsingContext.getTree")["contexts"][0]["context"]

    def _command(self, method: str, **params: object) -> dict[str, Any]:
        self._number += 1
        with _answering():
            self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
            while True:
                message = json.loads(self._socket.recv())
                if message.get("method") == "log.entryAdded":
                    self._log(message["params"])
                if message.get("id") == self._number:
                    break
        if message["type"] == "error":
            raise LabError(f"{method}: {message['error']}: {message['message']}")
        result: dict[str, Any] = message["result"]
        return result

    def _log(self, entry: dict[str, Any]) -> None:
        if entry["level"] == "error":
            self._errors.append(entry.get("text") or json.dumps(entry))

    def open(self, url: str) -> None:
        """See `Browser`; so are the others below."""
        self._command("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        # JSON, because what BiDi returns of objects has to be put together from parts.
        wrapped = f"(async () => JSON.stringify(await ({expression}\n)))()"
        found = self._command(
            "script.evaluate",
            expression=wrapped, awaitPromise=True, userActivation=True,
            target={"context": self._tab},
        )  # fmt: skip
        if found["type"] == "exception":
            raise LabError(f"{expression[:200]}: {found['exceptionDetails']['text']}")
        value = found["result"].get("value")
        return None if value is None else json.loads(value)

    def errors(self) -> list[str]:
        self.evaluate("0")  # what has been said before that arrives before its answer
        errors, self._errors = self._errors, []
        return errors

    def resize(self, width: int, height: int) -> None:
        viewport = {"width": width, "height": height}
        self._command("browsingContext.setViewport", context=self._tab, viewport=viewport)

    def screenshot(self, to: Path) -> None:
        shot = self._command("browsingContext.captureScreenshot", context=self._tab)
        to.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._command("browser.close")
            self._socket.close()
            self._program.wait(10)
        self._program.__exit__()
        shutil.rmtree(self._profile, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


BROWSERS: dict[str, type[Browser]] = {"chromium": Chromium, "firefox": Firefox}
