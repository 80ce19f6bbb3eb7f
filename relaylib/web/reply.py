"""What is answered: a status, headers that allow no more than necessary, a body. Pure.

A resource says what is in the body and for how long it may be kept. The headers of all responses
are added here: the page of a response may run nothing, be framed nowhere, and tell no other site
where it was opened, unless the resource allows it.

What a cache may keep is the same for every client: no header depends on the request, but for the
encoding, and `Vary` says so. Caches in front of the relay may ignore `Vary`.
"""

import functools
import http
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Protocol, runtime_checkable

from relaylib.errors import HttpError
from relaylib.web.request import HttpRequest
from relaylib.web.stream_state import StreamState

TEXT = "text/plain; charset=utf-8"

FOREVER = "public, max-age=31536000, immutable"
"""`cache` of bodies that never change."""

BRIEFLY = "public, max-age=1"
"""`cache` of answers that may change within a second: that something is not there."""

NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
"""Content-Security-Policy of responses that are no page."""

_WORTH_COMPRESSING = 512
"""Bytes below which compression, with a header more, saves nothing."""

Piece = bytes | memoryview
"""Part of a body."""


class NotYetError(HttpError):
    """503, unless another attempt succeeds soon: `again` is the function to call then."""

    def __init__(self, text: str, again: "Callable[[HttpRequest, float], Response]") -> None:
        super().__init__(503, text)
        self.again = again


class StreamEndError(Exception):
    """A stream has no more, or drops its reader; `str()` is the reason, in the log's words."""


class StreamBody(Protocol):
    """A body without end, or with a `Response.length`, which keeps its own place in what it sends.

    `skipped` counts how often it had to leave something out. A stream without its reader is just
    dropped.
    """

    skipped: int

    def look(self, until: float, most: int) -> Sequence[Piece]:
        """Return the next bytes, of those there were at `until`: up to `most` or a few more, in at
        most 1,000 pieces; an empty sequence if nothing has come.

        Raises:
            StreamEndError: there will be no more.
        """

    def taken(self, byte_count: int) -> None:
        """Note that so many bytes of what `look` returned have been sent; not always all."""

    def export(self) -> "StreamState | None":
        """Return what the next program needs to go on; None: the reader has to come again."""


class MediaStream(StreamBody, Protocol):
    """A stream that is watched: with `delay` it is listed among the viewers."""

    def delay(self, now: float) -> float | None:
        """Return the seconds that the next byte is behind the newest one; None: unknown."""


@dataclass(slots=True)
class Response:
    """An answer.

    Args:
        cache: the field Cache-Control.
            etag: tells versions of a body apart: a client that has this one gets no body again
            (304). compress: use gzip for clients that take it. The same `bytes` object is
            compressed once. is_media: pages of other origins may read it, if the configuration
            allows any (CORS). length: bytes of a stream that has an end: it is sent as fast as its
            reader takes it, and
                the connection may be used again.
            headers: further headers, which take the place of those that all responses have.
    """

    body: bytes | StreamBody
    kind: str = TEXT
    status: int = 200
    cache: str = "no-store"
    etag: str = ""
    compress: bool = False
    is_media: bool = False
    length: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Resource(Protocol):
    """What can be asked for at a path."""

    def respond(self, request: HttpRequest, now: float) -> Response:
        """Answer a request.

        Raises:
            HttpError: with the status and the sentence to answer instead.
            NotYetError: the answer will be known soon.
        """


@runtime_checkable
class StreamResource(Resource, Protocol):
    """A resource whose streams survive a reload."""

    def restore(self, saved: StreamState) -> StreamBody:
        """Go on with a stream of the previous program."""


def error(wrong: HttpError, cache: str = "no-store", *, is_media: bool = False) -> Response:
    """Make a response of an error."""
    headers = {"Allow": "GET, HEAD"} if wrong.status == 405 else {}
    if wrong.status in (429, 503):
        headers["Retry-After"] = "2"
    body = f"{wrong}\n".encode()
    return Response(body, status=wrong.status, cache=cache, is_media=is_media, headers=headers)


def complete(
    response: Response, request: HttpRequest | None, wall_time: float, cors: str | None
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return status, headers and body; the body of a stream is left out. `request` is None if the
    request could not be read.
    """
    asked = {} if request is None else request.headers
    status, body = response.status, b""
    headers = {
        "Date": _date(int(wall_time)),
        "Server": "relay",
        "Content-Type": response.kind,
        "Cache-Control": response.cache,
        "Content-Security-Policy": NO_PAGE,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        **(_shared(cors) if response.is_media else {}),
        **response.headers,
    }
    if response.etag:
        headers["ETag"] = f'"{response.etag}"'
        if _matches(response.etag, asked.get("if-none-match")):
            status = 304
    if isinstance(response.body, bytes):
        body = b"" if status == 304 else response.body
        if response.compress and len(response.body) >= _WORTH_COMPRESSING:
            headers["Vary"] = "Accept-Encoding"
            if body and _takes_gzip(asked.get("accept-encoding", "")):
                headers["Content-Encoding"] = "gzip"
                body = _gzip(body)
        if status != 304:
            headers["Content-Length"] = str(len(body))
    elif response.length is not None:
        if status != 304:
            headers["Content-Length"] = str(response.length)
    else:
        headers["X-Accel-Buffering"] = "no"  # nginx: pass on what comes as it comes
    return status, list(headers.items()), body


def head(status: int, headers: Sequence[tuple[str, str]], *, closes: bool = True) -> bytes:
    """Write the head of a response, after which the connection is not used again if it `closes`."""
    lines = [_status_line(status)]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += ["Connection: close"] if closes else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@functools.lru_cache(64)
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}"


@functools.lru_cache(2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


@functools.lru_cache(16)
def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # 16: with gzip's header
    return packer.compress(body) + packer.flush()


def _takes_gzip(accepted: str) -> bool:
    """Read Accept-Encoding (RFC 9110, 12.5.3) as far as it is about gzip."""
    for each in accepted.lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return weight.replace(" ", "").removeprefix("q=").strip("0.") != "" or not weight
    return False


def _matches(etag: str, known: str | None) -> bool:
    """Compare weakly (RFC 9110, 13.1.2)."""
    tags = {each.strip().removeprefix("W/") for each in (known or "").split(",")}
    return f'"{etag}"' in tags or "*" in tags


def _shared(cors: str | None) -> dict[str, str]:
    """Let pages of another origin read this, if the configuration names one.

    Every client is told the origin, and browsers compare it. To tell only pages of that origin
    would save nothing, and a cache that keeps one answer would give it to all others.
    """
    if not cors:
        return {}
    headers = {"Access-Control-Allow-Origin": cors}
    if cors == "*":
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return headers
