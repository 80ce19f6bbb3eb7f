"""Sockets and time: TCP connections, ports to listen on, addresses, what Linux adds.

`access` says who may connect, and how much, `peer_log` how much of what they do is logged.
Start with `loop`, the reactor that everything runs in.
"""
