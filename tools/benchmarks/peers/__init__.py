"""The two ways to write a relay that everybody writes first, each a program of its own."""
