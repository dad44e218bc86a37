"""One run of an acquisition loop: ended once, and never alive again."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from sat_toolkit.core.acquisition import Acquisition, AcquisitionEvent
from tests.waiting import Inbox

DEADLINE = 10.0


class Run:
    """An acquisition whose loop does what the test says; `told` is how it ended."""

    def __init__(self, loop: Callable[[Acquisition], None]) -> None:
        self.told: Inbox[str | None] = Inbox()
        self.acquisition = Acquisition(
            self, "test/run", lambda: loop(self.acquisition), lambda _, reason: self.told(reason)
        )

    def start(self) -> Acquisition:
        self.acquisition.start()
        return self.acquisition


def until_cleared(run: Acquisition) -> None:
    while run.event.is_set():
        threading.Event().wait(0.001)


def test_a_retired_event_stays_clear_whatever_is_done_to_it() -> None:
    event = AcquisitionEvent()
    event.set()
    assert event.is_set()
    event.retire()
    event.set()
    assert not event.is_set()


def test_who_claims_a_run_first_ends_it_and_nobody_else() -> None:
    run = Run(until_cleared)
    acquisition = run.start()
    assert acquisition.claim()
    assert not acquisition.claim()
    assert acquisition.join(DEADLINE)
    assert run.told.items == []  # who claimed it knows


def test_a_loop_that_dies_tells_what_of() -> None:
    error = OSError("the port is gone")

    def die(_: Acquisition) -> None:
        raise error

    run = Run(die)
    run.start()
    (reason,) = run.told.wait()
    assert reason is not None
    assert "the acquisition loop died" in reason
    assert "the port is gone" in reason
    assert run.acquisition.error is error
    assert not run.acquisition.claim()
    assert run.acquisition.join(DEADLINE)


@pytest.mark.parametrize("dead", [SystemExit(3), KeyboardInterrupt()])
def test_a_loop_that_would_end_the_process_is_dead_as_well(dead: BaseException) -> None:
    def leave(_: Acquisition) -> None:
        raise dead

    run = Run(leave)
    run.start()
    assert run.told.wait()[0] is not None
    assert run.acquisition.join(DEADLINE)


def test_a_loop_that_returns_while_it_should_run_is_told_and_one_that_was_ended_is_not() -> None:
    run = Run(lambda _: None)
    run.start()
    assert run.told.wait() == ["the acquisition loop returned while streaming"]
    ended = Run(lambda acquisition: acquisition.event.clear())
    ended.start()
    assert ended.told.wait() == [None]
    for acquisition in (run.acquisition, ended.acquisition):
        assert acquisition.join(DEADLINE)


def test_a_loop_that_does_not_end_in_time_is_left_behind_with_its_event_clear() -> None:
    go_on = threading.Event()

    def hang(_: Acquisition) -> None:
        go_on.wait(DEADLINE)

    run = Run(hang)
    acquisition = run.start()
    assert acquisition.claim()
    assert not acquisition.join(0.01)
    assert not acquisition.event.is_set()
    go_on.set()
    assert acquisition.join(DEADLINE)


def test_a_loop_may_join_itself() -> None:
    joined: Inbox[bool] = Inbox()
    run = Run(lambda acquisition: joined(acquisition.join(DEADLINE)))
    run.start()
    assert joined.wait() == [True]
    assert run.acquisition.join(DEADLINE)
