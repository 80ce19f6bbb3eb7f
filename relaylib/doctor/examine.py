"""All checks in their order: the machine, its network, the relay that runs, and the self-test."""

from collections.abc import Iterator
from typing import NoReturn

from relaylib.config import HTTP_PORT, Config
from relaylib.doctor import groups, network, ports, running, show
from relaylib.doctor.finding import Finding, Grade, exit_status
from relaylib.doctor.machine import machine
from relaylib.doctor.trial import trial
from relaylib.errors import SetupError
from relaylib.lifecycle.check import ingest_address
from relaylib.net.address import Address
from relaylib.net.mrl import Mrl
from relaylib.outputs.fixed import check_outputs

Part = tuple[str, Iterator[Finding]]


def examine(config: Config) -> NoReturn:
    """Look at everything and say it; exit with 1 if something will not work, else with 0."""
    findings = list[Finding]()
    screen = None if config.json else show.screen()
    for heading, part in Examination(config).parts():
        if screen:
            screen.heading(heading)
        for finding in _survived(part):
            findings.append(finding)
            if screen:
                screen.finding(finding)
    if screen:
        screen.conclusion(findings)
    else:
        show.write(show.as_json(findings))
    raise SystemExit(exit_status(findings))


def _survived(part: Iterator[Finding]) -> Iterator[Finding]:
    """Yield the findings; of a part that cannot go on, that it cannot."""
    try:
        yield from part
    except (OSError, SetupError) as error:
        found = f"cannot go on here: {error}"
        yield Finding("doctor", "the doctor", found, Grade.WRONG)


class Examination:
    """The parts, each of which may need to know what those before have found."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._answer = ""
        self._unwanted = network.unwanted()
        self._control: Address | None = None
        self._holder: ports.Holder | None = None

    def parts(self) -> Iterator[Part]:
        """Yield the parts, with their headings. Each is to be exhausted before the next."""
        config = self._config
        coming, going = groups.named(config)
        ear = groups.Ear(coming) if coming else None
        yield "This machine", machine(config)
        yield "Ports and addresses", self._ports()
        if config.to or coming:
            yield "Ways in and out", self._ways(coming, going)
        if self._answer:
            yield "The relay that runs", self._running()
        yield (
            "A stream through a relay of its own, on the loopback",
            trial(config, alone=not self._answer),
        )
        if ear is not None and ear.interface:
            yield "Who asks for groups", self._asked(ear)

    def _ports(self) -> Iterator[Finding]:
        config = self._config
        door = ports.open_door(config)
        try:
            yield from self._behind(door)
        finally:
            door.close()

    def _behind(self, door: ports.BoundPorts) -> Iterator[Finding]:
        config, control = self._config, door.address
        self._control, self._holder = control, door.holder
        if control is not None and door.taken and not ports.is_systemd(door.holder):
            answer = running.ask(control)
            self._answer = answer if running.is_relay(answer) else ""
        known = [*door.findings, *([ports.http_port(config)] if config.http else [])]
        yield from (ports.excused(each, door.holder, relay=bool(self._answer)) for each in known)
        if control is None:
            return
        here = network.places(control)
        yield network.addresses(config, control, here)
        yield network.senders(config, network.places(ingest_address(config)))
        yield from network.links(here)
        if here and (door.control is not None or self._answer):
            yield network.firewall(here, control, door.ingest, running=bool(self._answer))

    def _ways(self, coming: Mrl | None, going: list[Mrl]) -> Iterator[Finding]:
        if coming is not None:
            yield from groups.incoming(coming, busy=bool(self._answer))
        yield from map(groups.outgoing, going)
        yield from self._outputs()

    def _outputs(self) -> Iterator[Finding]:
        """Look at the fixed outputs, groups or not, as the relay does at its start."""
        try:
            check_outputs(self._config.to, ingest_address(self._config))
        except SetupError as error:
            yield Finding("outputs", "outputs (--to)", str(error), Grade.WRONG)
            return
        yield from (network.way_to(mrl) for mrl in self._config.to if not mrl.is_group)

    def _running(self) -> Iterator[Finding]:
        assert self._control is not None
        http = self._config.http
        likely = [*([http[1]] if http and http[1] else []), HTTP_PORT]
        if self._holder is not None:
            likely = [*ports.listens(self._holder.pid), *likely]
        told = running.status(self._control, likely)
        stray = network.unwanted() - self._unwanted
        yield from running.running(self._answer, told, ingest_address(self._config), stray)

    def _asked(self, ear: groups.Ear) -> Iterator[Finding]:
        yield ear.querier()
