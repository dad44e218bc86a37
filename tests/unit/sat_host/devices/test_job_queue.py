"""Which job's turn it is, and which may wait at all."""

from __future__ import annotations

import pytest

from sat_host.devices.job_queue import LENGTH, JobQueue
from sat_host.devices.jobs import Job
from sat_toolkit.core.lifecycle import Operation
from sat_toolkit.errors import Busy

OTHERS = [Operation.COMMAND, Operation.INITIALIZE, Operation.CONNECT]


def job(operation: Operation = Operation.COMMAND, deadline: float = 100.0) -> Job:
    return Job(operation, "ann", deadline)


@pytest.fixture
def queue() -> JobQueue:
    return JobQueue("can0")


def test_an_empty_queue_has_nothing(queue: JobQueue) -> None:
    assert len(queue) == 0
    assert queue.take(0.0) == (None, [])


def test_jobs_come_in_order_of_arrival(queue: JobQueue) -> None:
    jobs = [job(operation) for operation in OTHERS]
    for each in jobs:
        queue.put(each)
    assert len(queue) == 3
    assert [queue.take(0.0) for _ in jobs] == [(each, []) for each in jobs]
    assert len(queue) == 0


@pytest.mark.parametrize("first", [Operation.RESET, Operation.CLOSE])
def test_reset_and_close_go_first_among_themselves_in_order(
    queue: JobQueue, first: Operation
) -> None:
    late, urgent, other = job(), job(first), job(Operation.RESET)
    for each in (late, urgent, other):
        queue.put(each)
    assert [queue.take(0.0)[0] for _ in range(3)] == [urgent, other, late]


@pytest.mark.parametrize("operation", [Operation.COMMAND, Operation.CLOSE])
def test_sixteen_of_a_kind_may_wait(queue: JobQueue, operation: Operation) -> None:
    assert LENGTH == 16
    for _ in range(LENGTH):
        queue.put(job(operation))
    with pytest.raises(Busy, match="16 requests wait for can0 already; try again later"):
        queue.put(job(operation))
    assert len(queue) == LENGTH
    other = Operation.RESET if operation is Operation.COMMAND else Operation.CONNECT
    queue.put(job(other))
    assert len(queue) == LENGTH + 1


def test_what_waited_past_its_deadline_is_passed_over(queue: JobQueue) -> None:
    late, just, punctual, later = job(deadline=9.0), job(deadline=10.0), job(deadline=10.1), job()
    for each in (late, just, punctual, later):
        queue.put(each)
    assert queue.take(10.0) == (punctual, [late, just])
    assert queue.take(200.0) == (None, [later])


def test_all_that_wait_can_be_taken_out_at_once(queue: JobQueue) -> None:
    first, second, urgent = job(), job(), job(Operation.RESET)
    for each in (first, second, urgent):
        queue.put(each)
    assert queue.clear() == [urgent, first, second]
    assert len(queue) == 0
    assert queue.clear() == []
