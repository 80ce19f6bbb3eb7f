"""Those who watch by HTTP, and those who look: read-only. Start with `server`, then `live`.

`server` accepts connections and knows them all, and which resource is where; `connection` joins a
socket and h11; `request` is what may be asked, `reply` what is answered: values, without effects.
`pace` has the one timer by which streams are written.

A resource is a file with a class of one method: `respond` makes a `Response` of a `Request`. Its
body is bytes, or a `Stream`, which is asked again and again what comes next. `relay.py` puts it
into the table, and gives it what it needs to know.
"""
