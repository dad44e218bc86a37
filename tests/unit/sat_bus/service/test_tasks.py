"""Promises and tasks: straight-line code goes on when its outcome is there, and not a moment longer than it may."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from sat_bus.service.loop import WorkLoop
from sat_bus.service.tasks import DeadlinePassedError, Promise, Task, gather, start


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Rig:
    def __init__(self) -> None:
        self.clock = Clock()
        self.loop = WorkLoop("test", clock=self.clock)
        self.told: list[Any] = []

    def start(self, coroutine: Coroutine[Any, None, None]) -> Task:
        return Task(self.loop, coroutine)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.loop.post(lambda: passed.append(True))
        passed: list[bool] = []  # timers that are due run before jobs
        assert self.loop.run_until(lambda: bool(passed), 5.0)

    async def tell(self, promise: Promise[Any]) -> None:
        try:
            self.told.append(await promise)
        except (DeadlinePassedError, ValueError) as error:
            self.told.append(type(error).__name__)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_task_goes_on_when_its_outcome_is_there(rig: Rig) -> None:
    promise: Promise[int] = Promise()
    rig.start(rig.tell(promise))
    assert rig.told == []
    promise.set_result(3)
    assert rig.told == [3]


def test_a_settled_promise_is_not_waited_for(rig: Rig) -> None:
    promise: Promise[int] = Promise()
    promise.set_result(3)
    rig.start(rig.tell(promise))
    assert rig.told == [3]


def test_only_the_first_outcome_counts(rig: Rig) -> None:
    promise: Promise[int] = Promise()
    promise.set_result(1)
    promise.set_result(2)
    promise.set_exception(ValueError())
    rig.start(rig.tell(promise))
    assert rig.told == [1]


def test_all_who_wait_go_on_in_the_order_in_which_they_came(rig: Rig) -> None:
    promise: Promise[int] = Promise()

    async def note(name: str) -> None:
        await promise
        rig.told.append(name)

    for name in "abc":
        rig.start(note(name))
    promise.set_result(0)
    assert rig.told == ["a", "b", "c"]


def test_an_error_is_raised_in_who_waits(rig: Rig) -> None:
    promise: Promise[int] = Promise()
    rig.start(rig.tell(promise))
    promise.set_exception(ValueError())
    assert rig.told == ["ValueError"]


def test_a_deadline_ends_the_wait_and_not_the_promise(rig: Rig) -> None:
    promise: Promise[int] = Promise()
    rig.start(rig.tell(promise.by(rig.loop, 101.0)))
    rig.pass_time(0.9)
    assert rig.told == []
    rig.pass_time(0.2)
    assert rig.told == ["DeadlinePassedError"]
    promise.set_result(3)
    rig.start(rig.tell(promise))
    assert rig.told == ["DeadlinePassedError", 3]


@pytest.mark.parametrize("before", [True, False])
def test_an_outcome_in_time_outlives_its_deadline(rig: Rig, before: bool) -> None:
    promise: Promise[int] = Promise()
    if before:
        promise.set_result(3)
    rig.start(rig.tell(promise.by(rig.loop, 101.0)))
    promise.set_result(3)
    rig.pass_time(2.0)
    assert rig.told == [3]


def test_an_error_in_time_comes_through_the_deadline(rig: Rig) -> None:
    promise: Promise[int] = Promise()
    rig.start(rig.tell(promise.by(rig.loop, 101.0)))
    promise.set_exception(ValueError())
    assert rig.told == ["ValueError"]


def test_a_cancelled_task_hears_of_nothing_else(rig: Rig) -> None:
    promise: Promise[int] = Promise()
    task = rig.start(rig.tell(promise))
    task.cancel(ValueError())
    promise.set_result(3)
    assert rig.told == ["ValueError"]
    task.cancel(ValueError())
    assert rig.told == ["ValueError"]


def test_what_a_task_raises_is_counted_and_reaches_nobody_else(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    promise: Promise[int] = Promise()

    async def fail() -> None:
        await promise
        raise KeyError("mine")

    rig.start(fail())
    rig.start(rig.tell(promise))
    promise.set_result(3)
    assert rig.told == [3]
    assert rig.loop.errors == 1
    assert "KeyError" in caplog.text


def test_what_is_started_runs_beside_whoever_awaits_it_and_outlives_them(rig: Rig) -> None:
    promise: Promise[int] = Promise()

    async def double() -> int:
        value = await promise
        rig.told.append("went on")
        return 2 * value

    started = start(rig.loop, double())
    task = rig.start(rig.tell(started))
    task.cancel(ValueError())
    assert rig.told == ["ValueError"]
    promise.set_result(3)
    assert rig.told == ["ValueError", "went on"]
    assert started.result() == 6


def test_an_error_of_what_was_started_is_raised_in_who_awaits_it(rig: Rig) -> None:
    async def fail() -> int:
        raise ValueError("mine")

    rig.start(rig.tell(start(rig.loop, fail())))
    assert rig.told == ["ValueError"]
    assert rig.loop.errors == 0


def test_what_is_gathered_runs_side_by_side_and_comes_in_order(rig: Rig) -> None:
    promises: list[Promise[int]] = [Promise(), Promise()]

    async def one(index: int) -> int:
        rig.told.append(f"began {index}")
        return await promises[index]

    async def both() -> None:
        rig.told.append(await gather(rig.loop, [one(0), one(1)]))

    rig.start(both())
    assert rig.told == ["began 0", "began 1"]
    promises[1].set_result(11)
    promises[0].set_result(10)
    assert rig.told[2:] == [[10, 11]]


async def nothing(rig: Rig) -> None:
    rig.told.append(await gather(rig.loop, []))


def test_nothing_gathered_is_there_at_once(rig: Rig) -> None:
    rig.start(nothing(rig))
    assert rig.told == [[]]


@pytest.mark.parametrize("how", ["one fails", "cancelled"])
def test_what_is_gathered_ends_together(rig: Rig, how: str) -> None:
    promises: list[Promise[int]] = [Promise(), Promise()]

    async def one(promise: Promise[int]) -> int:
        try:
            return await promise
        except ValueError:
            rig.told.append("ended")
            raise

    async def both() -> None:
        try:
            await gather(rig.loop, [one(promise) for promise in promises])
        except ValueError:
            rig.told.append("told")

    task = rig.start(both())
    if how == "cancelled":
        task.cancel(ValueError())
    else:
        promises[0].set_exception(ValueError())
    assert sorted(rig.told) == ["ended", "ended", "told"]
    promises[1].set_result(1)
    assert len(rig.told) == 3
    assert rig.loop.errors == 0
