"""What an earlier program hands over, made into what this one understands.

Version 3 had what belongs to the stream beside the rest, words of the wire for what is English now,
and places of viewers by HTTP in datagrams of the history. Such a place means nothing in the track:
those viewers are let go and come again, and segments begin to count anew. Viewers by UDP go on.
"""

from typing import Any

from relaylib.channel import ChannelState
from relaylib.lifecycle import codec
from relaylib.media.verdict import Evidence
from relaylib.protocol import words


def upgraded(flat: dict[str, Any]) -> dict[str, Any]:
    """Make a state of version 4 of one of version 3, as JSON has them."""
    rest = _in_english(dict(flat))
    rest["walk"] = rest.pop("inspection", None)
    if history := rest.get("history"):
        rest["history"] = {name: history[name] for name in ("memory", "octets")}
    if site := rest.get("site"):
        connections = [_let_go(each) for each in site["web"]["connections"]]
        rest["site"] = {
            **site, "hls": None, "web": {**site["web"], "connections": connections},
        }  # fmt: skip
    names = codec.fields(ChannelState).keys() & rest.keys()
    return {"channel": {name: rest.pop(name) for name in names}, **rest}


def _in_english(state: dict[str, Any]) -> dict[str, Any]:
    """Replace what were the wire's words then, and the sentence of evidence."""
    for viewer in state["viewers"]:
        viewer["state"] = words.english(words.STATES, viewer["state"])
    for part in ("health", "recorder"):
        if isinstance(told := state.get(part), dict) and isinstance(told.get("word"), str):
            told["word"] = words.english(words.HEALTH, told["word"])
            if isinstance(told.get("evidence"), str):
                told["evidence"] = {"key": Evidence.INHERITED.value}
    return state


def _let_go(connection: dict[str, Any]) -> dict[str, Any]:
    """End a connection if it carries a stream."""
    if connection.get("stream") is None:
        return connection
    return {**connection, "stream": None, "resource": "", "left": None, "closing": True}
