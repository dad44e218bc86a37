"""The benchmarks' programs run and say something; how fast is not tested."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers import need_mosquitto

pytestmark = [pytest.mark.mosquitto, pytest.mark.alone]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["rate", "steady", "overload", "roundtrip", "ingest"])
def test_a_benchmark_produces_rows(name: str) -> None:
    need_mosquitto()
    sends = name in ("rate", "steady", "overload")
    if sends and shutil.which("gcc") is None and not (ROOT / ".cache/bench/bin/sender").exists():
        pytest.skip("gcc is not on the PATH (Debian: apt-get install gcc libc6-dev)")
    argv = [sys.executable, "-m", "tests.bench", "--quick", name]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [
        line
        for line in done.stdout.splitlines()
        if line.startswith("| ") and not line.startswith("| ---")
    ]
    assert len(rows) > 1, "a head, and something below it: " + done.stdout
