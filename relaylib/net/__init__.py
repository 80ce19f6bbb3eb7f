"""Sockets and time: TCP connections, ports to listen on, addresses, what Linux adds.

Start with `loop`, the reactor that everything runs in.
"""
