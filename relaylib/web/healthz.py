"""`/healthz`: whether there is a stream to be had, for balancers."""

from collections.abc import Callable

from relaylib.errors import HttpError
from relaylib.web.reply import Response
from relaylib.web.request import Request


class Healthz:
    """200 or 503, with the verdict: a word, and whether it is a good one."""

    def __init__(self, verdict: Callable[[], tuple[str, bool]]) -> None:
        self._verdict = verdict

    def respond(self, _request: Request, _now: float) -> Response:
        word, good = self._verdict()
        if not good:
            raise HttpError(503, word)
        return Response(f"{word}\n".encode())
