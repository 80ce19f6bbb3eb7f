"""The console client: a person's or a script's commands to the relay, its replies back.

Start with `app`, which joins the rest. The person's side: `console`, with the line editor of
`lineedit`; `status` is the block that ESTADO and --watch show; `messages` has every text in both
languages; `script` reads --script. The relay's side: `link` connects, with the waits of `backoff`;
`dialogue` is what the relay has said so far; `recovery` is what comes after a lost connection.
`player` opens VLC. Standard library only: a viewer needs Python and these files.
"""
