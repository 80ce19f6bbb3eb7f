"""The rooms of `tools/bench.py`: the relay and its peers, measured side by side in one run."""
