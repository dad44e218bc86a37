"""What a worker may use. The kernel keeps some of it, the host's watch the rest."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass


@dataclass(frozen=True)
class WorkerLimits:
    """Limits of one worker and all it starts.

    Attributes:
        memory_mb: resident memory together, and the data size of each process, in MiB.
        processes: how many, itself included.
        files: open files of each process.
        silence_s: seconds without any sign of life before it is killed.
    """

    memory_mb: int = 1024
    processes: int = 64
    files: int = 1024
    silence_s: float = 3.0


def apply(limits: WorkerLimits) -> None:
    """Have the kernel keep the limits that it can, for this process and its children; no core
    dumps."""
    size = limits.memory_mb * 1_048_576
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, limits.files),
        (resource.RLIMIT_DATA, size),
    ):
        with contextlib.suppress(ValueError, OSError):  # a lower limit was set from outside
            resource.setrlimit(kind, (value, value))
