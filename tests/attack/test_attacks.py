"""The relay under attack: twenty viewers watch 5 Mb/s, somebody tries to spoil it for them.

Each test checks, in `attack_relay`, that no viewer lost a datagram or its controls, that the relay
met no bug, took little memory and ended in order. How late datagrams were is for
`tools/attacks.py` to measure: a loaded machine would fail such a test for no fault of the relay's.
"""

from collections import Counter

import pytest

from tools.attackers.attack import ATTACKS, attack
from tools.lab.attacks import attack_relay

SECONDS = 1.0


def test_slowloris() -> None:
    """A thousand connections that send a byte a second make room for whoever else comes."""
    outcome = attack_relay("slowloris", 1.5)
    assert outcome.counts["connections"] == 1000
    assert outcome.counts["bytes"] >= 900
    [stopped] = [event for event in outcome.log if event["event"] == "stopped"]
    assert stopped["declined"]["gave_way"] >= 20
    assert "full" not in stopped["declined"]


def test_a_storm_of_connections() -> None:
    """A thousand clients a second that connect and leave are served and forgotten."""
    outcome = attack_relay("storm", SECONDS)
    assert outcome.counts["connections"] == 1000
    [stopped] = [event for event in outcome.log if event["event"] == "stopped"]
    assert stopped["accepted"] >= 900


def test_resets_in_the_middle_of_a_line() -> None:
    """Sessions that are reset while they type give back their destination, every time."""
    outcome = attack_relay("resets", SECONDS)
    assert outcome.counts["resets"] == 500
    counts: Counter[str] = Counter()
    for event in outcome.log:
        counts[event["event"]] += event.get("suppressed", 1)
    assert counts["output_added"] == counts["output_removed"] > 20


@pytest.mark.parametrize("name", ["commands", "nonsense", "moving"])
def test_floods_of_commands(name: str) -> None:
    """Clients that send commands as fast as they are answered are answered, and that is all."""
    assert attack_relay(name, SECONDS).counts["replies"] > 100


def test_clients_that_never_read() -> None:
    """Clients that ask and never read are closed when their output is full."""
    outcome = attack_relay("deaf", 4.0)
    reasons = [event["reason"] for event in outcome.log if event["event"] == "client_gone"]
    assert outcome.counts["bytes"] > 1 << 20
    assert "unread_replies" in reasons


def test_lines_that_never_end() -> None:
    """An endless line gets a reply and the end of its connection, not memory."""
    outcome = attack_relay("endless", SECONDS)
    reasons = {event["reason"] for event in outcome.log if event["event"] == "protocol_error"}
    assert reasons == {"line_too_long"}
    assert outcome.counts["replies"] > 100


def test_no_descriptors_left() -> None:
    """When descriptors run out newcomers are told so, and those who watch do not notice."""
    outcome = attack_relay("descriptors", SECONDS)
    reasons = {event["reason"] for event in outcome.log if event["event"] == "client_declined"}
    assert "descriptors" in reasons


def test_a_stranger_floods_the_ingest() -> None:
    """A hundred thousand datagrams a second of another sender are not relayed nor in the way."""
    outcome = attack_relay("stranger", SECONDS)
    [stopped] = [event for event in outcome.log if event["event"] == "stopped"]
    assert outcome.counts["datagrams"] > 10_000
    assert stopped["rejected"] >= 0.9 * outcome.counts["datagrams"]
    assert stopped["received"] == outcome.sent


def test_a_squatter_while_the_encoder_restarts() -> None:
    """It gets the ingest in the silence, and the encoder gets it back from another port."""
    outcome = attack(ATTACKS["squatter"], 4.0, viewers=5, quiet=1.5)
    assert (outcome.lost, outcome.silent, outcome.bugs, outcome.status) == (0, 0, 0, 0)
    takeovers = [event for event in outcome.log if event["event"] == "source_takeover"]
    assert [event["reason"] for event in takeovers][:2] == ["silence", "returned"]
    assert takeovers[1]["previous"] == takeovers[0]["source"]


def test_garbage_from_ever_new_ports() -> None:
    """Datagrams of every size from thousands of senders are dropped, and logged once."""
    outcome = attack_relay("garbage", SECONDS)
    rejected = [event for event in outcome.log if event["event"] == "source_rejected"]
    assert outcome.counts["ports"] > 50
    assert len(rejected) == 1


@pytest.mark.parametrize("name", ["terminal", "full-disk", "stuck-log", "closed-log"])
def test_a_log_that_cannot_be_written(name: str) -> None:
    """A full disk, a reader that hangs or one that has gone cost log lines and nothing else.

    So does a terminal whose window hangs.
    """
    outcome = attack_relay(name, SECONDS)
    assert outcome.counts["connections"] == 1000
    assert outcome.log == []


def test_a_clock_that_jumps() -> None:
    """A wall clock that jumps days back and forth is seen in the log's time stamps alone."""
    outcome = attack_relay("clock", SECONDS)
    days = {event["timestamp"][:10] for event in outcome.log}
    assert len(days) > 1
    assert {event["event"] for event in outcome.log} - {"ingest_silent", "health_changed"} == {
        "listening", "client_connected", "output_added", "ingest_started", "source_locked",
        "client_gone", "shutting_down", "output_removed", "stopped",
    }  # fmt: skip


def test_http_posts() -> None:
    """What a browser is made to send is answered once and not obeyed."""
    counts = attack_relay("posts", SECONDS).counts
    assert counts["posts"] > 0
    assert counts["obeyed"] == 0


def test_a_thousand_idlers() -> None:
    """In a relay full of connections that want nothing every newcomer is served."""
    counts = attack_relay("idlers", SECONDS).counts
    assert counts["served"] == counts["newcomers"] > 0


def test_hang_ups_without_end() -> None:
    """However often it is asked to, the relay reloads, and loses nothing."""
    counts = attack_relay("hangups", 8.0).counts
    assert counts["reloads"] > 0
