"""The data path: datagrams in, batches, datagrams out. Start with `ingest`, then `fanout`.

`relaylib/channel.py` joins these parts to one stream.

In: `ingest` reads, `source_lock` decides who may send (`recognition` tells it what they send,
`failover` who sends better), `ingest_sockets` has the kernel keep others away, `group` keeps a
multicast group joined, `receive_buffer` counts what came too fast, `coalescer` says how long
datagrams may gather.
Between: `batch`. Out: `fanout` sends to every `output`, in the order of a `lane`; `port_probe`
weighs ICMP errors, and tries the ports that seem closed. `fixed` has the outputs that are always
there, screens and groups.
Afterwards: `history` keeps the last seconds; `deferred` sends out of it to outputs that are behind,
`health` says whose fault it is if anything is wrong, and `recorder` then writes them to
`recordings`. `watcher` is one row of the list of viewers.

A new kind of output is another way to open an `Output`'s socket, as in `fixed`, and another caller
of `Fanout.resume`. A new way in is another socket for `Ingest`.
The room knows no viewers: whoever adds an output says whom to call when its port stays closed.
"""
