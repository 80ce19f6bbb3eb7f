"""The two designs of a relay that come to mind first, each a program of its own."""
