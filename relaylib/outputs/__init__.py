"""Where datagrams go. Start with `fanout`: its send loop is the hottest code of the relay.

An `output` is an address with a socket of its own. `lane` says in which order outputs are sent to,
`port_probe` weighs ICMP errors and tries the ports that seem closed. `fixed` has the outputs that
are always there: hosts and groups. `behind` serves those that get the stream out of the history.
`viewer_row` is one row of the list of viewers.

A new kind of output is another way to open an `Output`'s socket, as in `fixed`, and a caller of
`Fanout.resume`. The room knows no viewers: an output is made with a callback for a port that stays
closed.
"""
