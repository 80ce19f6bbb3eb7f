"""`/`: the page that shows the picture, and beside it what the relay knows.

Its files are beside this one, in `page/`, and are read once, when the program starts. They name
nothing but their neighbours, so that the page also works behind a proxy that has it in a folder.
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
"""Content-Security-Policy: its own files, the relay, and what it puts together to play (blob:)."""

FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Where they are found, what they are called, and what they are."""


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
    """Read the files; return what answers at which path."""
    folder = files("relaylib.web") / "page"
    return {path: Page((folder / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}
