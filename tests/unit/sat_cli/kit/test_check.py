"""What `sat plugin check` says of a source as a whole, and that what is well is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from sat_toolkit.core.plugin_loader import REQUIRED_HOOKS, find_plugins, plugin_folders
from tests.unit.sat_cli.kit.sources import edit, faults


def test_a_new_driver_has_no_fault(driver: Path) -> None:
    assert faults(driver) == []


@pytest.mark.parametrize("plugin", find_plugins(plugin_folders()), ids=lambda plugin: plugin.name)
def test_no_driver_that_ships_has_one(plugin: object) -> None:
    assert faults(plugin.path) == []  # type: ignore[attr-defined]


def test_a_file_that_is_no_python_is_named_with_its_line(driver: Path) -> None:
    edit(driver, "class ProbeDriver(BaseDeviceDriver):", "class ProbeDriver(BaseDeviceDriver:")
    (fault,) = faults(driver)
    assert (fault.level, fault.check) == ("fail", "file")
    assert "ProbeDriver" in driver.read_text().splitlines()[fault.line - 1]


def test_a_file_without_a_driver_is_told_what_one_looks_like(tmp_path: Path) -> None:
    (tmp_path / "drv_empty.py").write_text("x = 1\n")
    (fault,) = faults(tmp_path / "drv_empty.py")
    assert "no class that derives from BaseDeviceDriver" in fault.text
    assert all(line in fault.fix for line in REQUIRED_HOOKS.values())


def test_two_drivers_in_a_file_are_a_failure(driver: Path) -> None:
    text = driver.read_text()
    body = text[text.index("class ProbeDriver") : text.index("class Link:")]
    driver.write_text(text + "\n\n" + body.replace("ProbeDriver", "OtherDriver"))
    (fault,) = faults(driver)
    assert "several drivers: ProbeDriver, OtherDriver" in fault.text
    assert driver.read_text().splitlines()[fault.line - 1].startswith("class OtherDriver")


def test_a_name_that_is_no_drivers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text("x = 1\n")
    (fault,) = faults(tmp_path / "probe.py")
    assert "drv_<name>.py" in fault.text
