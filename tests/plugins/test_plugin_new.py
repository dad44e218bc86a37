"""What `sat plugin new` writes is a plugin as it stands: checked, tested, formatted and typed,
under any name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
NAMES = ["demo", "x", "power_supply_24_channels"]


def call(folder: Path, *argv: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program as an author would, in the author's folder."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SAT_", "PYTEST_"))
    }
    done = subprocess.run(
        [str(BIN / argv[0]), *argv[1:]],
        cwd=folder,
        env=environment | {"COLUMNS": "120", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("name", NAMES)
def test_a_new_plugin_passes_its_check_and_its_tests(tmp_path: Path, name: str) -> None:
    said = call(tmp_path, "sat", "plugin", "new", name).stdout
    next_steps = [line.strip() for line in said.partition("next:\n")[2].splitlines()]
    assert [step.split()[0] for step in next_steps] == ["sat", "pytest"]
    for step in next_steps:
        call(tmp_path, *step.split())


@pytest.mark.parametrize("name", NAMES)
def test_a_new_plugin_is_formatted(tmp_path: Path, name: str) -> None:
    call(tmp_path, "sat", "plugin", "new", name, "--family", "lab", "--dir", "mine")
    isolated = ("--isolated", "--config", "line-length = 100")
    prose = "lint.pycodestyle.max-line-length = 120"  # as in this project
    first_party = 'lint.isort.known-first-party = ["sat_toolkit"]'
    call(tmp_path, "ruff", "format", *isolated, "--check", "mine")
    call(
        tmp_path,
        "ruff",
        "check",
        *isolated,
        "--config",
        prose,
        "--config",
        first_party,
        "--select",
        "E,F,W,I,B,UP,SIM,RUF100",
        "mine",
    )


def test_a_new_plugin_is_typed(tmp_path: Path) -> None:
    call(tmp_path, "sat", "plugin", "new", "demo")
    call(
        tmp_path,
        "mypy",
        "--strict",
        "--cache-dir",
        os.devnull,
        *map(str, (tmp_path / "demo").glob("*.py")),
    )


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    call(tmp_path, "sat", "plugin", "new", "demo")
    driver = tmp_path / "demo" / "drv_demo.py"
    driver.write_text("mine")
    said = call(tmp_path, "sat", "plugin", "new", "demo", status=2).stderr
    assert "not overwritten" in said
    assert driver.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Power-Supply"], "a word of a-z, 0-9 and _"),
        (["../x"], "a word of a-z"),
        (["class"], "a word of a-z"),
        (["x", "--family", "a.b"], "a family's name"),
        (["socketcan"], "ships with the project"),
        (["x", "--dir", "/proc/nowhere"], "name another folder with --dir"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_what_can(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    assert said in call(tmp_path, "sat", "plugin", "new", *arguments, status=2).stderr.replace(
        "\n", " "
    )
    assert list(tmp_path.iterdir()) == []


def test_a_name_may_be_given_with_its_prefix(tmp_path: Path) -> None:
    call(tmp_path, "sat", "plugin", "new", "drv_scope.py")
    assert (tmp_path / "scope" / "drv_scope.py").exists()


# --- sat plugin check, as a command ------------------------------------------------------------------


def test_check_reports_for_a_person_and_for_a_script(tmp_path: Path) -> None:
    call(tmp_path, "sat", "plugin", "new", "demo")
    driver = tmp_path / "demo" / "drv_demo.py"
    driver.write_text(driver.read_text().replace("def _close_impl", "def _kloze_impl"))
    said = call(tmp_path, "sat", "plugin", "check", status=1).stdout
    assert "demo/drv_demo.py:28" in said
    assert "def _close_impl(self, device: Device) -> bool:" in said
    assert "1 failed" in said
    report = json.loads(
        call(tmp_path, "sat", "plugin", "check", "demo/drv_demo.py", "--json", status=1).stdout
    )
    (plugin,) = report["plugins"]
    (fault,) = [check for check in plugin["checks"] if check["level"] == "fail"]
    assert (report["ok"], plugin["name"], plugin["family"]) == (False, "drv_demo", "demo")
    assert (fault["file"], fault["line"]) == ("demo/drv_demo.py", 28)


def test_check_is_told_where_there_is_nothing(tmp_path: Path) -> None:
    assert "sat plugin new NAME" in call(tmp_path, "sat", "plugin", "check", status=2).stderr
    assert "no such file" in call(tmp_path, "sat", "plugin", "check", "gone.py", status=2).stderr
    (tmp_path / "notes.py").write_text("")
    assert "drv_<name>.py" in call(tmp_path, "sat", "plugin", "check", "notes.py", status=1).stdout


def test_check_without_running_runs_nothing(tmp_path: Path) -> None:
    call(tmp_path, "sat", "plugin", "new", "demo")
    driver = tmp_path / "demo" / "drv_demo.py"
    driver.write_text(driver.read_text() + "\nraise RuntimeError('it was run')\n")
    call(tmp_path, "sat", "plugin", "check", "--no-dynamic")
    assert "it was run" in call(tmp_path, "sat", "plugin", "check", status=1).stdout
