"""`/`: the page that shows the picture, and beside it the state of the relay.

Its files are in `page/`, beside this file, and are read once, when the program starts. They refer
to each other by relative names only, so that the page also works in a folder of a proxy.
"""

import hashlib
from importlib.resources import files

from relaylib.web.reply import Resource, Response
from relaylib.web.request import HttpRequest

POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'",
    "connect-src 'self'", "media-src 'self' blob:", "base-uri 'none'", "form-action 'none'",
    "frame-ancestors 'none'",
))  # fmt: skip
"""Content-Security-Policy: the page's files, the relay, and media that it assembles (blob:)."""

FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""By path: name of the file, and its media type."""


class Page:
    """A file that never changes while the program runs. Browsers ask each time whether it has."""

    def __init__(self, body: bytes, kind: str) -> None:
        self._response = Response(
            body,
            kind,
            cache="no-cache",
            etag=hashlib.sha256(body).hexdigest()[:16],
            compress=True,
            headers={"Content-Security-Policy": POLICY},
        )

    def respond(self, _request: HttpRequest, _now: float) -> Response:
        return self._response


def pages() -> dict[str, Resource]:
    """Read the files; return the resources by path."""
    folder = files("relaylib.web") / "page"
    return {path: Page((folder / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}
