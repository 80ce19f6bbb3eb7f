"""Those who watch by the control protocol. Start with `server`, then `viewer`.

`server` accepts connections and knows every viewer; `net/access` says who may, and how much, and
`egress` how many the way out has room for; `viewer` carries out what one session asks for;
`destinations` gives each UDP destination to one of them.
"""
