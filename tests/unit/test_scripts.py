"""The checks check: a stale page, a lock out of step and a skipped test are each found and
named."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROJECT = """
[build-system]
requires = ["hatchling"]
[project]
dependencies = ["alpha>=1,<2"]
[project.optional-dependencies]
dev = ["beta_tool>=3"]
"""
HASH = "--hash=sha256:00"
LOCK = {
    "alpha": f"alpha==1.5 \\\n    {HASH}\n    # via x (pyproject.toml)\n",
    "beta-tool": f"beta-tool==3.0 ; python_full_version < '3.12' \\\n    {HASH}\n    # via x (pyproject.toml)\n",
    "hatchling": f"hatchling==1.0 \\\n    {HASH}\n",
}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lock(**changed: str) -> str:
    return "".join(
        (LOCK | {name.replace("_", "-"): text for name, text in changed.items()}).values()
    )


def test_a_lock_in_step_has_no_problems() -> None:
    assert load("check_lock").problems(PROJECT, lock()) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (lock(alpha=""), "alpha<2,>=1 is not pinned"),
        (lock(alpha=LOCK["alpha"].replace("1.5", "2.0")), "alpha<2,>=1 is pinned as 2.0"),
        (lock(beta_tool="beta-tool==3.0\n"), "beta-tool==3.0 has no hash"),
        (
            lock(gamma=LOCK["alpha"].replace("alpha", "gamma")),
            "gamma==1.5 is pinned for the project",
        ),
        (lock(hatchling=""), "hatchling is not pinned"),
    ],
)
def test_a_lock_out_of_step_is_told(text: str, problem: str) -> None:
    (found,) = load("check_lock").problems(PROJECT, text)
    assert problem in found


def test_the_reference_pages_are_what_the_code_says() -> None:
    assert load("generate_docs").drift(ROOT / "docs" / "reference") == ""


def test_an_example_of_the_help_loses_nothing_but_its_looks() -> None:
    plain = load("generate_docs")._plain("[bold]ls[/] | jq '.devices[]' [dim]\\[x][/dim]")
    assert plain == "ls | jq '.devices[]' [x]"


@pytest.mark.parametrize("page", ["lifecycle.md", "contract.md", "asyncapi.json", "cli.md"])
def test_a_page_that_drifts_is_shown_as_a_diff(tmp_path: Path, page: str) -> None:
    docs = load("generate_docs")
    docs.write(tmp_path)
    path = tmp_path / page
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:-1], "somebody's own words\n"]))
    found = docs.drift(tmp_path)
    assert f"--- docs/reference/{page}" in found
    assert "-somebody's own words" in found
    assert f"+{lines[-1]}" in found


def run_tests(
    tmp_path: Path, body: str, plugin: str = "tests.strict"
) -> subprocess.CompletedProcess[str]:
    """Run a test file of its own under a plugin: the one that `scripts/test --all` loads, unless
    told otherwise."""
    (tmp_path / "test_it.py").write_text(f"import pytest\n{body}\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            plugin,
            "-p",
            "no:cacheprovider",
            "--rootdir",
            ".",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "def test_it():\n    pytest.skip('no hardware')",
            "skipped under --all: Skipped: no hardware",
        ),
        (
            "@pytest.mark.skip(reason='no hardware')\ndef test_it(): ...",
            "skipped under --all: Skipped: no hardware",
        ),
        (
            "pytest.skip('no hardware', allow_module_level=True)",
            "skipped as a whole under --all: Skipped: no hardware",
        ),
        (
            "@pytest.mark.xfail(reason='later')\ndef test_it():\n    assert False",
            "expected to fail under --all: later",
        ),
        (
            "@pytest.mark.xfail(reason='later')\ndef test_it(): ...",
            "expected to fail under --all: later",
        ),
    ],
)
def test_nothing_is_left_out_under_all(tmp_path: Path, body: str, told: str) -> None:
    result = run_tests(tmp_path, body)
    assert result.returncode != 0
    assert told in result.stdout


def test_a_whole_run_passes_under_all(tmp_path: Path) -> None:
    result = run_tests(tmp_path, "def test_it():\n    assert True")
    assert result.returncode == 0, result.stdout


def test_a_failed_test_shows_what_its_programs_have_said(tmp_path: Path) -> None:
    body = """
