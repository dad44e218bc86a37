"""Each module has a test of its name, where the tests mirror the rooms of the code.

``services/sat_host/pool/handle.py`` has ``tests/unit/sat_host/pool/test_handle.py``, and
``plugins/devices/can/frames.py`` has ``tests/plugins/can/test_frames.py``. The same path below
``tests/contract`` will do, and there the file may lie in the folder itself, as it does where one
test class is for every adapter. What is left out is named below, with what tests it instead.
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS_TO_TEST = ("template", "migrations")  # an author's first files; tables, step by step

# What puts the parts together and is tried as a process, declarations, and what has no inside of
# its own that could be told from outside. Keep it short: a module that can be tested is.
ELSEWHERE = {
    "sat_host.app": "tests/integration/test_alive.py",
    "sat_host.devices.effects": "tests/unit/sat_host/devices/test_machine.py",
    "sat_host.devices.surroundings": "tests/unit/sat_host/devices/test_device.py",
    "sat_orchestrator.app": "tests/integration/test_alive.py",
    "sat_cli.main": "tests/integration/test_cli_commands.py",
    "sat_cli.commands.broker": "tests/integration/test_cli_up.py",
    "sat_cli.commands.doctor": "tests/integration/test_cli_commands.py",
    "sat_cli.commands.plugin": "tests/plugins/test_plugin_check.py",
    "sat_cli.commands.services": "tests/integration/test_alive.py",
    "sat_cli.commands.up": "tests/integration/test_cli_up.py",
    "sat_cli.kit.child": "tests/plugins/test_plugin_check.py",
    "sat_cli.kit.probe": "tests/plugins/test_plugin_check.py",
    "sat_cli.kit.run": "tests/plugins/test_plugin_run.py",
    "sat_bus.transport.network": "tests/contract/test_mqtt.py",
    "sat_bus.transport.paho_client": "tests/contract/test_mqtt.py",
    "sat_orchestrator.store.schema": "tests/unit/sat_orchestrator/store/test_database.py",
    "sat_toolkit.core.backend": "tests/unit/sat_toolkit/core/test_local_backend.py",
    "sat_toolkit.core.device_spec": "tests/unit/sat_toolkit/core/test_lifecycle.py",
    "sat_toolkit.domain.device": "tests/unit/sat_toolkit/models/test_device_model.py",
}

# TEMPORARY: being rewritten, with tests of their own. To be empty when that is merged.
AWAITED = {
    "sat_orchestrator.bus.answers",
    "sat_orchestrator.bus.host_calls",
    "sat_orchestrator.bus.publisher",
    "sat_orchestrator.requests",
    "sat_orchestrator.service",
    "sat_orchestrator.steering",
}


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file below `root`, of all modules that should have a test."""
    found = {}
    for source in ("shared", "services", "plugins"):
        start = root if source == "plugins" else root / source
        for path in sorted((root / source).rglob("*.py")):
            inner = path.relative_to(start).with_suffix("")
            if not path.name.startswith("__") and not set(inner.parts) & set(NOT_OURS_TO_TEST):
                found[".".join(inner.parts)] = path
    return found


def places(module: str) -> list[str]:
    """Where the test of a module may lie; the first is where it is expected."""
    *room, name = module.split(".")
    file = f"test_{name.lower()}.py"
    if room[0] == "plugins":
        return ["/".join(["tests/plugins", *room[2:], file])]
    folder = "/".join(room)
    return [
        f"tests/unit/{folder}/{file}",
        f"tests/contract/{folder}/{file}",
        f"tests/contract/{file}",
    ]


def problems(root: Path, elsewhere: dict[str, str], awaited: set[str]) -> list[str]:
    """What is wrong with the mirror, a line for each module."""
    found = []
    known = modules(root)
    for module in known:
        there = [place for place in places(module) if (root / place).is_file()]
        excused = module in elsewhere or module in awaited
        if not there and not excused:
            found.append(f"{module} has no test of its name: expected {places(module)[0]}")
        if there and excused:
            found.append(f"{module} is an exception, and has a test of its name: {there[0]}")
    found += [
        f"{name} is an exception, and is not there" for name in {*elsewhere, *awaited} - {*known}
    ]
    found += [
        f"{name} is said to be tested by {place}, which is not there"
        for name, place in elsewhere.items()
        if not (root / place).is_file()
    ]
    return sorted(found)


def test_each_module_has_a_test_of_its_name() -> None:
    assert problems(ROOT, ELSEWHERE, AWAITED) == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A module with a test of its name, in each of the places."""
    for name in (
        "services/sat_host/pool/handle.py", "tests/unit/sat_host/pool/test_handle.py",
        "shared/sat_toolkit/models/Device_Model.py", "tests/unit/sat_toolkit/models/test_device_model.py",
        "shared/sat_bus/transport/mqtt.py", "tests/contract/test_mqtt.py",
        "plugins/devices/can/frames.py", "tests/plugins/can/test_frames.py",
        "plugins/devices/tcp_link.py", "tests/plugins/test_tcp_link.py",
        "services/sat_host/__init__.py", "services/sat_cli/kit/template/drv_demo.py",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_mirror_without_a_flaw_has_no_problems(tree: Path) -> None:
    assert problems(tree, {}, set()) == []


def test_a_module_without_a_test_is_named_with_where_it_is_expected(tree: Path) -> None:
    (tree / "tests/unit/sat_host/pool/test_handle.py").rename(tree / "tests/unit/test_handle.py")
    assert problems(tree, {}, set()) == [
        "sat_host.pool.handle has no test of its name: "
        "expected tests/unit/sat_host/pool/test_handle.py"
    ]


def test_an_exception_has_to_be_one(tree: Path) -> None:
    elsewhere = {
        "sat_host.gone": "tests/contract/test_mqtt.py",
        "sat_host.pool.handle": "tests/none.py",
    }
    assert problems(tree, elsewhere, {"plugins.devices.tcp_link"}) == [
        "plugins.devices.tcp_link is an exception, and has a test of its name: tests/plugins/test_tcp_link.py",
        "sat_host.gone is an exception, and is not there",
        "sat_host.pool.handle is an exception, and has a test of its name: tests/unit/sat_host/pool/test_handle.py",
        "sat_host.pool.handle is said to be tested by tests/none.py, which is not there",
    ]
