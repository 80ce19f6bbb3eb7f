"""The data path: datagrams in, batches, datagrams out. Start with `ingest`, then `fanout`.

In: `ingest` reads, `source_lock` decides who may send, `ingest_sockets` has the kernel keep others
away, `receive_buffer` counts what came too fast, `coalescer` says how long datagrams may gather.
Between: `batch`. Out: `fanout` sends to every `output`, in the order of a `lane`; `port_probe`
weighs ICMP errors, and tries the ports that seem closed.
Beside: `history` keeps the last seconds for those who come later; `recorder` writes them to
`recordings` when there was a fault.

A new kind of output (a multicast group, a fixed address) is another way to open an `Output`'s
socket, in `output`; `relay.py` adds it to the fan-out. A new way in is another socket for `Ingest`.
The room knows no viewers: whoever adds an output says whom to call when its port stays closed.
"""