class Program:
    def logs(self):
        return "it was the valve"

@pytest.fixture
def program():
    return Program()

def test_it(program):
    assert False
"""
    told = run_tests(tmp_path, body, "tests.conftest").stdout
    assert "logs of program" in told
    assert "it was the valve" in told
    assert (
        "valve"
        not in run_tests(
            tmp_path, body.replace("assert False", "assert True"), "tests.conftest"
        ).stdout
    )


def test_the_virtual_machines_tests_run_beside_all_others_which_run_one_by_one(
    tmp_path: Path,
) -> None:
    files = [f"tests/{name}.py" for name in ("vm/test_a", "vm/test_b", "e2e/test_a", "e2e/test_b")]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("def test_one(): ...\ndef test_two(): ...\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-n", "2", "-p", "tests.beside", "-p", "no:cacheprovider"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    ran = set(re.findall(r"\[(gw\d)\] .* PASSED tests/(\w+)/", result.stdout))
    assert {folder for _, folder in ran} == {"vm", "e2e"}, result.stdout
    assert len({worker for worker, _ in ran}) == len(ran) == 2, result.stdout


def said_of_all() -> str:
    """The lines of scripts/test that say which folders `--all` runs."""
    lines = (ROOT / "scripts" / "test").read_text().splitlines()
    return "\n".join(
        line for line in lines if "together=(" in line or '"${alone[@]}" tests/' in line
    )


@pytest.mark.parametrize(
    "tier", sorted({path.relative_to(ROOT).parts[1] for path in ROOT.glob("tests/*/**/test_*.py")})
)
def test_every_tier_is_run_by_all(tier: str) -> None:
    assert re.search(rf"\b{tier}\b", said_of_all())


ALONE = "mark.alone"  # scripts/test looks for the words in full


def test_a_file_is_run_alone_as_a_whole() -> None:
    """A mark on one test would take its whole file along."""
    marked = [
        path for path in ROOT.glob("tests/**/test_*.py") if f"pytest.{ALONE}" in path.read_text()
    ]
    assert len(marked) >= 1
    for path in marked:
        (line,) = [line for line in path.read_text().splitlines() if ALONE in line]
        assert line.startswith("pytestmark = "), f"{path}: {line}"


def find_python(
    tmp_path: Path, *, version: str, has_venv: bool
) -> subprocess.CompletedProcess[str]:
    """Let scripts/lib.sh choose when the only Python is one of this version, with or without its
    venv module."""
    fake = tmp_path / "python3"
    old = tuple(int(part) for part in version.split(".")) < (3, 11)
    fake.write_text(
        "#!/bin/sh\n"
        'case "$2" in\n'
        f"    *print*) echo {version} ;;\n"
        f"    *sys.exit*) exit {int(old)} ;;\n"
        f"    *ensurepip*) exit {int(not has_venv)} ;;\n"
        "esac\n"
    )
    fake.chmod(0o755)
    return subprocess.run(
        ["bash", "-c", "set -euo pipefail; source scripts/lib.sh; find_python"],
        cwd=ROOT,
        env=os.environ | {"SAT_PYTHON": str(fake)},
        capture_output=True,
        text=True,
        timeout=20,
    )


def test_setup_takes_a_python_that_will_do(tmp_path: Path) -> None:
    result = find_python(tmp_path, version="3.12", has_venv=True)
    assert (result.returncode, result.stdout) == (0, f"{tmp_path}/python3\n")


@pytest.mark.parametrize(
    ("version", "has_venv", "told"),
    [
        ("3.9", True, "Python 3.11 or newer is needed; {fake} is Python 3.9."),
        ("3.12", False, "apt-get install python3.12-venv"),
    ],
)
def test_setup_says_what_to_install(
    tmp_path: Path, version: str, has_venv: bool, told: str
) -> None:
    result = find_python(tmp_path, version=version, has_venv=has_venv)
    assert result.returncode == 1
    assert told.format(fake=tmp_path / "python3") in result.stderr
    assert "SAT_PYTHON=" in result.stderr
