"""Start, restart and end: restarting in place, what travels then, systemd. Start with `restart`."""
