"""Who gets the stream where: one destination (IP, port) belongs to one session.

The stream only ever goes to the address that the viewer's own control connection comes from, so the
relay cannot be aimed at anybody else.
"""

import structlog

from relaylib.address import Address, is_local, show, unmapped
from relaylib.errors import RefusedError
from relaylib.fanout import Fanout
from relaylib.handover import SubscriberState
from relaylib.kernel import NO_DESCRIPTOR
from relaylib.loop import Loop
from relaylib.subscriber import Subscriber, open_socket
from relaylib.viewer import Viewer

log = structlog.get_logger()


class Destinations:
    """Every destination in use, and whose it is. `ingest` is where the stream comes in."""

    def __init__(self, loop: Loop, fanout: Fanout, ingest: Address) -> None:
        self._loop = loop
        self._fanout = fanout
        self._ingest = ingest
        self._owners: dict[Address, Viewer] = {}

    def subscribe(self, viewer: Viewer, port: int) -> Subscriber:
        """Stream to a port of the client's own address; its present subscriber if it is the same.

        Raises:
            RefusedError: the destination is taken, or is the relay itself, or cannot be reached.
        """
        destination: Address = (viewer.peer[0], port, *viewer.peer[2:])
        if self._owners.get(destination, viewer) is not viewer:
            where = show(destination)
            raise RefusedError(f"destino ocupado por otra sesion: {where}", "destination_taken")
        subscriber = viewer.subscriber
        if subscriber is None or subscriber.destination != destination:
            subscriber = self._open(viewer, destination)
            self._owners[destination] = viewer
            log.info("subscribed", client=viewer.name, destination=show(destination))
        elif subscriber.lane is None:
            log.info("resumed", client=viewer.name, destination=show(destination))
        self._fanout.resume(subscriber)
        return subscriber

    def restore(self, viewer: Viewer, saved: SubscriberState) -> Subscriber:
        """Go on with a subscriber of the previous program."""
        subscriber = self._fanout.restore(saved)
        self._owners[subscriber.destination] = viewer
        return subscriber

    def _open(self, viewer: Viewer, destination: Address) -> Subscriber:
        try:
            if self._is_ingest(destination):
                where = show(destination)
                message = f"destino no valido: {where} es la entrada del relay"
                raise RefusedError(message, "destination_loop")
            local = unmapped(viewer.connection.sock.getsockname())
            return Subscriber(destination, open_socket(destination, local))
        except OSError as error:
            reason = "sin descriptores" if error.errno in NO_DESCRIPTOR else "sin ruta"
            message = f"no se puede enviar a {show(destination)}: {reason}"
            raise RefusedError(message, "destination_unreachable") from None

    def _is_ingest(self, destination: Address) -> bool:
        """Tell whether the stream would come straight back in."""
        if destination[1] != self._ingest[1]:
            return False
        return destination[0] == unmapped(self._ingest)[0] or is_local(destination)

    def unsubscribe(self, viewer: Viewer, subscriber: Subscriber) -> None:
        """Send nothing more to a subscriber, and free its destination."""
        self._fanout.pause(subscriber)
        self._loop.call_soon(subscriber.sock.close)
        del self._owners[subscriber.destination]
        log.info(
            "unsubscribed",
            client=viewer.name,
            destination=show(subscriber.destination),
            sent=subscriber.sent,
            dropped=subscriber.dropped,
            refused=subscriber.refused,
        )

    def player_refused(self, subscriber: Subscriber) -> None:
        """Tell the session that its player's port stayed closed."""
        self._owners[subscriber.destination].player_refused()
