"""The wheel as somebody installs it: the base alone, and with extras that programs need.

`scripts/release` checks every extra in this way; here are those that differ most.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(300)  # packages are downloaded for the first of them


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    builder = str(Path(sys.executable).with_name("hatchling"))
    command = [builder, "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_wheel", ROOT / "scripts/check_wheel.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_contents(wheel: Path, checks: ModuleType) -> None:
    checks.check_contents(wheel)


@pytest.mark.parametrize("part", ["base", "host", "can", "orchestrator", "all"])
def test_it_works_where_nothing_else_is_installed(
    wheel: Path, checks: ModuleType, part: str
) -> None:
    checks.check(wheel, part)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("plugins/__init__.py", "would make a namespace ours"),
        ("tests/test_x.py", "it has .*tests"),
    ],
)
def test_what_must_not_be_in_it_is_told(
    wheel: Path, checks: ModuleType, tmp_path: Path, name: str, told: str
) -> None:
    other = tmp_path / wheel.name
    other.write_bytes(wheel.read_bytes())
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr(name, "")
    with pytest.raises(checks.Wrong, match=told):
        checks.check_contents(other)
