"""Sockets and time: the reactor, TCP connections, addresses, what Linux adds. Start with `loop`."""
