"""The part of the lock file that an image installs: all that is needed, and nothing that only
developers need."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = """\
alpha==1.0 \\
    --hash=sha256:a1 \\
    --hash=sha256:a2
    # via
    #   sat-rack (pyproject.toml)
    #   tool
beta-two==2.0 ; python_version < '3.12' \\
    --hash=sha256:b1
    # via alpha
beta-two==2.1 ; python_version >= '3.12' \\
    --hash=sha256:b2
    # via alpha
deep==1.0 \\
    --hash=sha256:d1
    # via
    #   beta-two
    #   tool
extra==3.0 \\
    --hash=sha256:e1
    # via tool
tool==4.0 \\
    --hash=sha256:f1
    # via sat-rack (pyproject.toml)
"""


@pytest.fixture(scope="module")
def locked() -> ModuleType:
    spec = importlib.util.spec_from_file_location("locked", ROOT / "deploy" / "locked.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_the_roots_need_comes_along_with_its_hashes_and_versions(locked: ModuleType) -> None:
    text = locked.part(LOCK, ["Alpha>=1"])
    assert text == LOCK[: LOCK.index("extra==")]


def test_what_only_others_need_stays_out(locked: ModuleType) -> None:
    assert "alpha" in locked.part(LOCK, ["tool"])
    assert locked.part(LOCK, ["beta_two"]).count("==") == 3


PROJECT = {
    "project": {
        "name": "sat-rack",
        "dependencies": ["alpha>=1"],
        "optional-dependencies": {
            "one": ["deep"],
            "two": ["sat-rack[one]", "beta-two"],
            "both": ["sat-rack[one,two]"],
        },
    }
}


@pytest.mark.parametrize(
    ("extras", "needed"),
    [
        ([], {"alpha>=1"}),
        (["one"], {"alpha>=1", "deep"}),
        (["two"], {"alpha>=1", "deep", "beta-two"}),
        (["both"], {"alpha>=1", "deep", "beta-two"}),
    ],
)
def test_an_extra_brings_those_that_it_names(
    locked: ModuleType, extras: list[str], needed: set[str]
) -> None:
    assert set(locked.roots(PROJECT, extras)) == needed


def test_an_extra_that_is_not_there_is_named(locked: ModuleType) -> None:
    with pytest.raises(KeyError, match="no such extra: three; there are: one, two, both"):
        locked.roots(PROJECT, ["three"])


def test_a_root_that_is_not_locked_is_named(locked: ModuleType) -> None:
    with pytest.raises(KeyError, match="not in the lock: gamma"):
        locked.part(LOCK, ["gamma<2", "alpha"])
