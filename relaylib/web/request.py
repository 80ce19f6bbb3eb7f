"""What a request asks: its target, the relay's name in it, and the client it comes from. Pure.

A browser sends requests to this relay for any page that makes its name resolve to our address (DNS
rebinding). It cannot lie about that name: the field Host has it. So a Host must be an address,
localhost, this machine's name, or a name from the configuration.
"""

import ipaddress
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from relaylib.errors import HttpError
from relaylib.net.address import is_ip
from relaylib.net.networks import Network, contains

TARGET_CAP = 2048
"""Bytes of a target: ten times what any path of the relay needs."""

_SHOWN = 80
"""Characters of a value that are echoed."""

_MOST_FIELDS = 16
"""Fields in a query."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to read something; `client` is its address, from `X-Forwarded-For` behind a proxy.

    The names of headers are in lower case; the values of a repeated header are joined.
    """

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    client: str


def read_method(method: bytes) -> None:
    """Make sure that the method only reads.

    Raises:
        HttpError: it does not.
    """
    if method not in (b"GET", b"HEAD"):
        raise HttpError(405, "aqui solo se lee: GET y HEAD", "method")


def announces_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether a body follows, in the reading of any program."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in headers
    )


def read_headers(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Join headers by name, and make sure that no body follows them.

    Raises:
        HttpError: a body follows, or there are two lengths, which two programs read in two ways.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    if "transfer-encoding" in found and "content-length" in found:
        raise HttpError(400, "Transfer-Encoding y Content-Length a la vez", "framing")
    if announces_body(headers):
        raise HttpError(413, "aqui no se admiten peticiones con cuerpo", "body")
    return found


def read_target(target: bytes) -> tuple[str, dict[str, str]]:
    """Read an origin-form target (RFC 9112, 3.2.1): its decoded path, and its query.

    Raises:
        HttpError: it is of another form, too long, or not what it looks like.
    """
    if len(target) > TARGET_CAP:
        raise HttpError(414, f"la direccion pasa de {TARGET_CAP} bytes", "target")
    path, _, query = target.decode("latin-1").partition("?")
    decoded = _decode(path)
    parts = decoded.split("/")
    if not decoded.startswith("/") or "\\" in decoded or {".", ".."} & set(parts):
        raise _bad_target()
    if "" in parts[1:-1] or not decoded.isprintable():
        raise _bad_target()
    try:
        fields = urllib.parse.parse_qsl(
            query,
            keep_blank_values=True,
            strict_parsing=bool(query),
            max_num_fields=_MOST_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise _bad_target() from None
    return decoded, dict(fields)


def _decode(path: str) -> str:
    if "#" in path:
        raise _bad_target()
    for piece in path.split("%")[1:]:
        if len(piece) < 2 or not set(piece[:2]) <= _HEX:
            raise _bad_target()
    try:
        return urllib.parse.unquote_to_bytes(path).decode()
    except ValueError:
        raise _bad_target() from None


_HEX = set("0123456789abcdefABCDEF")


def _bad_target() -> HttpError:
    return HttpError(400, "la direccion no es valida", "target")


def quoted(text: str) -> str:
    """Quote a peer's value for a person: printable ASCII, bounded."""
    return f"'{_shown(text)}'"


def _shown(text: str) -> str:
    return "".join(each if " " <= each <= "~" else "?" for each in text[:_SHOWN])


class Names:
    """The names by which this relay may be called."""

    def __init__(self, machine: str, others: tuple[str, ...]) -> None:
        own = machine.lower()
        short = own.partition(".")[0]
        self._names = {"localhost", own, short, f"{short}.local", *others}  # .local: RFC 6762

    def check(self, host: str | None) -> None:
        """Make sure that the field Host is one of the names, or an address.

        HTTP/1.0 has no Host; no browser speaks it.

        Raises:
            HttpError: it is not.
        """
        if host is None:
            return
        name = _without_port(host)
        if not is_ip(name.strip("[]")) and name.rstrip(".").lower() not in self._names:
            shown = _shown(name)
            raise HttpError(421, f"este relay no se llama '{shown}' (--http-host)", "host", shown)


def _without_port(host: str) -> str:
    if host.startswith("["):
        name, bracket, port = host.partition("]")
        return name + bracket if bracket and (not port or _is_port(port)) else ""
    name, colon, port = host.partition(":")
    return name if not colon or _is_port(colon + port) else ""


def _is_port(text: str) -> bool:
    return text[0] == ":" and (text == ":" or (text[1:].isascii() and text[1:].isdecimal()))


def client_of(peer: str, forwarded: str | None, trusted: tuple[Network, ...]) -> str:
    """Return the client's address: the last in X-Forwarded-For that is no trusted proxy.

    Any client can have written the addresses before that one.
    """
    address = peer
    for each in reversed((forwarded or "").split(",")):
        if not contains(trusted, address):
            break
        candidate = _plain(each.strip())
        if candidate is None:
            break
        address = candidate
    return address


def _plain(text: str) -> str | None:
    """Return the address, without brackets and port; None: it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
