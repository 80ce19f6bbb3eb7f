"""The relay's own link cannot carry what everyone has asked for."""

import json
import time

from tools.lab.netns import ask
from tools.lab.netns_stage import finish, set_up

SESSIONS = 64
"""Of one address: at 800 datagrams a second about 500 Mb/s."""

LINK = ("rate", "200mbit", "burst", "64kb", "limit", "200kb")


def test_whoever_came_later_gets_the_stream_through_a_full_link() -> None:
    """Sessions of one address that came first leave the others theirs; what is lost is counted."""
    with set_up() as stage:
        stage.relay_host.exec("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *LINK)
        relay = (stage.relay_host.address, str(stage.relay.port))
        greedy = stage.start(stage.host("greedy"), "tools.lab.netns_peer", *relay)
        ask(greedy, json.dumps(["connect", SESSIONS]))
        assert ask(greedy, json.dumps(["sink", SESSIONS]))["replies"] == {"OK": SESSIONS}
        late = stage.watch(stage.host("late"))
        source = stage.stream()
        late.wait_first()
        time.sleep(5)
        sent = finish(source)
        status = ask(greedy, json.dumps(["say", 0, 1, "ESTADO"]))
        last = ask(greedy, json.dumps(["say", SESSIONS - 1, 1, "ESTADO"]))
        own = late.command("ESTADO")
        stats = late.stats()
    print(f"{stats['received']} of {sent}; {own}; {status}; {last}")
    assert stats["received"] > sent * 0.95
    assert stats["received"] == int(own.split("enviados=")[1].split()[0])
