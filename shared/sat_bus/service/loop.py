"""The work loop that every service runs on: jobs and timers, one at a time.

A service keeps all of its state on this loop, so it needs no locks; other threads hand their
results over with `WorkLoop.post`, or run them in the loop's place with `WorkLoop.perform` while it
has nothing to do, as waking another thread takes longer than most jobs. Nothing that blocks belongs
here: the heartbeat is a timer of the same loop, so that it proves that the service works and not
merely that its process exists.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

Job = Callable[[], None]
GAP_S = 1.5
_LONGEST_WAIT_S = 0.5
# Of the interpreter: for a thread that answers beside one that is busy with frames.
SWITCH_INTERVAL_S = 0.0005
_FEW_TIMERS = 128


class Timer:
    """A job that is due later, once or again and again. `cancel` is safe from any thread and may be
    repeated."""

    __slots__ = ("_cancelled", "due", "job", "period")

    def __init__(self, due: float, job: Job, period: float | None) -> None:
        self.due = due
        self.job = job
        self.period = period
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        self._cancelled = True


class WorkLoop:
    """Jobs in order of arrival, timers when due; on the thread that calls `run`, or in its place.

    Args:
        name: whom it serves; stands in log lines.
        capacity: most jobs that may wait; beyond it `post` refuses and counts.
        clock: monotonic seconds.
    """

    def __init__(
        self, name: str, *, capacity: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self.name = name
        self._capacity = capacity
        self._clock = clock
        self._changed = threading.Condition()
        self._turning = (
            threading.RLock()
        )  # held by who runs a job or timer, and from before it is taken
        self._occupied = True  # by a job; before `run` by whoever sets the service up
        self._wanted = False  # the loop waits for `_turning`
        self._wakes_at = 0.0
        self._jobs: deque[Job] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._tidy_at = _FEW_TIMERS
        self._order = itertools.count()
        self._gap_handlers: list[Callable[[float], None]] = []
        self._finish_handlers: list[Job] = []
        self._finishing = False
        self._urgent: Job | None = None
        self._status = 0
        self._last_turn: float | None = None
        self._stopped = False
        self._dropped = 0
        self._errors = 0

    @property
    def depth(self) -> int:
        """Jobs that wait."""
        return len(self._jobs)

    @property
    def dropped(self) -> int:
        """Jobs that `post` refused."""
        return self._dropped

    @property
    def errors(self) -> int:
        """Jobs and timers that raised."""
        return self._errors

    @property
    def stopped(self) -> bool:
        return self._stopped

    @property
    def status(self) -> int:
        """The exit status that `finish` was given; 1 when a handler of it raised."""
        return self._status

    def now(self) -> float:
        """Seconds on the loop's clock, a monotonic one."""
        return self._clock()

    def post(self, job: Job) -> bool:
        """Queue `job`, from any thread. False, and counted, when the queue is full or the loop has
        stopped."""
        with self._changed:
            if self._stopped or len(self._jobs) >= self._capacity:
                self._dropped += 1
                return False
            self._jobs.append(job)
            self._changed.notify()
        return True

    def perform(self, job: Job) -> bool:
        """Run `job` at once, on the calling thread, when the loop has nothing to do; else as
        `post`.

        For threads that last as long as the service: what a job starts may be bound to the life of
            its thread.
        """
        if self._wanted or not self._turning.acquire(blocking=False):
            return self.post(job)
        try:
            if self._jobs or self._occupied or self._stopped or self._urgent is not None:
                return self.post(job)
            self._call(job)
            return True
        finally:
            self._turning.release()

    def every(self, period: float, job: Job, *, first: float | None = None) -> Timer:
        """Run `job` each `period` seconds, the first time after `first` (default: one period).

        Turns that were missed are not made up for.

        Raises:
            ValueError: `period` is not positive.
        """
        if period <= 0:
            raise ValueError(f"a period of {period} s; a positive one is accepted")
        return self._add(Timer(self._clock() + (period if first is None else first), job, period))

    def later(self, delay: float, job: Job) -> Timer:
        """Run `job` once, `delay` seconds from now."""
        return self.at(self._clock() + delay, job)

    def at(self, due: float, job: Job) -> Timer:
        """Run `job` once, at `due` seconds on the loop's clock."""
        return self._add(Timer(due, job, None))

    def call(self, job: Job) -> None:
        """Run `job` now, within a job of this loop; what it raises is logged and counted."""
        self._call(job)

    def on_gap(self, handler: Callable[[float], None]) -> None:
        """Call `handler(seconds)`, before anything else runs, when the loop finds that it did not
        turn for more than 1.5 s: the process was stopped or starved, or a job blocked. What it
            would have seen is unknown."""
        self._gap_handlers.append(handler)

    def run(self) -> None:
        """Run jobs and timers on the calling thread until `stop`. What a job raises is logged and
        counted."""
        self._last_turn = None
        self._occupied = False
        while not self._stopped:
            self._turn()

    def run_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Run jobs and timers until `condition()` holds or `timeout` seconds are over; say whether
        it holds.

        Also from within a job: so a service that stops can wait for its workers and still hear
            them.
        """
        deadline = self._clock() + timeout
        while not condition():
            remaining = deadline - self._clock()
            if remaining <= 0 or self._stopped:
                return condition()
            self._turn(remaining)
        return True

    def stop(self) -> None:
        """End `run` after the present job; what waits is not run. For any thread and for signal
        handlers."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def on_finish(self, handler: Job) -> None:
        """Call `handler` on the loop when it is asked to finish."""
        self._finish_handlers.append(handler)

    def finish(self, status: int = 0) -> None:
        """Ask for an orderly end: before any further job the `on_finish` handlers run, then `run`
        returns.

        From any thread and from signal handlers. The first call decides the status.
        """
        with self._changed:
            if not self._finishing:
                self._finishing = True
                self._status = status
                self._urgent = self._finish
                self._changed.notify_all()

    def _finish(self) -> None:
        before = self._errors
        for handler in self._finish_handlers:
            self._call(handler)
        if self._errors > before:
            self._status = self._status or 1
        self.stop()

    def _add(self, timer: Timer) -> Timer:
        with self._changed:
            if len(self._timers) >= self._tidy_at:  # forget the cancelled ones before they are due
                self._timers = [entry for entry in self._timers if not entry[2].cancelled]
                heapq.heapify(self._timers)
                self._tidy_at = max(_FEW_TIMERS, 2 * len(self._timers))
            heapq.heappush(self._timers, (timer.due, next(self._order), timer))
            if timer.due < self._wakes_at:
                self._changed.notify()
        return timer

    def _turn(self, longest: float = _LONGEST_WAIT_S) -> None:
        """Run one job or timer, or wait a little for one."""
        self._wanted = True
        with self._turning:
            self._wanted = False
            now = self._clock()
            self._notice_gap(now)
            with self._changed:
                work = self._next(now)
            if work is not None:
                self._call(work)
                return
        with self._changed:
            if not (self._jobs or self._urgent or self._stopped):
                wait = self._wait(now, longest)
                self._wakes_at = now + wait
                self._changed.wait(wait)

    def _next(self, now: float) -> Job | None:
        """What is due now: timers go first, so that a flood of jobs does not stop the heartbeat."""
        if self._urgent is not None:
            urgent, self._urgent = self._urgent, None
            return urgent
        while self._timers and (self._timers[0][0] <= now or self._timers[0][2].cancelled):
            timer = heapq.heappop(self._timers)[2]
            if timer.cancelled:
                continue
            if timer.period is not None:
                following = timer.due + timer.period
                timer.due = following if following > now else now + timer.period
                heapq.heappush(self._timers, (timer.due, next(self._order), timer))
            return timer.job
        return self._jobs.popleft() if self._jobs else None

    def _wait(self, now: float, longest: float) -> float:
        until_timer = self._timers[0][0] - now if self._timers else _LONGEST_WAIT_S
        return max(0.0, min(until_timer, longest, _LONGEST_WAIT_S))

    def _notice_gap(self, now: float) -> None:
        last, self._last_turn = self._last_turn, now
        if last is None or now - last <= GAP_S:
            return
        log.warning("the work loop of %s stood still for %.1f s", self.name, now - last)
        for handler in self._gap_handlers:
            self._call(lambda handler=handler: handler(now - last))  # type: ignore[misc]

    def _call(self, job: Job) -> None:
        outer, self._occupied = self._occupied, True
        try:
            job()
        except Exception:
            self._errors += 1
            log.exception("a job of the work loop of %s failed", self.name)
        finally:
            self._occupied = outer
