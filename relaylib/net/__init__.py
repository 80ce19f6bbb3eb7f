"""Sockets and time: TCP connections, ports, addresses, multicast groups, what Linux adds.

Start with `loop`, the reactor that everything runs in. `listen` opens ports; `connection` is one of
TCP; `access` holds the access rules and limits of peers, `peer_log` limits what is logged of them.
`mrl` reads VLC's notation for where a stream comes from or goes; `multicast` joins and sends to
groups, on the `interfaces` of this machine. `linux` is what only that system has; `source_filter`
is the kernel's program that drops datagrams of sources which are not allowed. `histogram` counts
how long turns take.
"""
