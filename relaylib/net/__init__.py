"""Sockets and time: TCP connections, ports, addresses, multicast groups, what Linux adds.

Start with `loop`, the reactor that everything runs in. `listen` opens ports; `connection` is one of
TCP; `access` says who may connect, and how much, `peer_log` how much of what they do is logged.
`mrl` reads VLC's notation for where a stream comes from or goes; `multicast` joins and sends to
groups, on the `interfaces` of this machine. `linux` is what only that system has, `source_filter`
the program for its kernel that drops strangers' datagrams. `histogram` counts how long turns take.
"""
