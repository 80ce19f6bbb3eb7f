"""Those who watch by the control protocol. Start with `server`, then `viewer`."""
