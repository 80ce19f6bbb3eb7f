"""Every exception the project raises on purpose.

Two families, because they end differently. A `PeerError` means that the peer is wrong: it gets one
reply, perhaps a closed connection, and the log gets one line. A `SetupError` means that the person
who started the program is wrong: one line on stderr and an exit status. Anything else that escapes
is a bug of ours and keeps its traceback.
"""


class RelayError(Exception):
    """Base of every exception below."""


class SetupError(RelayError):
    """The program cannot start as asked; `str()` is the line to print, `status` the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class PeerError(RelayError):
    """A peer did wrong, or asked for what it cannot have.

    `str()` is the reason for the wire: Spanish, ASCII, no newline. For the log, `kind` names it in
    one English snake_case word, and `detail` adds to that if need be.
    """

    def __init__(self, message: str, kind: str, detail: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.detail = detail


class BadCommandError(PeerError):
    """A line that is no command, or a command with a wrong argument. The connection goes on."""


class OutOfOrderError(PeerError):
    """A well-formed command that the session's present state does not allow."""


class FatalPeerError(PeerError):
    """A line after which nothing can be trusted to be a command. The connection is closed."""


class LineTooLongError(FatalPeerError):
    """A line over the limit."""


class OtherProtocolError(FatalPeerError):
    """A peer that speaks another protocol; `kind` names it."""


class HttpError(PeerError):
    """A request that gets an error: `status` is HTTP's (RFC 9110), `kind` its name in the log."""

    def __init__(self, status: int, message: str, kind: str = "", detail: str = "") -> None:
        super().__init__(message, kind, detail)
        self.status = status


class DeclinedError(PeerError):
    """A connection or a valid command that the relay turns away by its rules and limits."""
