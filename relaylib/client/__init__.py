"""The console client: a person's or a script's commands to the relay, its replies back.

Start with `app`, which joins the rest: `console` is the person's side, with the line editor of
`lineedit`; `dialogue` is what the relay has said so far; `player` opens VLC. Standard library only:
a viewer needs Python and these files.
"""
