"""Where the stream comes in. Start with `gate`, which has a drawing of who may send when.

`gate` decides datagram by datagram, and touches nothing. `recognition` tells it what senders send,
`failover` which of two sends better, `loop_detection` who sends us what we have sent.
`ingest` reads: a bounded batch a turn, and when to read the next one (`coalescer`). `batch` is what
it reads into. `sockets` has the kernel keep others away, `group` keeps a multicast group joined,
`receive_buffer` counts what came too fast.

A new way in is another socket for `Ingest`.
"""
