"""Promises and tasks: straight-line code goes on when its outcome is there, and not a moment longer than it may."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from sat_bus.service.loop import WorkLoop
from sat_bus.service.tasks import DeadlinePassedError, Promise, Task


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
