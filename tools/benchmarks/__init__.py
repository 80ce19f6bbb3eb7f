"""The parts of `tools/bench.py`: the relay and its peers, measured side by side in one run.

`contenders` says who is measured and `plan` under which loads; `measure` does it, with `sinks` as
destinations; `results` reads figures from the samples, and `report` and `chart` show them.
"""
