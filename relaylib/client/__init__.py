"""The console client: a person's or a script's commands to the relay, its replies back.

Start with `app`, which joins the rest: the person, the commands and the connection.

- The person: `console`, with the line editor of `lineedit`; `status` is the block that ESTADO and
  --watch show, `watch` keeps it up to date; `messages` has both languages; `player` opens VLC.
- The commands: `commands` carries out what was typed, piped, or read by `script`; `exchange` sends
  them and takes the replies; `dialogue` is what the relay has said so far.
- The connection: `link` makes it, and makes it again; `reconnect` leads a new one to where the last
  one stood, which `recovery` remembers.

Standard library only: a viewer needs Python and these files.
"""
