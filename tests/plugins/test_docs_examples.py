"""The plugin guide's examples work as printed: its files are written out, its programs run, their
output compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sat_toolkit.testing import RULES

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "plugins" / "guide.md"
_BLOCK = re.compile(
    r"^```(?P<kind>\w+)(?: (?P<key>[\w-]+)=(?P<name>\S+))?\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    kind: str
    key: str | None
    name: str | None
    text: str


BLOCKS = [Block(**hit.groupdict()) for hit in _BLOCK.finditer(GUIDE.read_text())]
FILES = {block.name: block.text for block in BLOCKS if block.name and block.key == "file"}
OUTPUTS = {block.name: block.text for block in BLOCKS if block.key == "output-of"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAT_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment | {"SAT_PLUGINS": str(folder / "plugins" / "devices")},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_python_example_is_a_file_that_is_run() -> None:
    assert [block.text for block in BLOCKS if block.kind == "python" and block.key != "file"] == []
    programs = {name for name in FILES if "/" not in name and not name.startswith("test_")}
    assert programs == set(OUTPUTS)


@pytest.mark.parametrize("program", OUTPUTS)
def test_a_program_prints_what_the_guide_says(folder: Path, program: str) -> None:
    result = run(folder, program)
    assert result.returncode == 0, result.stderr
    assert result.stdout == OUTPUTS[program]
    assert result.stderr == ""


def test_the_example_test_passes(folder: Path) -> None:
    result = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_drv_kettle.py")
    assert result.returncode == 0, result.stdout + result.stderr
    passed = re.search(r"^(\d+) passed in", result.stdout, re.M)
    assert passed, result.stdout
    assert int(passed[1]) == 3 + len(RULES)
