"""Viewers by HTTP, and readers of the relay's state. Start with `site`, then `server`, `live`.

`site` has the table of all resources. `server` accepts connections and knows them; `connection`
joins a socket and h11; `request` reads what is asked, `reply` makes what is answered: values,
without effects. `pace` has the one timer by which streams are written.

A resource is a file with a class of one method: `respond` makes a `Response` of a request. Its
body is bytes, or a `StreamBody`, asked for the next bytes each time there is room. To watch:
`live`, `mp4`, `hls` (its text is in `playlist`). To look: `status`, `series`, `events`, `metrics`,
which know the relay by `parts`; and `pages`, which serves what is in `page/`.
"""
