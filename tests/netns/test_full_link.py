"""The relay's own link cannot carry what everyone has asked for."""

import time

from tools.lab.netns import finish, set_up

SESSIONS = 64
"""Of one address: at 800 datagrams a second about 500 Mb/s."""

LINK = ("rate", "200mbit", "burst", "64kb", "limit", "200kb")


def test_whoever_came_later_gets_the_stream_through_a_full_link() -> None:
    """Sessions of one address that came first leave the others theirs; what is lost is counted."""
    with set_up("--max-clients-per-ip", str(SESSIONS)) as stage:
        stage.relay_host.exec("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *LINK)
        greedy = stage.peer(stage.host("greedy"))
        greedy.do("connect", SESSIONS)
        assert greedy.do("sink", SESSIONS) == {"OK": SESSIONS}
        late = stage.watch(stage.host("late"))
        source = stage.stream()
        late.wait_received()
        time.sleep(5)
        sent = finish(source)
        own, stats = late.command("ESTADO"), late.stats()
        lost = [greedy.do("say", index, 1, "ESTADO") for index in (0, SESSIONS - 1)]
    print(f"{stats['received']} of {sent}; {own}; {lost}")
    # On a busy machine the stream leaves in bursts larger than the queue: everybody loses then. But
    # each host's first session has what the link carries, before anybody's second.
    first, last = (int(str(each).split("enviados=")[1].split()[0]) for each in lost)
    assert stats["received"] > 0.9 * first
    assert stats["received"] > 2 * last
    # A batch of which the queue took only a part counts as lost: it never says more than arrived.
    assert stats["received"] >= int(own.split("enviados=")[1].split()[0])
    assert int(str(lost[-1]).split("perdidos=")[1].split()[0]) > 0
