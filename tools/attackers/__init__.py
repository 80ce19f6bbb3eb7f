"""The parts of `tools/attacks.py` and `tools/soak.py`.

`stream` is the source, `viewers` are those who must lose nothing of it, `guests` come and go;
`hostile` are those who try to disturb it, and `attack` puts them all around a relay.

A new attack is a function in `hostile`, a row of `attack.ATTACKS`, and a test in `tests/attack`.
"""
