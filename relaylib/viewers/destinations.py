"""The destinations in use: one (IP, port) has one output.

The caller says where an output goes, and must make sure that it is the asker's own address, so
that the relay cannot be aimed at another host.
"""

import errno
from collections.abc import Callable

from relaylib.errors import DeclinedError
from relaylib.net.address import Address, show
from relaylib.net.descriptors import NO_DESCRIPTOR
from relaylib.net.lookup import comes_back
from relaylib.net.loop import Loop
from relaylib.outputs.fanout import Fanout
from relaylib.outputs.output import Output, OutputState, open_socket


class Destinations:
    """Opens and closes the outputs of viewers.

    `ingest` is the stream's own address: never a destination. `in_use` are the viewers'
    destinations, `claimed` those of fixed outputs, which get the stream anyway.
    """

    def __init__(
        self,
        loop: Loop,
        fanout: Fanout,
        ingest: Address,
        *,
        in_use: set[Address],
        claimed: set[Address],
    ) -> None:
        self._loop = loop
        self._fanout = fanout
        self._ingest = ingest
        self._in_use = in_use
        self._claimed = claimed

    def open(
        self, destination: Address, local: Address, on_port_closed: Callable[[], None]
    ) -> Output:
        """Open an output that sends from the address `local`, paused.

        Raises:
            DeclinedError: the destination is taken, or is the relay itself, or cannot be reached.
        """
        where = show(destination)
        if destination in self._in_use | self._claimed:
            who = "otra sesion" if destination in self._in_use else "una salida fija"
            message = f"destino ocupado por {who}: {where}"
            raise DeclinedError(message, "destination_taken", where)
        try:
            if comes_back(destination, self._ingest):
                message = f"destino no valido: {where} es la entrada del relay"
                raise DeclinedError(message, "destination_loop", where)
            sock = open_socket(destination, local)
        except OSError as error:
            message = f"no se puede enviar a {where}: {_why(error)}"
            detail = f"{where}: {error.strerror}"
            raise DeclinedError(message, "destination_unreachable", detail) from None
        self._in_use.add(destination)
        return Output(destination, sock, on_port_closed)

    def restore(self, saved: OutputState, on_port_closed: Callable[[], None]) -> Output:
        """Go on with an output of the previous program."""
        self._in_use.add(saved.destination)
        return self._fanout.restore(saved, on_port_closed)

    def close(self, output: Output) -> None:
        """Send nothing more to an output, and free its destination."""
        self._fanout.pause(output)
        self._in_use.remove(output.destination)
        self._loop.call_soon(output.sock.close)


def _why(error: OSError) -> str:
    match error.errno:
        case number if number in NO_DESCRIPTOR:
            return "sin descriptores"
        case errno.ENETUNREACH | errno.EHOSTUNREACH:
            return "sin ruta"
        case number:
            return f"fallo del sistema ({errno.errorcode.get(number or 0, number)})"
