"""The words of values on the wire: the one table from the program's English to Spanish. Pure.

Inside, a value is an enum whose members are English. A value that is not in these tables is written
as it is, and so is a word that is not: relays and clients of different versions meet.
"""

from collections.abc import Mapping

STATES: Mapping[str, str] = {
    "idle": "inactivo",
    "streaming": "transmitiendo",
    "paused": "pausado",
    "deferred": "diferido",
    "closed": "cerrado",
}
"""States of a session: `estado`."""

PRESENCES: Mapping[str, str] = {
    "absent": "ausente",
    "active": "activa",
    "silent": "silencio",
}
"""Whether there is a source: `fuente`."""

FORMS: Mapping[str, str] = {
    "rtp": "rtp",
    "ts": "ts",
    "rtp_other": "rtp-sin-ts",
    "opaque": "opaca",
}
"""Forms of the stream: `forma`."""

HEALTH: Mapping[str, str] = {
    "healthy": "sano",
    "source": "fuente",
    "relay": "rele",
    "network": "red",
    "silence": "silencio",
    "unknown": "-",
}
"""Verdicts: `salud`."""


def spanish(table: Mapping[str, str], value: str) -> str:
    """Return the word for a value."""
    return table.get(value, value)


def english(table: Mapping[str, str], word: str) -> str:
    """Return the value that a word stands for."""
    return next((value for value, known in table.items() if known == word), word)


def stream_pairs(presence: str, form: str, payload_type: int | None, health: str) -> str:
    """Write the pairs of ESTADO about the stream; `tipo` only where there is a payload type."""
    pairs = [
        f"fuente={spanish(PRESENCES, presence)}",
        f"forma={spanish(FORMS, form)}",
        *([] if payload_type is None else [f"tipo={payload_type}"]),
        f"salud={spanish(HEALTH, health)}",
    ]
    return " ".join(pairs)
