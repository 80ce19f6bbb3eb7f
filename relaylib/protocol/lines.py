"""Lines out of bytes, whatever pieces TCP cut them into. Pure: no socket, no clock.

A line ends in LF or CRLF and holds at most `MAX_LINE` bytes before that. Telnet negotiation
(RFC 854) is dropped while it arrives instead of being searched for in whole lines: a subnegotiation
may contain a line feed, and an IAC may be the last byte of a segment.
"""

from enum import IntEnum

from relaylib.errors import LineTooLongError

MAX_LINE = 512
"""Bytes in a line without its ending. The longest real command has 18."""

# RFC 854: interpret-as-command, and the commands that are longer than two bytes.
_IAC, _SB, _SE = 255, 250, 240
_WILL, _DONT = 251, 254


class Telnet(IntEnum):
    """Where in a Telnet sequence a reader is. The values travel in a reload."""

    TEXT = 0
    IAC = 1  # after IAC
    OPTION = 2  # after IAC WILL/WONT/DO/DONT
    SUB = 3  # inside a subnegotiation
    SUB_IAC = 4  # after IAC inside a subnegotiation


class LineReader:
    """Puts lines together from segments of any size.

    `pending` and `telnet` are all that it remembers: with another reader's, it goes on from there.
    """

    __slots__ = ("_buffer", "telnet")

    def __init__(self, pending: bytes = b"", telnet: Telnet = Telnet.TEXT) -> None:
        self._buffer = bytearray(pending)
        self.telnet = telnet

    @property
    def pending(self) -> bytes:
        """What has arrived of a line that is not complete yet."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take the next bytes as they came from the connection."""
        if self.telnet is Telnet.TEXT and _IAC not in data:
            self._buffer += data
        else:
            for byte in data:
                self._feed_byte(byte)

    def _feed_byte(self, byte: int) -> None:
        match self.telnet:
            case Telnet.TEXT if byte == _IAC:
                self.telnet = Telnet.IAC
            case Telnet.TEXT:
                self._buffer.append(byte)
            case Telnet.IAC if byte == _SB:
                self.telnet = Telnet.SUB
            case Telnet.IAC if _WILL <= byte <= _DONT:
                self.telnet = Telnet.OPTION
            case Telnet.IAC | Telnet.OPTION:
                self.telnet = Telnet.TEXT
            case Telnet.SUB if byte == _IAC:
                self.telnet = Telnet.SUB_IAC
            case Telnet.SUB_IAC:
                self.telnet = Telnet.TEXT if byte == _SE else Telnet.SUB
            case Telnet.SUB:
                pass

    def next_line(self) -> bytes | None:
        """Return the next complete line without its ending, or None if more bytes are needed.

        Raises:
            LineTooLongError: the line has, or already can only have, more than `MAX_LINE` bytes.
        """
        end = self._buffer.find(b"\n")
        # Without an LF the last byte may still turn out to be the CR of a line of the full length.
        length = end if end >= 0 else len(self._buffer)
        if length and self._buffer[length - 1] == 0x0D:
            length -= 1
        if length > MAX_LINE:
            message = f"linea demasiado larga (mas de {MAX_LINE} bytes)"
            raise LineTooLongError(message, "line_too_long")
        if end < 0:
            return None
        line = bytes(self._buffer[:length])
        del self._buffer[: end + 1]
        return line
