"""The import contracts of pyproject.toml bite: each forbidden import, put into a copy of the tree,
is named."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("shared", "services", "plugins")


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(tree / part) for part in ("shared", "services", "."))
    }
    return subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--no-cache"],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for source in SOURCES:
        shutil.copytree(
            ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_tree_as_it_is_keeps_every_contract(tree: Path) -> None:
    result = lint(tree)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("path", "line", "contract", "offence"),
    [
        (
            "services/sat_host/__init__.py",
            "import paho.mqtt.client",
            "Only sat_bus.transport.mqtt imports paho, and its client",
            "sat_host -> paho",
        ),
        (
            "shared/sat_bus/contract/topics.py",
            "import paho",
            "Only sat_bus.transport.mqtt imports paho, and its client",
            "sat_bus.contract.topics -> paho",
        ),
        (
            "services/sat_orchestrator/__init__.py",
            "import sat_host",
            "no service imports another",
            "sat_orchestrator -> sat_host",
        ),
        (
            "shared/sat_bus/transport/bus.py",
            "import sat_client",
            "Imports point down",
            "sat_bus.transport.bus -> sat_client",
        ),
        (
            "shared/sat_toolkit/core/lifecycle.py",
            "import time",
            "Pure modules",
            "sat_toolkit.core.lifecycle -> time",
        ),
        (
            "services/sat_orchestrator/fleet/planner.py",
            "import threading",
            "Pure folders",
            "sat_orchestrator.fleet.planner -> threading",
        ),
        (
            "plugins/devices/can/__init__.py",
            "import sat_bus",
            "Plugins import the SDK",
            "plugins.devices.can -> sat_bus",
        ),
        (
            "services/sat_host/__init__.py",
            "import sat_toolkit.testing",
            "The kits for tests",
            "sat_host -> sat_toolkit.testing",
        ),
        (
            "services/sat_cli/__init__.py",
            "import sat_bus.testing.memory",
            "The kits for tests",
            "sat_cli -> sat_bus.testing",
        ),
        (
            "shared/sat_toolkit/__init__.py",
            "import can",
            "The SDK knows no plugin",
            "sat_toolkit -> can",
        ),
    ],
)
def test_a_forbidden_import_is_named(
    tree: Path, path: str, line: str, contract: str, offence: str
) -> None:
    with (tree / path).open("a") as source:
        source.write(f"\n{line}\n")
    result = lint(tree)
    assert result.returncode == 1
    broken = result.stdout[result.stdout.index("Broken contracts") :]
    assert contract in broken
    assert offence in broken


def test_what_calls_itself_pure_is_kept_pure() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    kept = [
        name
        for contract in contracts["contracts"]
        if contract["id"] in ("pure", "pure-modules")
        for name in contract["source_modules"]
    ]
    claimed: set[str] = set()
    for source in ("shared", "services"):
        for path in (ROOT / source).rglob("*.py"):
            if "PURE" in (ast.get_docstring(ast.parse(path.read_text())) or ""):
                claimed.add(".".join(path.relative_to(ROOT / source).with_suffix("").parts))
    assert {
        name for name in claimed if not f"{name}.".startswith(tuple(f"{k}." for k in kept))
    } == set()


@pytest.mark.parametrize(
    ("program", "spared"),
    [
        ("sat_cli.app", ["sat_toolkit.testing"]),
        (
            "sat_host.app",
            ["rich"],
        ),  # structlog would have it, for tracebacks that are printed plain
        ("sat_orchestrator.app", ["alembic", "rich"]),
        ("sat_client", ["jsonschema"]),
        # There is one for each device: what they start with counts.
        (
            "sat_host.worker.server",
            [
                "jsonschema",
                "pydantic",
                "sat_bus.contract",
                "sat_bus.transport",
                "sat_host.devices",
                "sat_host.pool",
                "sat_toolkit.core.json_schema",
                "structlog",
            ],
        ),
    ],
)
def test_nothing_is_loaded_that_a_program_has_no_use_for(program: str, spared: list[str]) -> None:
    code = (
        f"import sys, {program}; print([n for n in sys.modules if n.startswith({tuple(spared)!r})])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30
    )
    assert result.stdout == "[]\n", result.stdout + result.stderr
