"""A driver by its path, and the simulator beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sat_toolkit.core.plugin_loader import plugin_at
from sat_toolkit.errors import PluginError
from sat_toolkit.testing import find_simulator, load, subject_of
from sat_toolkit.testing.loading import simulator_file


def test_the_simulator_beside_a_driver_is_found(driver: Path) -> None:
    assert load(driver).__name__ == "BenchedDriver"
    assert subject_of(driver).simulated
    assert not subject_of(driver, {"devices": {}}).simulated
    driver.with_name("sim_benched.py").rename(driver.with_name("sim_other.py"))
    assert simulator_file(driver) == driver.with_name("sim_other.py")
    driver.with_name("sim_second.py").write_text("def simulator(): ...\n")
    assert simulator_file(driver) is None  # which of the two is not said


def test_a_file_without_the_hook_is_no_simulator(driver: Path) -> None:
    driver.with_name("sim_benched.py").write_text("class Simulator: ...\n")
    assert simulator_file(driver) is None
    driver.with_name("sim_benched.py").write_text("not python (")
    assert simulator_file(driver) is None


def test_a_simulator_that_cannot_be_imported_says_so(driver: Path) -> None:
    simulator = driver.with_name("sim_benched.py")
    simulator.write_text(f"import no_such_library\n{simulator.read_text()}")
    with pytest.raises(PluginError, match=r"sim_benched\.py: cannot be imported"):
        find_simulator(plugin_at(driver))
