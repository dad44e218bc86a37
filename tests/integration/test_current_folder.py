"""What lies in the folder where somebody starts `sat` is not imported, by no program that it starts.

An author's folder may well have a `can.py` in it; and a folder that others may write to would give
them the machine.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.benches import Sat

SCRIPT = [str(Path(sys.executable).with_name("sat"))]
MODULE = [sys.executable, "-m", "sat_cli"]
# Of the standard library, of others and of ours; each is imported by one of the programs at least.
TRAPS = ("can", "ctypes", "serial", "selectors", "sqlalchemy", "amqtt", "typer", "sat_host")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file for each name, which leaves a mark beside it when it is imported."""
    folder = tmp_path / "here"
    folder.mkdir()
    for name in TRAPS:
        (folder / f"{name}.py").write_text("open(__file__ + '.imported', 'w').close()\n")
    return folder


def imported(folder: Path) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in folder.glob("*.imported"))


def run(argv: list[str], sat: Sat, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, cwd=folder, env=sat.env, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_traps_work(folder: Path, tmp_path: Path) -> None:
    """A module that Python runs in the plain way steps into them."""
    run([sys.executable, "-m", "sat_orchestrator.app"], Sat(tmp_path), folder)
    assert imported(folder) == ["selectors"]


def test_a_bench_imports_nothing_from_the_current_folder(folder: Path, tmp_path: Path) -> None:
    """Broker, orchestrator, hosts, their workers and the simulators."""
    sat = Sat(tmp_path)
    words = ["up", "--port", str(sat.port), "--broker-kind", "embedded", "--seconds", "8"]
    done = run([*SCRIPT, *words], sat, folder)
    assert "ecu: connected" in done.stderr, done.stderr
    assert imported(folder) == []


@pytest.mark.parametrize("program", [SCRIPT, MODULE], ids=["script", "module"])
@pytest.mark.parametrize(
    "words", [["doctor"], ["plugin", "check", "demo/drv_demo.py", "--limit", "20"]]
)
def test_a_command_imports_nothing_from_the_current_folder(
    program: list[str], words: list[str], folder: Path, tmp_path: Path
) -> None:
    sat = Sat(tmp_path)
    assert run([*program, "plugin", "new", "demo"], sat, folder).returncode == 0
    said = run([*program, *words], sat, folder).stdout
    assert "loads; family can" in said or "0 failed" in said, said
    assert imported(folder) == []
