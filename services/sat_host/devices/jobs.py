"""What is asked of a device, what became of it, and how long it may take. Plain data."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sat_toolkit.core.lifecycle import Operation, Step
from sat_toolkit.errors import SatError


@dataclass(frozen=True)
class JobOutcome:
    """What became of a job. `error` None: it succeeded."""

    result: Any = None
    error: SatError | None = None


@dataclass
class Job:
    """An operation asked of a device.

    Attributes:
        by: who asked, as the status names it.
        deadline: on the host's monotonic clock; a job not begun by then is `expired`.
        done: told the outcome, once.
        reason: why the host itself wants it; stands in the status.
        started: whether the driver has been asked; until then the job can be dropped without
            effect.
    """

    operation: Operation
    by: str
    deadline: float
    done: Callable[[JobOutcome], None]
    command: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    started: bool = False
    steps: deque[Step] = field(default_factory=deque)

    @property
    def word(self) -> str:
        """The operation as the status shows it: a command by its name."""
        return self.command or self.operation.value


@dataclass(frozen=True)
class Deadlines:
    """Seconds a driver's hook may take before its worker is killed."""

    initialize: float = 30.0
    connect: float = 30.0
    reset: float = 10.0
    close: float = 10.0
    command: float = 30.0
