"""The parts of probe: `inputs` (where datagrams come from) and `table` (what people see)."""
