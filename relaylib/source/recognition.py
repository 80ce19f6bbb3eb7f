"""What the senders' datagrams are, as long as that decides who holds the ingest. Pure."""

from relaylib.media.form import Form, Recogniser
from relaylib.net.address import Address


class Recognition:
    """Recognises the active source and one challenger: whoever else has sent last.

    More are not remembered, however many send. One datagram with some transport stream packets is
    proof, so a stream is found among any number of strangers; the forms that take some datagrams in
    a row are found if no third one sends in between.
    """

    def __init__(self) -> None:
        self._known: dict[Address, Recogniser] = {}

    def look(self, source: Address, datagram: bytes | memoryview, active: Address | None) -> Form:
        """Take a datagram; return its sender's form as far as it is known."""
        recogniser = self._known.get(source)
        if recogniser is None:
            self._known = {a: r for a, r in self._known.items() if a == active}
            recogniser = self._known[source] = Recogniser()
        return recogniser.feed(bytes(datagram))

    def forget(self) -> None:
        """Begin anew."""
        self._known = {}
