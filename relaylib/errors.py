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
    """A peer broke the protocol; `str()` is the reason for the wire: Spanish, ASCII, no newline.

    `kind` names what is counted as a refusal in one word; a mere mistake has none.
    """

    kind = ""


class BadCommandError(PeerError):
    """A line that is no command, or a command with a wrong argument. The connection goes on."""


class OutOfOrderError(PeerError):
    """A well-formed command that the session's present state does not allow."""


class LineTooLongError(PeerError):
    """A line over the limit. The stream of commands cannot be trusted any more: close."""

    kind = "line_too_long"


class DeclinedError(PeerError):
    """A valid command or a connection that the relay declines."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind
