"""The reactor: one thread, one selector, timers, signals and end-of-turn work.

Hand-written so that the whole life of a datagram can be read in a sitting, and because the relay
needs three things that general loops do not give: readers that are called again and again while
many other sockets are being served (priority readers), one place where a bug is caught and its
socket closed, and a turn whose cost can be measured.

A turn: end-of-turn work of the last one, sleep until a socket or the nearest timer is ready,
dispatch, timers. Handlers never block and bound their own work; what they close is only reaped at
the end of the turn, so that its number is not used again while events for the old socket wait.
"""

import contextlib
import heapq
import selectors
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from relaylib.net.histogram import Histogram

Callback = Callable[[], None]
BugHandler = Callable[[Exception], None]


class Selectable(Protocol):
    """A socket, or anything else with a descriptor."""

    def fileno(self) -> int: ...

    def close(self) -> None: ...


PRIORITY_EVERY = 0.0001
"""Seconds of other work between two calls of the priority reader. Counting callbacks would not do:
the slowest takes a thousand times what the quickest takes, and an attacker chooses which."""

_COMPACT_AT = 512
"""Cancelled timers that may wait in the heap before it is rebuilt without them."""


class Watch:
    """A watched socket's callbacks, and the events that it is registered for."""

    __slots__ = ("broken", "events", "readable", "writable")

    def __init__(self, readable: Callback, writable: Callback, broken: BugHandler) -> None:
        self.readable = readable
        self.writable = writable
        self.broken = broken
        self.events = 0


class Timer:
    """A callback and its time; `cancel` may be called at any moment, also twice or too late."""

    __slots__ = ("_loop", "callback", "when")

    def __init__(self, loop: "Loop", when: float, callback: Callback) -> None:
        self._loop = loop
        self.when = when
        self.callback: Callback | None = callback

    def __lt__(self, other: "Timer") -> bool:
        return self.when < other.when

    def cancel(self) -> None:
        """Make sure that the callback will not run."""
        if self.callback is not None:
            self.callback = None
            self._loop.forget_timer()


def reraise(error: Exception) -> None:
    """Handle a bug by raising it again, so that it ends the program."""
    raise error


def _nothing() -> None:
    """The writable callback of sockets that only read."""


