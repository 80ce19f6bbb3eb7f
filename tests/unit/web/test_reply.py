"""What every response has, and what some have."""

import gzip

import pytest

from relaylib.errors import HttpError
from relaylib.web.reply import Response, complete, error
from relaylib.web.request import HttpRequest

PAGE = b"<p>page</p>" * 100


def reply(
    response: Response, cors: str | None = None, **asked: str
) -> tuple[int, dict[str, str], bytes]:
    """Complete a response to a request with these headers."""
    headers = {name.replace("_", "-"): value for name, value in asked.items()}
    request = HttpRequest("/", {}, headers, "192.0.2.1")
    status, pairs, body = complete(response, request, 784111777.5, cors)
    assert len(dict(pairs)) == len(pairs)
    return status, dict(pairs), body


def test_every_response_is_strict() -> None:
    """Even an error to what is no request allows nothing, and has its date (RFC 9110, 5.6.7)."""
    status, pairs, body = complete(error(HttpError(431, "largo")), None, 784111777.5, None)
    headers = dict(pairs)
    assert (status, body) == (431, b"largo\n")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Date"] == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert headers["Content-Length"] == "6"
    assert "Set-Cookie" not in headers


def test_a_resource_may_say_otherwise() -> None:
    """A page has a policy of its own."""
    _, headers, _ = reply(Response(b"", headers={"Content-Security-Policy": "default-src 'self'"}))
    assert headers["Content-Security-Policy"] == "default-src 'self'"


@pytest.mark.parametrize(
    ("known", "status"),
    [('"7"', 304), ('W/"7"', 304), ('"6", "7"', 304), ("*", 304), ('"6"', 200), ("7", 200)],
)
def test_who_has_a_version_gets_none(known: str, status: int) -> None:
    """If-None-Match with this version gets 304 without a body, and the version."""
    got, headers, body = reply(Response(PAGE, etag="7"), if_none_match=known)
    assert got == status
    assert headers["ETag"] == '"7"'
    assert body == (PAGE if status == 200 else b"")


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=0", False), ("gzip; q=0.0", False),
     ("br", False), ("", False)],
)  # fmt: skip
def test_gzip_for_who_takes_it(accepted: str, compressed: bool) -> None:
    """A body is compressed if it is worth it and wanted; caches are told that it depends."""
    _, headers, body = reply(Response(PAGE, compress=True), accept_encoding=accepted)
    assert headers["Vary"] == "Accept-Encoding"
    assert (headers.get("Content-Encoding") == "gzip") is compressed
    assert (gzip.decompress(body) if compressed else body) == PAGE
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize("cors", [None, "*", "https://a.example"])
def test_other_origins_read_the_stream_alone(cors: str | None) -> None:
    """--cors is for what is marked as media; all are told for which origin, whoever asks."""
    for is_media in (True, False):
        wanted = cors if is_media else None
        for origin in ("https://a.example", "https://b.example", ""):
            _, headers, _ = reply(Response(b"", is_media=is_media), cors, origin=origin)
            assert headers.get("Access-Control-Allow-Origin") == wanted
            policy = headers["Cross-Origin-Resource-Policy"]
            assert policy == ("cross-origin" if wanted == "*" else "same-origin")
            assert "Vary" not in headers


ASKERS: list[dict[str, str]] = [
    {},
    {"origin": "https://a.example"},
    {"origin": "https://b.example", "cookie": "a=b", "user_agent": "x"},
    {"x_forwarded_for": "192.0.2.1", "accept_language": "es"},
]


@pytest.mark.parametrize("cors", [None, "*", "https://a.example"])
@pytest.mark.parametrize("accepted", ["", "gzip"])
@pytest.mark.parametrize("known", ["", '"7"'])
def test_what_may_be_kept_is_the_same_for_everyone(
    cors: str | None, accepted: str, known: str
) -> None:
    """But for the encoding, of which `Vary` tells in 304, too, nobody gets another answer."""
    page = Response(PAGE, cache="public, max-age=2", etag="7", compress=True, is_media=True)
    answers = [
        reply(page, cors, accept_encoding=accepted, if_none_match=known, **asker)
        for asker in ASKERS
    ]
    assert answers.count(answers[0]) == len(answers)
    assert answers[0][1]["Vary"] == "Accept-Encoding"
