"""Where the stream comes in. Start with `gate`: its drawing shows which sender holds the ingest.

`gate` is pure. It decides about each datagram until a source is established; from then on `sockets`
has the kernel keep all other senders away. `recognition` finds the form of what senders send,
`send_rate` their rates, `failover` the better of active source and standby, `loop_detection` a
stream that this relay has sent itself.
`ingest` reads one bounded batch a turn into a `batch`, and `coalescer` says when it reads the next.
`group` keeps a multicast group joined, `receive_buffer` counts datagrams that found no room.

A new way in is another socket for `Ingest`.
"""
