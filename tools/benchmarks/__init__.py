"""The parts of `tools/bench.py`: the relay and its peers, measured side by side in one run.

`contenders` (UDP) and `servers` (TCP) say who is measured and `plan` under which loads, with what
`stream`; `measure` does it, with `sinks` as destinations, and `web` what goes by HTTP, with viewers
who `drain`; `results` reads figures from the samples, and `report` shows them.
"""
