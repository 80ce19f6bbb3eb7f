"""The console client's parts. Start with `app`. Standard library only."""
