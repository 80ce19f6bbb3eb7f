"""Viewers by the control protocol. Start with `server`, then `viewer`.

`server` accepts connections and knows every viewer; `net/access` has the limits on addresses, and
`egress` those of the way out; `viewer` carries out the commands of one session; `destinations`
gives each UDP destination to one viewer.
"""
