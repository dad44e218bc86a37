"""The leash: a program ends with its parent, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from sat_cli.bench import leash
from tests.waiting import eventually

LEASH = [sys.executable, "-I", "-S", str(Path(leash.__file__))]


def test_the_program_takes_the_place_of_the_leash() -> None:
    done = subprocess.run(
        [*LEASH, str(os.getpid()), "sh", "-c", "echo $$; exit 7"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=20,
    )
    assert done.returncode == 7
    assert done.stdout.strip().isdecimal()


def test_a_program_that_is_not_there_is_named() -> None:
    done = subprocess.run(
        [*LEASH, str(os.getpid()), "/no/such/program"], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 127
    assert done.stderr == "/no/such/program: No such file or directory\n"


def test_without_the_parent_nothing_is_started() -> None:
    done = subprocess.run([*LEASH, "1", "echo", "started"], capture_output=True, timeout=20)
    assert (done.returncode, done.stdout) == (1, b"")


def test_the_program_dies_with_a_parent_that_is_killed() -> None:
    parent = (
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen([*{LEASH!r}, str(os.getpid()), 'sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = Path("/proc") / process.stdout.readline().strip()
    assert eventually(lambda: (child / "comm").read_text() == "sleep\n")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    assert eventually(lambda: not child.exists() or _is_dead(child))


def _is_dead(process: Path) -> bool:
    """Whether it has ended and waits for whoever reaps orphans here."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
