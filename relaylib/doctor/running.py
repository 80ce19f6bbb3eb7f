"""A relay that runs already: what it says of its stream, and what to do about that.

ESTADO has the verdict, in the wire's words. The evidence, what helps, and who watches, it tells by
HTTP, if it does at all.
"""

import contextlib
import http.client
import ipaddress
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from relaylib.doctor.finding import Finding, Grade
from relaylib.media.catalogue import sentence
from relaylib.media.form import Form
from relaylib.media.verdict import Evidence, Remedy, Told, Value, Word
from relaylib.net.address import Address, with_port
from relaylib.net.lookup import reachable_host
from relaylib.net.loop import Loop
from relaylib.protocol import words
from relaylib.source.gate import Presence

PATIENCE = 2.0
"""Seconds that it may take to answer, on a machine that is very busy."""

_LINE_LIMIT = 512

_STATUS_LIMIT = 1 << 20
"""Bytes of /status.json: ten times what it has."""

_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What comes of reading JSON that some other program has made."""

SEND = "ffmpeg -re -i FILE -c copy -f mpegts 'udp://{host}:{port}?pkt_size=1316'"

STATUS_VERSION = 2
"""Of /status.json: what is in another one is not understood here, and ESTADO has to do."""

_GRADES: dict[str, Grade] = {
    Word.SOURCE: Grade.WRONG,
    Word.RELAY: Grade.WRONG,
    Word.NETWORK: Grade.HINT,
    Word.SILENCE: Grade.HINT,
}

_ADVICE: dict[str, str] = {
    Word.SOURCE: "Something is missing before it comes here: look at the encoder, and at the "
    "network from there to the relay.",
    Word.RELAY: "This machine loses or delays something; the log's health_changed says what.",
    Word.NETWORK: "Viewers do not get everything: a lower bitrate, or a better link to them.",
}

_SILENT = "The source has stopped: start it again."
_ABSENT = (
    "Nothing has come yet. A source sends like this; if it does, look at its address and port, and "
    "at the firewalls on the way:"
)

STRAY = 5
"""Datagrams to a closed port, during the examination, that are taken for a stream."""

_LOSS = 0.01
"""Share of the datagrams that a viewer may lose unmentioned."""


def place_of(control: Address) -> Address:
    """Return where a relay that listens there is reached from this machine."""
    host = control[0].partition("%")[0]
    if ipaddress.ip_address(host).is_unspecified:
        return ("::1" if ":" in host else "127.0.0.1", control[1])
    return control


def ask(control: Address) -> str:
    """Return what a relay answers to ESTADO; "": there is none, or it says nothing."""
    try:
        with socket.create_connection(place_of(control)[:2], PATIENCE) as sock:
            sock.sendall(b"ESTADO\n")
            until, line = Loop.time() + PATIENCE, b""
            while b"\n" not in line and len(line) < _LINE_LIMIT and Loop.time() < until:
                data = sock.recv(_LINE_LIMIT - len(line))
                if not data:
                    break
                line += data
    except OSError:
        return ""
    return line.partition(b"\n")[0].decode("ascii", "replace").strip()


def is_relay(answer: str) -> bool:
    """Tell whether it was a relay that answered."""
    return answer.startswith(("OK estado=", "ERROR "))


def status(control: Address, ports: Iterable[int]) -> dict[str, Any] | None:
    """Return what the relay tells by HTTP, at one of these ports; None: nothing."""
    for port in dict.fromkeys(ports):
        with contextlib.suppress(OSError, http.client.HTTPException, *_MALFORMED):
            found = _get(with_port(place_of(control), port))
            if found["watch"]["control_port"] == control[1]:
                list(running("OK salud=", found, control, 0))  # all of it can be read
                return found
    return None


def _get(address: Address) -> dict[str, Any]:
    connection = http.client.HTTPConnection(address[0], address[1], timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", "/status.json")
        response, until, text = connection.getresponse(), Loop.time() + PATIENCE, b""
        while len(text) < _STATUS_LIMIT and (data := response.read1(_STATUS_LIMIT - len(text))):
            text += data
            if Loop.time() > until:
                raise TimeoutError
        found = json.loads(text)
        if (
            not isinstance(found, dict)
            or found.get("version") != STATUS_VERSION
            or not {"watch", "verdict", "source", "viewers"} <= found.keys()
        ):
            raise ValueError("this is no relay, or one of another version")
        return found


def running(
    answer: str, told: Mapping[str, Any] | None, ingest: Address, stray: int
) -> Iterator[Finding]:
    """Say how a relay is that has answered so, and has `told` that by HTTP.

    `stray`: datagrams that have come meanwhile, but to closed ports.
    """
    facts = dict(pair.split("=", 1) for pair in answer.split() if "=" in pair)
    if "salud" not in facts:
        found = f"it answers: {answer}"
        advice = "It turns this machine away, or is full; its log says why."
        yield Finding("relay", "relay", found, Grade.HINT, advice, figures={"answer": answer})
        return
    yield _verdict(facts, told, ingest, stray)
    if told is not None:
        yield from _others(told)
        yield _viewers(told)


def _verdict(
    facts: Mapping[str, str], told: Mapping[str, Any] | None, ingest: Address, stray: int
) -> Finding:
    presence = words.english(words.PRESENCES, facts.get("fuente", ""))
    verdict = told["verdict"] if told else {}
    word = verdict.get("word") or words.english(words.HEALTH, facts["salud"])
    form = words.english(words.FORMS, facts.get("forma", "")) if presence != "absent" else ""
    found = f"running: verdict {word}, source {presence}" + f", form {form}" * bool(form)
    evidence, remedy = _read(verdict.get("evidence")), _read(verdict.get("remedy"))
    if form == Form.RTP_OTHER:
        values: dict[str, Value] = {"payload_type": facts.get("tipo", "?")}
        evidence, remedy = Told(Evidence.NO_MPEG_TS, values), Told(Remedy.SEND_MPEG_TS)
    figures = {
        "verdict": word,
        "source": presence,
        "form": form or None,
        "evidence": sentence(evidence),
        "stray": stray,
    }
    advice = sentence(remedy) or _ADVICE.get(word, "")
    commands: tuple[str, ...] = ()
    if presence != Presence.ACTIVE.value or form == Form.RTP_OTHER:
        commands = (_how_to_send(told, ingest),)
    if presence != Presence.ACTIVE.value:
        advice = _SILENT if presence == Presence.SILENT.value else _ABSENT
        if stray >= STRAY:
            advice = f"{stray} datagrams have just come to another port. Send to this one:"
    text = f"{found}: {sentence(evidence)}" if evidence else found
    good = Grade.OK if presence == Presence.ACTIVE.value else Grade.HINT
    return Finding("relay", "relay", text, _GRADES.get(word, good), advice, commands, figures)


def _how_to_send(told: Mapping[str, Any] | None, ingest: Address) -> str:
    port = told["watch"]["ingest_port"] if told else ingest[1]
    host = (told["watch"]["ingest_host"] if told else None) or reachable_host(ingest[0])
    return SEND.format(host=f"[{host}]" if ":" in host else host, port=port)


def _read(told: Mapping[str, Any] | None) -> Told | None:
    return None if told is None else Told(told["key"], told["values"])


def _others(told: Mapping[str, Any]) -> Iterator[Finding]:
    """Tell that another source sends, too."""
    rejected = told["source"].get("rejected", 0)
    if rejected:
        found = f"{rejected} datagrams of others than {told['source']['address']} were turned away"
        advice = (
            "A second source is a standby: it takes over when the first falls silent. If it is not "
            "meant to be one, the log's source_rejected names it; --allow-source lets only the "
            "encoder send."
        )
        figures = {"rejected": rejected, "source": told["source"]["address"]}
        yield Finding("other_sources", "other sources", found, Grade.HINT, advice, figures=figures)


def _viewers(told: Mapping[str, Any]) -> Finding:
    viewers = told["viewers"]
    poor = [
        f"{each['destination']} ({each['dropped']} of {each['sent'] + each['dropped']})"
        for each in viewers["list"]
        if each["unit"] == "datagrams"
        and each["dropped"] > _LOSS * (each["sent"] + each["dropped"])
    ]
    figures = {"total": viewers["total"], "losing": poor}
    found = f"{viewers['total']} watch, or are about to"
    if not poor:
        return Finding("viewers", "viewers", found, figures=figures)
    more = f" and {len(poor) - 3} more" if len(poor) > 3 else ""
    found += f"; not everything has arrived at {', '.join(poor[:3])}{more}"
    advice = "Is the player open there, at that port? Else its link is too slow for the stream."
    return Finding("viewers", "viewers", found, Grade.HINT, advice, figures=figures)
