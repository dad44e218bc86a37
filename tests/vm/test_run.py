"""`scripts/vm run`, as a developer calls it."""

from __future__ import annotations

import subprocess

from tests.vm.machine import ROOT


def test_a_command_runs_in_a_machine_of_its_own() -> None:
    script = "cat /proc/1/comm; sat --version; exit 3"
    command = ["scripts/vm", "run", "--systemd", "--", "sh", "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 3, done.stderr
    first, version = done.stdout.splitlines()
    assert first == "systemd"
    assert version.startswith("sat ")
    assert "booted in" in done.stderr
