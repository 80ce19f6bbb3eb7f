"""The relay's rooms. A datagram goes `net`, `stream`; a command `net`, `protocol`, `viewers`.

What everyone uses lies here: `config`, `cli` (the command line), `errors`, `log`,
`stdio` (writing without waiting).
"""

__version__ = "0.1.0"
