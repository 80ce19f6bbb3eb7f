"""What a relay tells about itself by HTTP: the object, the events, the metrics."""

import contextlib
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relaylib.net.address import show
from tools.lab.process import ROOT, ChildProcess, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.reloads import RATE, CountingViewers, NumberedStream, reload
from tools.lab.sockets import unused_port
from tools.lab.viewer import TestViewer
from tools.lab.web import HttpViewer, Packets, Watching, http_port, request

ROWS = re.compile(r"^\| `(\S+)` \| (\S*) \|", re.MULTILINE)

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "list": (list,),
    "numbers": (list,),
    "counts": (dict,),
    "map": (dict,),
    "told": (dict,),
}


def documented(heading: str) -> dict[str, str]:
    """Return the rows of the table under a heading of docs/STATUS.md: names, and types."""
    text = (ROOT / "docs" / "STATUS.md").read_text()
    return dict(ROWS.findall(text.partition(f"\n## {heading}\n")[2].partition("\n##")[0]))


def leaves(value: Any, types: dict[str, str], name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is in an object, by the names that the table has for it."""
    if types.get(name) == "list":
        yield name, value
        for each in value:
            yield from leaves(each, types, f"{name}[]")
    elif isinstance(value, dict) and name not in types:
        for key, each in value.items():
            yield from leaves(each, types, f"{name}.{key}" if name else key)
    else:
        yield name, value


def check_shape(status: dict[str, Any]) -> set[str]:
    """Make sure that the object is as documented; return the names that were seen."""
    types, seen = documented("/status.json"), set()
    for name, value in leaves(status, types):
        kind = types[name]
        if not (kind.endswith("?") and value is None):
            assert type(value) in TYPES[kind.rstrip("?")], (name, value)
        if kind == "numbers":
            assert all(type(each) in (int, float) for each in value), name
        elif kind == "told?" and value is not None:
            assert value.keys() == {"key", "values"}, name
        elif kind in ("counts", "map"):
            numbers = value.values()
            if kind == "map":
                numbers = [number for each in numbers for number in each.values()]
            assert all(type(number) is int for number in numbers), name
        seen.add(name)
    always = {name for name in types if "[]" not in name}
    assert always <= seen
    return seen


def status_of(browser: HttpViewer) -> dict[str, Any]:
    """Ask for the object."""
    answer = browser.get("/status.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    status: dict[str, Any] = json.loads(answer.body)
    return status


class Events:
    """A reader of `/events`."""

    def __init__(self, port: int) -> None:
        self.browser = HttpViewer(port)
        self.browser.send(request("/events"))
        status, headers = self.browser.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        self._text = b""

    def next(self) -> dict[str, Any]:
        """Wait for the next event."""
        while True:
            while b"\n\n" not in self._text:
                self._text += self.browser.take() or self.browser.sock.recv(65536)
            block, _, self._text = self._text.partition(b"\n\n")
            if block.startswith(b"event: status\ndata: "):
                status: dict[str, Any] = json.loads(block.partition(b"data: ")[2])
                return status
            assert block == b"retry: 1000"

    def until_state(self, state: str) -> None:
        """Wait until the one UDP viewer is in this state."""
        wait_for(lambda: self.next()["viewers"]["counts"]["udp"] == {state: 1}, state)

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *exc: object) -> None:
        self.browser.sock.close()


@pytest.mark.parametrize("options", [(), ("--no-inspect",), ("--no-inspect", "--timeshift", "0")])
def test_the_object_without_a_source(options: tuple[str, ...]) -> None:
    """All names are there, of the documented types, and nothing is claimed."""
    with (
        RelayProcess("--http", "127.0.0.1:0", *options) as relay,
        HttpViewer(http_port(relay)) as browser,
    ):
        status = status_of(browser)
        check_shape(status)
        assert status["source"]["presence"] == "absent"
        assert status["source"]["address"] is None
        assert status["stream"]["programs"] == status["viewers"]["list"] == []
        assert status["watch"]["control_port"] == relay.port
        compressed = browser.get("/status.json", Accept_Encoding="gzip")
        assert compressed.headers["content-encoding"] == "gzip"
        assert check_shape(json.loads(gzip.decompress(compressed.body)))


def test_the_object_with_everything() -> None:
    """A source, viewers of each kind and state: each documented name is seen, and is right."""
    with contextlib.ExitStack() as stack:
        fixed = f"udp://127.0.0.1:{unused_port()}"
        relay = stack.enter_context(RelayProcess("--http", "127.0.0.1:0", "--to", fixed))
        port = http_port(relay)
        words = ("tools/fake_vlc.py", "127.0.0.1", str(relay.ingest_port), "--rtp", "--loop")
        stack.enter_context(ChildProcess(sys.executable, *words))
        relay.wait_event("ingest_started")
        browser = stack.enter_context(HttpViewer(port))
        viewers = [stack.enter_context(TestViewer(relay.port)) for _ in range(3)]
        for viewer in viewers[:2]:
            viewer.subscribe()
        viewers[1].command("INTERRUMPIR")
        wait_for(lambda: status_of(browser)["history"]["points"] > 1, "points")
        for target in ("/live.ts?back=1", "/live.mp4"):
            stack.enter_context(Watching(port, target))

        def measured() -> dict[str, Any] | None:
            status = status_of(browser)
            rates = [each["bitrate"] for each in status["viewers"]["list"]]
            known = len(rates) == 6 and None not in rates and status["stream"]["programs"]
            return status if known and any(status["series"]["bitrate"]) else None

        status = wait_for(measured, "rates")
        assert status is not None
        assert check_shape(status) == set(documented("/status.json"))
        assert status["source"]["form"] == "rtp"
        kinds = status["viewers"]["counts"]
        assert kinds["udp"] == {"streaming": 1, "paused": 1, "idle": 1}
        assert kinds["http"] == {"streaming": 2}
        assert sum(kinds["fixed"].values()) == 1
        streams = status["stream"]["programs"][0]["streams"]
        assert [(each["codec"], each["width"]) for each in streams] == [
            ("H.264", 640),
            ("AAC", None),
        ]
        listed = {each["client"]: each for each in status["viewers"]["list"]}
        live = listed[show(viewers[0].control.getsockname())]
        assert live["destination"] == f"127.0.0.1:{viewers[0].port}"
        assert (live["state"], live["delay_s"]) == ("streaming", 0)


def test_a_reader_by_http_that_pauses() -> None:
    """Whoever takes nothing of `/live.ts` is paused, until it reads on."""
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(RelayProcess("--http", "127.0.0.1:0"))
        packets = stack.enter_context(Packets(relay.ingest_port))
        wait_for(lambda: packets.sent > RATE, "a second of the stream")
        browser = stack.enter_context(HttpViewer(http_port(relay)))
        player = stack.enter_context(HttpViewer(http_port(relay), receive_buffer=4096))
        player.send(request("/live.ts?back=1"))
        assert player.head()[0] == 200

        def state() -> dict[str, int]:
            counts: dict[str, int] = status_of(browser)["viewers"]["counts"]["http"]
            return counts

        wait_for(lambda: state() == {"paused": 1}, "the pause")
        wait_for(lambda: player.read(1 << 17) and state() == {"streaming": 1}, "the stream")


def test_a_pause_is_seen_and_costs_nobody_anything() -> None:
    """The page's events show what a viewer types; a viewer by UDP beside it loses nothing."""
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(RelayProcess("--http", "127.0.0.1:0"))
        events = [stack.enter_context(Events(http_port(relay))) for _ in range(3)]
        first = events[0].next()
        check_shape(first)
        viewer = stack.enter_context(TestViewer(relay.port)).subscribe()
        audience = stack.enter_context(CountingViewers([viewer]))
        with NumberedStream(relay.ingest_port) as stream:
            for reader in events:
                reader.until_state("streaming")
        audience.expect(stream.sent)
        viewer.command("INTERRUMPIR")
        for reader in events:
            reader.until_state("paused")
        viewer.command("CONTINUAR")
        events[0].until_state("streaming")
        latest = events[0].next()
        check_shape(latest)
        assert len(latest["series"]["bitrate"]) < 5
        assert not relay.events("bug")


def test_a_reload_keeps_readers_and_series() -> None:
    """Events go on on the same connection, and the points before the reload are still there."""
    with RelayProcess("--http", "127.0.0.1:0") as relay, Events(http_port(relay)) as events:
        before = wait_for(lambda: (e := events.next())["series"]["bitrate"] and e, "a point")
        end = before["series"]["end"]
        reload(relay)
        wait_for(lambda: events.next()["series"]["end"] > end + 1, "newer points")
        with HttpViewer(http_port(relay)) as browser:
            series = status_of(browser)["series"]
        assert len(series["bitrate"]) == len(series["errors"]) >= 3
        assert status_keeps(before, events.next())


def status_keeps(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Tell whether what a reload must not change is the same."""
    return bool(
        before["verdict"]["since"] == pytest.approx(after["verdict"]["since"], abs=0.1)
        and after["uptime_s"] > before["uptime_s"]
    )


def test_metrics() -> None:
    """They are those in the table, promtool finds no fault, and viewers make no more of them."""
    need("promtool")
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(RelayProcess("--http", "127.0.0.1:0"))
        browser = stack.enter_context(HttpViewer(http_port(relay)))
        stack.enter_context(NumberedStream(relay.ingest_port))
        relay.wait_event("source_locked")
        assert browser.get("/nothing").status == 404
        few = browser.get("/metrics").body.decode()
        for _ in range(20):
            stack.enter_context(TestViewer(relay.port)).subscribe()
        wait_for(lambda: value(browser, "relay_egress_datagrams_total") > 0, "datagrams sent")
        many = browser.get("/metrics").body.decode()
    assert many.count("\n") - few.count("\n") in (0, 1)  # 1: the first response that was 200
    families = list(text_string_to_metric_families(many))
    exported = {
        f"{each.name}_total" if each.type == "counter" else each.name: each.type
        for each in families
        if not each.name.startswith("process_")
    }
    declined = {"relay_declined_total": "counter"}  # nobody was, so it has no samples
    assert exported | declined == documented("/metrics")
    lint = subprocess.run(
        ["promtool", "check", "metrics"], input=many, text=True, capture_output=True, check=False
    )
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")


def value(browser: HttpViewer, name: str) -> float:
    """Return a metric's value."""
    text = browser.get("/metrics").body.decode()
    return next(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )
