"""A simulator's module as a program, with its own words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def simulate(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-P", "-m", "sat_cli.bench.simulate", *words]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=30)


def test_the_module_runs_with_the_words_after_its_name(tmp_path: Path) -> None:
    done = simulate("plugins.devices.can.sim_ecu", "--help", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--pty" in done.stdout


def test_a_module_of_the_current_folder_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "can.py").write_text("raise SystemExit('the wrong can')\n")
    done = simulate("plugins.devices.can.sim_ecu", "--help", folder=tmp_path)
    assert done.returncode == 0, done.stderr
