"""What of its limits a worker has the kernel keep. The host's watch keeps the rest."""

from __future__ import annotations

import contextlib
import resource

from sat_host.wire_messages import WorkerLimits


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
