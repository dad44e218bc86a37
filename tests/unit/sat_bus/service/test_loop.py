"""The work loop: order, timers, gaps, faults, ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sat_bus.service.loop import WorkLoop
from tests.waiting import eventually


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loop(clock: Clock) -> WorkLoop:
    return WorkLoop("test", clock=clock)


def run_through(loop: WorkLoop) -> None:
    """Run what waits now, then end."""
    loop.post(loop.stop)
    loop.run()


@contextmanager
def running(loop: WorkLoop) -> Iterator[None]:
    """Run it on a thread of its own, idle by the time the body begins."""
    thread = threading.Thread(target=loop.run)
    thread.start()
    ready = threading.Event()
    loop.post(ready.set)
    assert ready.wait(5)
    try:
        yield
    finally:
        loop.stop()
        thread.join(5)


class TestJobs:
    def test_run_in_order_of_arrival(self, loop: WorkLoop) -> None:
        done: list[int] = []
        for number in range(5):
            assert loop.post(lambda number=number: done.append(number))
        assert loop.depth == 5
        run_through(loop)
        assert done == [0, 1, 2, 3, 4]

    def test_come_from_any_thread_and_end_the_wait(self) -> None:
        loop = WorkLoop("test")
        threading.Timer(0.05, lambda: loop.post(loop.stop)).start()
        loop.run()
        assert loop.stopped

    def test_beyond_the_capacity_are_refused_and_counted(self) -> None:
        loop = WorkLoop("test", capacity=2)
        assert [loop.post(lambda: None) for _ in range(4)] == [True, True, False, False]
        assert loop.dropped == 2

    def test_after_the_stop_are_refused(self, loop: WorkLoop) -> None:
        loop.stop()
        assert not loop.post(lambda: None)
        loop.run()

    def test_that_raise_are_logged_and_counted(
        self, loop: WorkLoop, caplog: pytest.LogCaptureFixture
    ) -> None:
        done: list[str] = []
        loop.post(lambda: [][0])
        loop.post(lambda: done.append("next"))
        with caplog.at_level(logging.ERROR):
            run_through(loop)
        assert done == ["next"]
        assert loop.errors == 1
        assert "a job of the work loop of test failed" in caplog.text

    def test_what_waits_at_the_stop_is_not_run(self, loop: WorkLoop) -> None:
        done: list[str] = []
        loop.post(loop.stop)
        loop.post(lambda: done.append("late"))
        loop.run()
        assert done == []


class TestTimers:
    def test_run_when_due(self, loop: WorkLoop, clock: Clock) -> None:
        done: list[str] = []
        loop.later(2.0, lambda: done.append("second"))
        loop.later(1.0, lambda: done.append("first"))

        def move(seconds: float) -> Callable[[], None]:
            def job() -> None:
                clock.now += seconds

            return job

        loop.post(move(1.0))
        loop.post(lambda: done.append("job"))
        loop.post(move(1.0))
        run_through(loop)
        assert done == ["first", "job", "second"]

    def test_go_before_jobs_so_that_a_flood_does_not_stop_the_heartbeat(
        self, loop: WorkLoop, clock: Clock
    ) -> None:
        beats: list[float] = []
        loop.every(1.0, lambda: beats.append(clock.now))

        def work() -> None:
            clock.now += 0.25
            if clock.now < 110:
                loop.post(work)
            else:
                loop.stop()

        loop.post(work)
        loop.post(work)
        loop.run()
        assert len(beats) >= 8

    def test_do_not_make_up_for_missed_turns(self, loop: WorkLoop, clock: Clock) -> None:
        beats: list[float] = []
        loop.every(1.0, lambda: beats.append(clock.now), first=0.0)

        def sleep() -> None:
            clock.now += 10.0

        loop.post(sleep)
        run_through(loop)
        assert beats == [100.0, 110.0]

    def test_can_be_cancelled(self, loop: WorkLoop, clock: Clock) -> None:
        done: list[str] = []

        def once() -> None:
            done.append("once")
            again.cancel()

        timer = loop.later(1.0, lambda: done.append("cancelled"))
        again = loop.every(1.0, once)
        timer.cancel()
        timer.cancel()
        clock.now += 1.0
        run_through(loop)
        clock.now += 5.0
        assert timer.cancelled
        assert done == ["once"]

    def test_that_were_cancelled_do_not_pile_up(self, loop: WorkLoop) -> None:
        for _ in range(10_000):
            loop.later(600.0, lambda: None).cancel()
        assert len(loop._timers) < 1_000

    @pytest.mark.parametrize("period", [0.0, -1.0])
    def test_need_a_period(self, loop: WorkLoop, period: float) -> None:
        with pytest.raises(ValueError, match="positive"):
            loop.every(period, lambda: None)


class TestGap:
    def test_is_told_before_anything_else_runs(self, loop: WorkLoop, clock: Clock) -> None:
        seen: list[str] = []
        loop.on_gap(lambda seconds: seen.append(f"gap {seconds:g}"))
        loop.later(3.0, lambda: seen.append("timer"))

        def freeze() -> None:
            clock.now += 4.0

        loop.post(freeze)
        loop.post(lambda: seen.append("job"))
        run_through(loop)
        assert seen == ["gap 4", "timer", "job"]

    def test_is_none_up_to_a_second_and_a_half(self, loop: WorkLoop, clock: Clock) -> None:
        seen: list[float] = []
        loop.on_gap(seen.append)

        def work() -> None:
            clock.now += 1.4

        loop.post(work)
        loop.post(work)
        run_through(loop)
        assert seen == []

    def test_is_none_while_the_loop_has_nothing_to_do(self) -> None:
        loop = WorkLoop("test")
        seen: list[float] = []
        loop.on_gap(seen.append)
        loop.later(1.8, loop.stop)
        loop.run()
        assert seen == []


class TestRunUntil:
    def test_keeps_the_loop_turning_within_a_job(self, loop: WorkLoop) -> None:
        done: list[str] = []

        def outer() -> None:
            loop.post(lambda: done.append("inner"))
            assert loop.run_until(lambda: bool(done), 1.0)
            done.append("outer")
            loop.stop()

        loop.post(outer)
        loop.run()
        assert done == ["inner", "outer"]

    def test_gives_up_at_its_deadline(self) -> None:
        assert not WorkLoop("test").run_until(lambda: False, 0.05)


class TestFinish:
    def test_runs_its_handlers_before_any_further_job(self, loop: WorkLoop) -> None:
        seen: list[str] = []
        loop.on_finish(lambda: seen.append("finish"))
        loop.post(lambda: loop.finish(3))
        loop.post(lambda: seen.append("job"))
        loop.run()
        assert seen == ["finish"]
        assert loop.status == 3

    def test_a_handler_may_wait_for_what_other_threads_post(self, loop: WorkLoop) -> None:
        seen: list[str] = []

        def stop() -> None:
            loop.post(lambda: seen.append("worker ended"))
            assert loop.run_until(lambda: bool(seen), 1.0)

        loop.on_finish(stop)
        loop.finish()
        loop.run()
        assert seen == ["worker ended"]
        assert loop.status == 0

    def test_the_first_call_decides_the_status(self, loop: WorkLoop) -> None:
        loop.finish(4)
        loop.finish(5)
        loop.run()
        assert loop.status == 4

    def test_a_handler_that_raises_makes_it_a_failure(self, loop: WorkLoop) -> None:
        loop.on_finish(lambda: [][0])
        loop.finish()
        loop.run()
        assert loop.status == 1


class TestPerform:
    def test_runs_at_once_on_the_callers_thread_while_the_loop_has_nothing_to_do(
        self, loop: WorkLoop
    ) -> None:
        with running(loop):
            seen: list[int] = []
            assert eventually(
                lambda: loop.perform(lambda: seen.append(threading.get_ident())) and bool(seen)
            )
            assert threading.get_ident() in seen

    def test_keeps_its_turn_behind_what_waits_and_what_runs(self, loop: WorkLoop) -> None:
        with running(loop):
            entered, go_on, done = threading.Event(), threading.Event(), threading.Event()
            order: list[str] = []

            def first() -> None:
                entered.set()
                assert go_on.wait(5)
                loop.perform(lambda: order.append("from within"))
                order.append("first")

            loop.post(first)
            assert entered.wait(5)
            loop.perform(lambda: order.append("second"))
            loop.perform(done.set)
            assert order == []
            go_on.set()
            assert done.wait(5)
            assert eventually(lambda: order == ["first", "second", "from within"])

    def test_waits_for_run(self, loop: WorkLoop) -> None:
        seen: list[int] = []
        assert loop.perform(lambda: seen.append(1))
        assert seen == []
        run_through(loop)
        assert seen == [1]

    def test_is_refused_after_the_end(self, loop: WorkLoop) -> None:
        run_through(loop)
        assert not loop.perform(lambda: None)

    def test_runs_one_job_at_a_time_whatever_the_thread(self) -> None:
        loop = WorkLoop("test")
        inside, worst, count = 0, 0, 0

        def job() -> None:
            nonlocal inside, worst, count
            inside += 1
            worst = max(worst, inside)
            inside -= 1
            count += 1

        def give() -> None:
            for _ in range(300):
                assert loop.perform(job)

        with running(loop):
            givers = [threading.Thread(target=give) for _ in range(3)]
            for giver in givers:
                giver.start()
            for giver in givers:
                giver.join()
            assert eventually(lambda: count == 900)
        assert worst == 1

    def test_a_job_that_raises_is_logged_and_counted(self, loop: WorkLoop) -> None:
        with running(loop):
            assert loop.perform(lambda: [][0])
            assert eventually(lambda: loop.errors == 1)


def test_a_loop_tells_the_time_of_its_clock() -> None:
    assert WorkLoop("test", clock=lambda: 7.0).now() == 7.0
