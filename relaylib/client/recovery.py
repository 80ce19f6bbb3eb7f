"""The session that is lost with a connection, and its way back; the line about it. Pure.

The relay forgets a session with its connection. So the client remembers its state, and gives the
commands that lead there again. Live, what came meanwhile is lost. A viewer that was behind live
goes back by so much more as the connection was away: nothing is lost if the relay still has it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from relaylib.client.messages import say
from relaylib.protocol.commands import MAX_SECONDS, Command, Verb
from relaylib.protocol.session import State

_NOTICED = 1.0
"""Seconds of the stream: less than that is not worth a word."""


@dataclass(slots=True)
class Recovery:
    """The session as it stood: where the stream went, in which state, how many seconds behind.

    `since` is when the connection was lost, None while there is one. `told` are the reasons that
    the person knows: each is told once until the relay is back.
    """

    port: int
    state: State = State.IDLE
    behind: float = 0.0
    since: float | None = None
    told: set[str] = field(default_factory=set)

    def lost(self, now: float) -> None:
        """Note that the connection was lost, unless it is away already."""
        if self.since is None:
            self.since = now

    def away(self, now: float) -> float:
        """Return for how many seconds the relay has been away."""
        return 0.0 if self.since is None else now - self.since

    def steps(self, now: float) -> Iterator[Command]:
        """Yield the commands that lead to where the session stood."""
        if self.state is State.IDLE:
            return
        yield Command(Verb.CONNECT, self.port)
        if self.state is State.PAUSED:
            yield Command(Verb.INTERRUPT)
        elif self.state is State.DEFERRED:
            seconds = round(min(self.behind + self.away(now), float(MAX_SECONDS)), 3)
            if seconds > 0:
                yield Command(Verb.REWIND, seconds=seconds)

    def back(self, now: float, behind: float | None) -> str:
        """Say in one line that the relay is back and how the session stands.

        `behind` is how many seconds it is behind live by the relay's word; None if it could not go
        back. The next loss is another one.
        """
        away, state = self.away(now), self.state
        self.since = None
        self.told.clear()
        begin = say("connected again after {seconds:.0f} s", seconds=away)
        match state:
            case State.STREAMING:
                how = say(
                    "the stream comes to UDP port {port} again; what came meanwhile is lost",
                    port=self.port,
                )
            case State.PAUSED:
                how = say("paused again, from now on")
            case State.DEFERRED if behind is None:
                how = say("live now: the relay has nothing left of what you were watching")
            case State.DEFERRED if (gap := self.behind + away - (behind or 0.0)) > _NOTICED:
                how = say(
                    "{behind:.0f} s behind live; {gap:.0f} s are lost: the relay keeps no more",
                    behind=behind,
                    gap=gap,
                )
            case State.DEFERRED:
                how = say("{behind:.0f} s behind live; nothing is lost", behind=behind)
            case _:
                return begin
        return f"{begin}: {how}"
