"""The forms of the senders' datagrams, while they decide which sender holds the ingest. Pure."""

from relaylib.media.form import Form, Recogniser
from relaylib.net.address import Address


class Recognition:
    """Recognises the forms of the active source and of one challenger: the last other sender.

    No more senders are remembered. One datagram with some transport stream packets is proof, so a
    transport stream is found among any number of senders. Forms that take some datagrams in a row
    are found if no third sender's datagram comes in between.
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
        """Forget every sender."""
        self._known = {}
