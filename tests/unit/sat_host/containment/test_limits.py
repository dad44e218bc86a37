"""The limits that the kernel keeps, seen by a process that has them."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource
from sat_host.containment.limits import apply
from sat_host.wire_messages import WorkerLimits
{before}
apply(WorkerLimits(memory_mb=512, files=77))
print([resource.getrlimit(kind) for kind in
       (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE, resource.RLIMIT_DATA)])
"""


def limits(before: str = "") -> str:
    argv = [sys.executable, "-c", PROGRAM.format(before=before)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout


def test_the_kernel_keeps_them_for_good() -> None:
    size = 512 * 1_048_576
    assert limits() == f"[(0, 0), (77, 77), ({size}, {size})]\n"


LOWER = """
import os
if os.getuid() == 0:  # who may raise any limit
    os.setresuid(65534, 65534, 65534)
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
"""


def test_a_lower_limit_from_outside_stays() -> None:
    assert "(50, 50)" in limits(LOWER)
