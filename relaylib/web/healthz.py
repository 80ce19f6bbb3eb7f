"""`/healthz`: whether there is a stream to be had, for balancers."""

from collections.abc import Callable

from relaylib.errors import HttpError
from relaylib.web.reply import Response
from relaylib.web.request import HttpRequest

GOOD = {"healthy", "network", "active"}
"""Verdicts that are no reason to send viewers elsewhere: one viewer's path (`network`) is not the
relay's fault, and a relay that does not look into the stream says nothing but `active`."""


class Healthz:
    """200 or 503, with the verdict, a word that `say` returns."""

    def __init__(self, say: Callable[[], str]) -> None:
        self._say = say

    def respond(self, _request: HttpRequest, _now: float) -> Response:
        word = self._say()
        if word not in GOOD:
            raise HttpError(503, word)
        return Response(f"{word}\n".encode())
