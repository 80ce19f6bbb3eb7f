"""One harness for tests and tools: a relay process, viewers, streams, ledgers, free ports."""
