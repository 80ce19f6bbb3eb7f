"""`relay.py --doctor`: what usually goes wrong on a machine, and what to do. Loaded only for that.

Start with `examine`, which has the order of everything. A check is a function that looks at one
thing and returns what it found, a `Finding`: `machine` has those of the computer, `ports` of the
ports the relay would listen on and their holders, `network` of the addresses and what is between
them, `groups` of multicast. `running` asks a relay that runs how it is, `trial` sends a stream
through one of its own, which `loopback` makes. `show` writes it all for a person, or as JSON.
"""
