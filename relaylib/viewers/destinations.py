"""Who gets the stream where: one destination (IP, port) belongs to one session.

The stream only ever goes to the address that the viewer's own control connection comes from, so the
relay cannot be aimed at anybody else.
"""

import structlog

from relaylib.errors import DeclinedError
from relaylib.net.address import Address, show, unmapped, with_port
from relaylib.net.descriptors import NO_DESCRIPTOR
from relaylib.net.lookup import is_local
from relaylib.net.loop import Loop
from relaylib.stream.fanout import Fanout
from relaylib.stream.output import Output, OutputState, open_socket
from relaylib.viewers.viewer import Viewer

log = structlog.get_logger()


class Destinations:
    """Every destination in use, and whose it is. `ingest` is where the stream comes in."""

    def __init__(self, loop: Loop, fanout: Fanout, ingest: Address) -> None:
        self._loop = loop
        self._fanout = fanout
        self._ingest = ingest
        self._owners: dict[Address, Viewer] = {}

    def subscribe(self, viewer: Viewer, port: int) -> Output:
        """Stream to a port of the client's own address; its present output if it is the same.

        Raises:
            DeclinedError: the destination is taken, or is the relay itself, or cannot be reached.
        """
        destination = with_port(viewer.peer, port)
        if self._owners.get(destination, viewer) is not viewer:
            where = show(destination)
            raise DeclinedError(f"destino ocupado por otra sesion: {where}", "destination_taken")
        output = viewer.output
        if output is None or output.destination != destination:
            output = self._open(viewer, destination)
            self._owners[destination] = viewer
            log.info("output_added", client=viewer.name, destination=show(destination))
        elif output.lane is None:
            log.info("resumed", client=viewer.name, destination=show(destination))
        self._fanout.resume(output)
        return output

    def restore(self, viewer: Viewer, saved: OutputState) -> Output:
        """Go on with a output of the previous program."""
        output = self._fanout.restore(saved)
        self._owners[output.destination] = viewer
        return output

    def _open(self, viewer: Viewer, destination: Address) -> Output:
        try:
            if self._is_ingest(destination):
                where = show(destination)
                message = f"destino no valido: {where} es la entrada del relay"
                raise DeclinedError(message, "destination_loop")
            local = unmapped(viewer.connection.sock.getsockname())
            return Output(destination, open_socket(destination, local))
        except OSError as error:
            reason = "sin descriptores" if error.errno in NO_DESCRIPTOR else "sin ruta"
            message = f"no se puede enviar a {show(destination)}: {reason}"
            raise DeclinedError(message, "destination_unreachable") from None

    def _is_ingest(self, destination: Address) -> bool:
        """Tell whether the stream would come straight back in."""
        if destination[1] != self._ingest[1]:
            return False
        return destination[0] == unmapped(self._ingest)[0] or is_local(destination)

    def unsubscribe(self, viewer: Viewer, output: Output) -> None:
        """Send nothing more to a output, and free its destination."""
        self._fanout.pause(output)
        self._loop.call_soon(output.sock.close)
        del self._owners[output.destination]
        log.info(
            "output_removed",
            client=viewer.name,
            destination=show(output.destination),
            sent=output.sent,
            dropped=output.dropped,
            refused=output.refused,
        )

    def player_refused(self, output: Output) -> None:
        """Tell the session that its player's port stayed closed."""
        self._owners[output.destination].player_refused()
