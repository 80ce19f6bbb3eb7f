"""Answers that are the same for everyone, errors included: caches may keep those, too.

An edge lets one of the clients that ask for the same thing ask the relay, and the others wait. If
it may not keep the answer, each of them asks in turn: a flood of requests for a segment that does
not exist would get through.
"""

from relaylib.errors import HttpError
from relaylib.web.reply import BRIEFLY, Response, StreamBody, StreamResource, error
from relaylib.web.request import HttpRequest
from relaylib.web.stream_state import StreamState


class Shared:
    """A resource whose answers depend on the path alone."""

    def __init__(self, resource: StreamResource) -> None:
        self._resource = resource

    def respond(self, request: HttpRequest, now: float) -> Response:
        """Answer; an error is a response that may be kept for a second."""
        try:
            return self._resource.respond(request, now)
        except HttpError as wrong:
            return error(wrong, BRIEFLY, is_media=True)

    def restore(self, saved: StreamState) -> StreamBody:
        """Go on with a stream of the previous program."""
        return self._resource.restore(saved)
