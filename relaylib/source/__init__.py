"""Where the stream comes in. Start with `gate`, which has a drawing of who may send when.

`gate` is pure. It decides about each datagram of a sender that is not known yet; once the source
is, `sockets` has the kernel keep all others away. `recognition` tells the gate what senders send,
`send_rate` how fast, `failover` which of two sends better, `loop_detection` who sends us what we
have sent.
`ingest` reads one bounded batch a turn into a `batch`, and `coalescer` says when it reads the next.
`group` keeps a multicast group joined, `receive_buffer` counts what came too fast.

A new way in is another socket for `Ingest`.
"""