class Loop:
    """A single-threaded reactor. Times are seconds of the monotonic clock.

    `on_bug` gets every exception that escapes a callback: a bug of ours, to be logged with its
    traceback. The loop then goes on. `selector` is the best that the system has unless given.
    `turns` has the seconds from waking up to sleeping again.
    """

    def __init__(self, on_bug: BugHandler, selector: selectors.BaseSelector | None = None) -> None:
        self.now = time.monotonic()
        self.turns = Histogram()
        self._on_bug = on_bug
        self._selector = selector or selectors.DefaultSelector()
        self._watches: dict[Selectable, Watch] = {}
        self._timers: list[Timer] = []
        self._cancelled = 0
        self._soon: list[Callback] = []
        self._priority: tuple[Callback, ...] = ()
        self._priority_at = 0.0
        self._reading = 0.0  # of processor time, by priority readers in between
        self._running = False
        self._wakeup: socket.socket | None = None
        self._signals: dict[int, Callback] = {}
        self._signalled: set[int] = set()

    @staticmethod
    def time() -> float:
        """The clock itself; `now` is its value when this turn woke up."""
        return time.monotonic()

    @staticmethod
    def epoch() -> int:
        """Nanoseconds from 1970 to the zero of `time`, by what the system's clock says now."""
        return time.time_ns() - time.monotonic_ns()

    @staticmethod
    def date() -> str:
        """The system's clock for the name of a file, in UTC: 20240229T235959Z."""
        return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())

    @staticmethod
    def dated(seconds: float) -> str:
        """Write seconds since 1970 as ISO 8601 has it, in UTC: 2024-02-29T23:59:59.250Z."""
        whole, thousandths = divmod(round(seconds * 1000), 1000)
        return time.strftime(f"%Y-%m-%dT%H:%M:%S.{thousandths:03}Z", time.gmtime(whole))

    @staticmethod
    def wall_time() -> float:
        """Seconds since the epoch, for people and other machines; it may jump."""
        return time.time()

    # --- turns

    def run(self) -> None:
        """Turn until `stop` is called."""
        self._running = True
        self.now = self.time()
        while self._running:
            self._run_soon()
            now = self.time()
            self.turns.add(now - self.now)
            ready = self._selector.select(self._timeout(now))
            self.now = self.time()
            self._priority_at = self.now + PRIORITY_EVERY
            for key, events in ready:
                self._dispatch(key.data, events)
                self.read_priority()
            self._run_timers()

    def stop(self) -> None:
        """Let `run` return at the end of this turn."""
        self._running = False

    def _run_soon(self) -> None:
        soon, self._soon = self._soon, []
        for callback in soon:
            self._call(callback)
            self.read_priority()

    def _timeout(self, now: float) -> float | None:
        if self._soon or not self._running:
            return 0
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
            self._cancelled -= 1
        return max(0.0, self._timers[0].when - now) if self._timers else None

    def _dispatch(self, watch: Watch, events: int) -> None:
        # An earlier handler of this turn may have unregistered this socket or changed its interest.
        try:
            if events & watch.events & selectors.EVENT_WRITE:
                watch.writable()
            if events & watch.events & selectors.EVENT_READ:
                watch.readable()
        except Exception as error:
            self._on_bug(error)
            self._call(partial(watch.broken, error))

    def _run_timers(self) -> None:
        # Only what was due when the turn woke: a timer that re-arms itself at once cannot starve.
        due = self.now
        while self._timers and self._timers[0].when <= due:
            timer = heapq.heappop(self._timers)
            callback, timer.callback = timer.callback, None
            if callback is None:
                self._cancelled -= 1
            else:
                self._call(callback)
                self.read_priority()

    def read_priority(self) -> None:
        """Call the priority readers if it is time to. A handler with much to do calls this, too."""
        if self._priority and self.time() >= self._priority_at:
            began = time.thread_time()
            for reader in self._priority:
                self._call(reader)
            self._reading += time.thread_time() - began
            self._priority_at = self.time() + PRIORITY_EVERY

    def worked(self) -> float:
        """Seconds of processor time so far, without what priority readers took in between.

        Two of these differ by a handler's own work, however busy the machine is.
        """
        return time.thread_time() - self._reading

    def _call(self, callback: Callback) -> None:
        try:
            callback()
        except Exception as error:
            self._on_bug(error)

    def close(self) -> None:
        """Run what the last turn left, then release the selector and the wakeup sockets."""
        self._run_soon()
        if self._wakeup is not None:
            socket.socket(fileno=signal.set_wakeup_fd(-1)).close()
            self.unwatch(self._wakeup)
            self._wakeup.close()
        self._selector.close()

    def keep_only(self, sock: Selectable) -> None:
        """Become the loop of a forked child, which goes on reading only this watched socket.

        Timers, other sockets, priority readers and end-of-turn work are the parent's and forgotten;
        so are signals, which the caller keeps away. The parent's selector may be the same object in
        the kernel as this copy of it (epoll(7)), so this copy is closed unchanged, and replaced.

        Raises:
            OSError: the system gives no selector.
        """
        watch = self._watches[sock]
        watch.events = selectors.EVENT_READ
        self._watches, self._timers, self._soon, self._cancelled = {sock: watch}, [], [], 0
        self._priority = ()
        with contextlib.suppress(OSError):  # kqueue(2) is not inherited at all
            self._selector.close()
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, watch.events, watch)

    # --- sockets

    def watch(
        self,
        sock: Selectable,
        readable: Callback,
        *,
        writable: Callback = _nothing,
        broken: BugHandler,
    ) -> None:
        """Call `readable` whenever there is something to read.

        `broken` is called after a bug escaped one of the callbacks: it must release the socket,
        or the same event would raise the same bug for ever.
        """
        self._watches[sock] = Watch(readable, writable, broken)
        try:
            self.interest(sock)
        except OSError:  # the system has no room for another watch (ENOSPC, epoll_ctl(2))
            del self._watches[sock]
            raise

    def interest(self, sock: Selectable, *, read: bool = True, write: bool = False) -> None:
        """Change the events that a watched socket is watched for."""
        watch = self._watches[sock]
        events = read * selectors.EVENT_READ | write * selectors.EVENT_WRITE
        if events == watch.events:
            return
        if not events:
            self._selector.unregister(sock)
        elif watch.events:
            self._selector.modify(sock, events, watch)
        else:
            self._selector.register(sock, events, watch)
        watch.events = events

    def unwatch(self, sock: Selectable) -> None:
        """Stop watching; also for a socket that is not watched."""
        watch = self._watches.pop(sock, None)
        if watch is not None and watch.events:
            self._selector.unregister(sock)
            watch.events = 0

    def discard(self, sock: Selectable) -> None:
        """Stop watching and close the socket at the end of this turn."""
        self.unwatch(sock)
        self.call_soon(sock.close)

    def add_priority_reader(self, callback: Callback) -> None:
        """Call this every `PRIORITY_EVERY` seconds of a long turn, between two callbacks."""
        self._priority = (*self._priority, callback)

    def remove_priority_reader(self, callback: Callback) -> None:
        """Stop calling a priority reader; also for one that was not added."""
        self._priority = tuple(each for each in self._priority if each != callback)

    # --- time

    def call_soon(self, callback: Callback) -> None:
        """Run at the end of this turn, before the loop sleeps again."""
        self._soon.append(callback)

    def call_later(self, delay: float, callback: Callback) -> Timer:
        """Run once, `delay` seconds from now."""
        timer = Timer(self, self.time() + delay, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def call_every(self, period: float, callback: Callback) -> None:
        """Run again and again, `period` seconds after the last time, as long as the loop runs."""

        def again() -> None:
            self.call_later(period, again)
            callback()

        self.call_later(period, again)

    def call_in_step(self, period: float, callback: Callback) -> None:
        """Run again and again, when the clock is a multiple of `period`, as long as the loop runs.

        So what is done each 50 ms and each 100 ms shares a wake-up, which costs more than either.
        """

        def again() -> None:
            self.call_later(self.until_step(period), again)
            callback()

        self.call_later(self.until_step(period), again)

    def until_step(self, period: float) -> float:
        """Return the seconds until the clock is a multiple of `period` for the next time."""
        return period - self.time() % period

    def forget_timer(self) -> None:
        """Note a cancelled timer; rebuild the heap when most of a large one is cancelled."""
        self._cancelled += 1
        if self._cancelled > max(_COMPACT_AT, len(self._timers) // 2):
            self._timers = [timer for timer in self._timers if timer.callback is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    # --- signals

    def on_signal(self, signum: int, callback: Callback) -> None:
        """Call back inside the loop, not inside whatever the signal interrupted.

        A signal that comes several times until then is called back once. Several signals are called
        back in the order in which they were registered here. The interpreter's C handler writes to
        a socket (`signal.set_wakeup_fd`), which wakes the selector. The bytes mean nothing more:
        some are lost when a storm of signals has filled the socket.
        """
        if self._wakeup is None:
            self._wakeup, writer = socket.socketpair()
            self._wakeup.setblocking(False)
            writer.setblocking(False)
            signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
            self.watch(self._wakeup, self._woken, broken=lambda _error: None)
        self._signals[signum] = callback
        signal.signal(signum, lambda number, _frame: self._signalled.add(number))

    def default_signal(self, signum: int) -> None:
        """Give the signal its original effect back."""
        self._signals.pop(signum, None)
        signal.signal(signum, signal.SIG_DFL)

    def ignore_signal(self, signum: int) -> None:
        """Let the signal have no effect any more, not even while the interpreter ends."""
        self._signals.pop(signum, None)
        signal.signal(signum, signal.SIG_IGN)

    def take_signals(self) -> set[int]:
        """Return the signals that have come and were not called back yet; they will not be."""
        taken, self._signalled = self._signalled, set()
        return taken

    def _woken(self) -> None:
        assert self._wakeup is not None
        self._wakeup.recv(4096)
        signalled = self.take_signals()
        for signum in [each for each in self._signals if each in signalled]:
            self._call(self._signals.get(signum, _nothing))
