"""The tests: one file for each module, and the programs as their users meet them."""
