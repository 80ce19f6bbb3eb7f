"""What the tests of hostile input share: attacks that no viewer may notice.

The attacks themselves, with the healthy viewers and the stream, are those of `tools/attacks.py`.
"""

import os
import resource

from relaylib.net.descriptors import raise_descriptor_limit
from tools.attackers.attack import ATTACKS, AttackOutcome, attack
from tools.lab.process import need
from tools.lab.relay import RelayProcess

VIEWERS = 20
MEMORY_LIMIT = 60 * 1024
"""KiB that the relay may take at its worst."""


def attack_relay(name: str, seconds: float, *options: str) -> AttackOutcome:
    """Attack, and check that no healthy viewer lost anything and that the relay still works."""
    need("cc", "bash")
    raise_descriptor_limit()
    outcome = attack(ATTACKS[name], seconds, *options, viewers=VIEWERS)
    assert outcome.lost == 0
    assert outcome.received == VIEWERS * outcome.sent > 0
    assert outcome.silent == 0
    assert outcome.bugs == 0
    assert outcome.status == 0
    assert outcome.memory < MEMORY_LIMIT
    return outcome


def leave_descriptors(relay: RelayProcess, count: int) -> None:
    """Lower the relay's limit: it can open so many descriptors more."""
    numbers = [int(fd) for fd in os.listdir(f"/proc/{relay.pid}/fd")]
    limit = max(numbers) + 1 + count
    _, hard = resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (limit, hard))
