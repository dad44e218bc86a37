"""Straight-line code on a work loop: an `async` function that waits for outcomes, each with its
deadline.

A `Promise` is an outcome that is not there yet; a `Task` runs a coroutine and goes on, on the spot,
when what it awaits is there. `start` and `gather` run coroutines beside the one that awaits them.
All of it belongs to the one thread that runs the loop's jobs: no locks, no asyncio, and nothing
waits by blocking.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Iterable
from typing import Any, Generic, TypeVar

from sat_bus.service.loop import Timer, WorkLoop

T = TypeVar("T")


class DeadlinePassedError(Exception):
    """What was awaited was not there in time."""


class Promise(Generic[T]):
    """An outcome that is not there yet. It is settled once; whatever comes after that is ignored.

    Any number of tasks may await it. One that awaits a settled promise goes on at once.
    """

    __slots__ = ("_error", "_settled", "_value", "_waiting")

    def __init__(self) -> None:
        self._settled = False
        self._value: T | None = None
        self._error: Exception | None = None
        self._waiting: list[Task | _Relay[T]] = []

    @property
    def settled(self) -> bool:
        """Whether the outcome is there."""
        return self._settled

    def set_result(self, value: T) -> None:
        """It is there: whoever awaits it goes on now, in the order in which they came."""
        if not self._settled:
            self._value = value
            self._settle()

    def set_exception(self, error: Exception) -> None:
        """It failed: `error` is raised in whoever awaits it."""
        if not self._settled:
            self._error = error
            self._settle()

    def by(self, loop: WorkLoop, deadline: float) -> Promise[T]:
        """To be awaited in the place of this one: the same outcome, or DeadlinePassedError once
        `deadline`, in seconds on the loop's clock, has passed."""
        if self._settled:
            return self
        timed: Promise[T] = Promise()
        timer = loop.at(deadline, lambda: timed.set_exception(DeadlinePassedError()))
        self._waiting.append(_Relay(timed, timer))
        return timed

    def result(self) -> T:
        """The outcome, which must be there.

        Raises:
            Exception: what it failed with.
        """
        assert self._settled
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def __await__(self) -> Generator[Promise[Any], None, T]:
        if not self._settled:
            yield self
        return self.result()

    def follow(self, other: Promise[T]) -> None:
        """Take over the outcome of `other`, which is there."""
        if not self._settled:
            self._value, self._error = other._value, other._error
            self._settle()

    def _settle(self) -> None:
        self._settled = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.resume(self)


class _Relay(Generic[T]):
    """Hands the outcome of one promise to another that has a deadline of its own."""

    __slots__ = ("_onward", "_timer")

    def __init__(self, onward: Promise[T], timer: Timer) -> None:
        self._onward = onward
        self._timer = timer

    def resume(self, promise: Promise[T]) -> None:
        """The outcome is there."""
        self._timer.cancel()
        self._onward.follow(promise)


class Task:
    """A coroutine that runs on `loop` from now on, up to where it first has to wait.

    What it raises is logged and counted by the loop, as what a job raises.
    """

    __slots__ = ("_awaits", "_coroutine", "_loop")

    def __init__(self, loop: WorkLoop, coroutine: Coroutine[Any, None, None]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._awaits: Promise[Any] | None = None
        loop.call(self._step)

    def resume(self, promise: Promise[Any]) -> None:
        """Go on: what it awaits is there. For promises to call; one that it no longer awaits is
        ignored."""
        if promise is self._awaits:
            self._awaits = None
            self._loop.call(self._step)

    def cancel(self, error: Exception) -> None:
        """Raise `error` where it waits; nothing happens when it has ended."""
        if self._awaits is not None:
            self._awaits = None
            self._loop.call(lambda: self._step(error))

    def _step(self, error: Exception | None = None) -> None:
        try:
            awaited = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        except StopIteration:
            return
        self._awaits = awaited
        awaited._waiting.append(self)


def start(loop: WorkLoop, coroutine: Coroutine[Any, Any, T]) -> Promise[T]:
    """Run `coroutine` beside whoever awaits what comes of it; it goes on when they no longer do."""
    promise: Promise[T] = Promise()
    Task(loop, _into(promise, coroutine))
    return promise


async def gather(loop: WorkLoop, coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What comes of `coroutines`, which run beside each other, in their order. When one of them
    fails, or who awaits them is cancelled, the others are cancelled with the same error."""
    promises: list[Promise[T]] = []
    tasks: list[Task] = []
    for coroutine in coroutines:
        promises.append(Promise())
        tasks.append(Task(loop, _into(promises[-1], coroutine)))
    try:
        return [await promise for promise in promises]
    except Exception as error:
        for task in tasks:
            task.cancel(error)
        raise


async def _into(promise: Promise[T], coroutine: Coroutine[Any, Any, T]) -> None:
    try:
        value = await coroutine
    except Exception as error:  # noqa: BLE001 - who awaits it gets it
        promise.set_exception(error)
    else:
        promise.set_result(value)
