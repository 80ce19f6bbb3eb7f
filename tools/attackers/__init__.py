"""The rooms of `tools/attacks.py` and `tools/soak.py`: a relay, a stream, viewers who must lose
nothing of it, and those who try to spoil it for them."""
