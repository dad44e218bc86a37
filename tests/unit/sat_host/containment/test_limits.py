"""The limits that the kernel keeps, set in a process of its own."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import resource as r
from sat_host.containment import limits
from sat_host.wire_messages import WorkerLimits
{before}
limits.apply(WorkerLimits(memory_mb=900, files=77))
print(*(r.getrlimit(kind)[0] for kind in (r.RLIMIT_CORE, r.RLIMIT_NOFILE, r.RLIMIT_DATA)))
"""


def applied(before: str = "") -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(before=before)],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    return [int(value) for value in done.stdout.split()]


def test_there_are_no_core_dumps_and_so_many_files_and_so_much_data() -> None:
    assert applied() == [0, 77, 900 * 1_048_576]


def test_a_lower_limit_from_outside_stands_and_hinders_no_other() -> None:
    """Root may raise it all the same."""
    core, files, data = applied("r.setrlimit(r.RLIMIT_NOFILE, (50, 50))")
    assert core == 0
    assert files in (50, 77)
    assert data == 900 * 1_048_576
