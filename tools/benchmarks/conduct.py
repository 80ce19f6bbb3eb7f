"""Carries out a plan: every measurement in turn, with progress on stderr.

A contender that cannot serve a load is noted with its reason and not tried under it again; the run
goes on, because the other figures are worth having.
"""

import dataclasses
import sys
import time
from collections.abc import Callable

from tools.benchmarks.contenders import AUTO, Contender, Relay
from tools.benchmarks.measures import Bench, Load
from tools.benchmarks.plan import Plan
from tools.benchmarks.results import Results, holds
from tools.benchmarks.source import NotReadyError
from tools.replay.program import say

_SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


class _Progress:
    """One line that rewrites itself on a terminal; elsewhere a line every tenth of the way."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = 0
        self._began = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def step(self, what: str) -> None:
        """Say what is being measured now."""
        elapsed = time.monotonic() - self._began
        left = elapsed / self._done * (self._steps - self._done) if self._done else 0.0
        line = f"{self._done / self._steps:4.0%}, {left:3.0f} s left: {what}"
        if self._terminal:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        elif self._done % max(1, self._steps // 10) == 0:
            say(line)
        self._done += 1

    def end(self) -> None:
        """Leave the terminal's line clean."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class Conductor:
    """One run of a plan by a bench, over the contenders that are there."""

    def __init__(self, bench: Bench, plan: Plan, contenders: dict[str, Contender]) -> None:
        self._bench = bench
        self._plan = plan
        self._contenders = contenders
        self.results = Results()

    def run(self) -> Results:
        """Measure everything; what the present contenders cannot do is in `failures`."""
        for name, contender in list(self._contenders.items()):
            if reason := contender.missing():
                self.results.failures[name] = reason
                del self._contenders[name]
        todo = list(self._plan.measurements(tuple(self._contenders)))
        progress = _Progress(len(todo) + 2)
        for name, load in todo:
            progress.step(f"{load}: {name}")
            self._measure(name, load)
        relay = self._contenders.get(AUTO)
        if isinstance(relay, Relay):
            progress.step("what the relay holds")
            self._attempt(f"{AUTO}, the share it holds", lambda: self._search_held(relay))
            progress.step("start and memory")
            self._attempt(f"{AUTO}, start and memory", lambda: self._start_and_memory(relay))
        progress.end()
        return self.results

    def _measure(self, name: str, load: Load) -> None:
        key = f"{name}, {load}"
        if key not in self.results.failures:
            self._attempt(key, lambda: self._keep(self._contenders[name], load))

    def _keep(self, contender: Contender, load: Load) -> None:
        self.results.samples.append(self._bench.sample(contender, load, self._plan.seconds))

    def _attempt(self, key: str, action: Callable[[], None]) -> None:
        try:
            action()
        except (NotReadyError, OSError) as error:
            self.results.failures[key] = str(error)

    def _search_held(self, relay: Relay) -> None:
        """For each heavy load that was not held in every round, find the share of it that is."""
        for load in self._plan.heavy:
            samples = self.results.of(AUTO, load)
            if samples and not all(map(holds, samples)):
                self.results.held[str(load)] = self._held(relay, load)

    def _held(self, relay: Relay, load: Load) -> float:
        for share in _SHARES:
            less = dataclasses.replace(load, rate=max(1, round(load.rate * share)))
            sample = self._bench.sample(relay, less, self._plan.seconds)
            if holds(sample):
                return sample.egress
        return 0.0

    def _start_and_memory(self, relay: Relay) -> None:
        self.results.starts += [self._bench.start_time(relay) for _ in range(self._plan.starts)]
        self.results.memory = self._bench.memory(relay, self._plan.memory, self._plan.seconds)
