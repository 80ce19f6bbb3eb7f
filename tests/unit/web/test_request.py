"""What may be asked of the web, and by which name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.errors import HttpError
from relaylib.net.networks import ANY, PRIVATE, Network, contains
from relaylib.web.request import (
    TARGET_CAP,
    Names,
    client_of,
    read_headers,
    read_method,
    read_target,
)

NAMES = Names("Studio.example.org", ("tv.example.org",))


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", {}),
        (b"/live.ts", "/live.ts", {}),
        (b"/live.ts?back=20", "/live.ts", {"back": "20"}),
        (b"/live.ts?back=&x=%20+", "/live.ts", {"back": "", "x": "  "}),
        (b"/hls/%61%2eb", "/hls/a.b", {}),
        (b"/ca%C3%B1a", "/caña", {}),
        (b"/a/", "/a/", {}),
        (b"/a..b/.c", "/a..b/.c", {}),
    ],
)
def test_a_target_is_read(target: bytes, path: str, query: dict[str, str]) -> None:
    """Path and query are decoded, once."""
    assert read_target(target) == (path, query)


@pytest.mark.parametrize(
    "target",
    [
        b"", b"*", b"live.ts", b"http://localhost/live.ts", b"localhost:80", b"/..", b"/a/../b",
        b"/%2e%2e/etc", b"/.%2E", b"/./a", b"//a", b"/a//b", b"/%2F/a", b"/a%5c..%5cb", b"/a\\b",
        b"/%", b"/%4", b"/%zz", b"/%+1", b"/%ff", b"/%00", b"/%0d%0aX: y", b"/a#b", b"/a?b=%ff",
        b"/a?b", b"/a?" + b"&".join(b"f%d=1" % each for each in range(17)),
    ],
)  # fmt: skip
def test_a_target_that_is_not_what_it_looks_like_is_refused(target: bytes) -> None:
    """Other forms, ways upward, controls and wrong escapes are no addresses."""
    with pytest.raises(HttpError) as wrong:
        read_target(target)
    assert wrong.value.status == 400


@given(st.binary(max_size=100).map(lambda tail: b"/" + tail))
def test_a_path_never_leads_upward(target: bytes) -> None:
    """Whatever the bytes, a path is absolute, clean and printable, or refused."""
    try:
        path, _ = read_target(target)
    except HttpError:
        pass
    else:
        assert path.startswith("/")
        assert not {"..", "."} & set(path.split("/"))
        assert path.isprintable()


def test_a_long_target_has_a_status_of_its_own() -> None:
    """Too long is 414, however it ends."""
    with pytest.raises(HttpError) as wrong:
        read_target(b"/" + b"a" * TARGET_CAP)
    assert wrong.value.status == 414


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"get", b"X"])
def test_only_reading_is_possible(method: bytes) -> None:
    """Any other method is 405."""
    with pytest.raises(HttpError) as wrong:
        read_method(method)
    assert wrong.value.status == 405


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"content-length", b"5"), (b"transfer-encoding", b"chunked")], 400),
        ([(b"content-length", b"0"), (b"transfer-encoding", b"chunked")], 400),
        ([(b"transfer-encoding", b"chunked")], 413),
        ([(b"content-length", b"10")], 413),
    ],
)
def test_no_body_is_taken(headers: list[tuple[bytes, bytes]], status: int) -> None:
    """A request with a body, or with two lengths for it, is refused."""
    with pytest.raises(HttpError) as wrong:
        read_headers(headers)
    assert wrong.value.status == status


def test_headers_are_joined() -> None:
    """Of a header that comes twice both values count; a body of no bytes is none."""
    headers = [(b"accept", b"a"), (b"content-length", b"0"), (b"accept", b"\xe9")]
    assert read_headers(headers) == {"accept": "a, \xe9", "content-length": "0"}


@pytest.mark.parametrize(
    "host",
    [
        None, "127.0.0.1", "192.168.1.5:8080", "[::1]:8080", "[2001:db8::1]", "localhost",
        "LOCALHOST:8080", "localhost.:80", "studio", "studio.local", "studio.example.org:",
        "tv.example.org",
    ],
)  # fmt: skip
def test_our_names(host: str | None) -> None:
    """Addresses, localhost, the machine's name and those that were given are ours."""
    NAMES.check(host)


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:8080",
        "localhost:80@evil.example", "127.0.0.1:x", "[::1", "[::1]x", "[localhost]:x", "é", "a b",
        "localhost:٣", "studio:80:80",
    ],
)  # fmt: skip
def test_other_names_are_refused(host: str) -> None:
    """A name that resolves to us is not ours for that; the refusal is ASCII."""
    with pytest.raises(HttpError) as wrong:
        NAMES.check(host)
    assert wrong.value.status == 421
    assert str(wrong.value).isascii()


PROXIES: tuple[Network, ...] = PRIVATE[:2]  # 127.0.0.0/8, 10.0.0.0/8


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.1", "198.51.100.7", "203.0.113.1"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "1.2.3.4, 198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("127.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("127.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("127.0.0.1", "[2001:db8::7]:80", "2001:db8::7"),
        ("127.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.7, nonsense, 10.0.0.2", "10.0.0.2"),
        ("127.0.0.1", "", "127.0.0.1"),
    ],
)
def test_only_a_trusted_proxy_says_who_it_is_for(
    peer: str, forwarded: str | None, client: str
) -> None:
    """X-Forwarded-For is read from its end, as far as trusted proxies wrote it."""
    assert client_of(peer, forwarded, PROXIES) == client


@given(st.text(max_size=60))
def test_any_x_forwarded_for_gives_an_address(text: str) -> None:
    """Whatever somebody writes there, an address comes out."""
    assert contains(ANY, client_of("10.0.0.1", text, PROXIES))
