"""The jobs that wait for a device. PURE: the time is an argument, and nothing is run or answered
here."""

from __future__ import annotations

from collections import deque

from sat_host.devices.jobs import Job
from sat_toolkit.core.lifecycle import Operation
from sat_toolkit.errors import Busy

LENGTH = 16
FIRST = (Operation.RESET, Operation.CLOSE)


class JobQueue:
    """Jobs in order of arrival, but that reset and close go first; so many of either kind.

    Args:
        owner: the device, as the refusal of one job too many names it.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._urgent: deque[Job] = deque()
        self._others: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._others)

    def put(self, job: Job) -> None:
        """Let `job` wait for its turn.

        Raises:
            Busy: too many wait already.
        """
        queue = self._urgent if job.operation in FIRST else self._others
        if len(queue) >= LENGTH:
            raise Busy(f"{LENGTH} requests wait for {self._owner} already; try again later")
        queue.append(job)

    def take(self, now: float) -> tuple[Job | None, list[Job]]:
        """The job whose turn it is, or None, and those before it whose deadline has passed: they
        are not to be started any more."""
        expired: list[Job] = []
        for queue in (self._urgent, self._others):
            while queue:
                job = queue.popleft()
                if now < job.deadline:
                    return job, expired
                expired.append(job)
        return None, expired

    def clear(self) -> list[Job]:
        """All that wait, in the order of their turns; none does afterwards."""
        jobs = [*self._urgent, *self._others]
        self._urgent.clear()
        self._others.clear()
        return jobs
