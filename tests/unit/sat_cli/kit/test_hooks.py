"""The checks of a driver class: each fault with its line and what to write, and no false alarm."""

from __future__ import annotations

from pathlib import Path

import pytest

from sat_toolkit.core.plugin_loader import REQUIRED_HOOKS
from tests.unit.sat_cli.kit.sources import edit, fault_in, faults, without


@pytest.mark.parametrize("hook", REQUIRED_HOOKS)
def test_a_hook_that_is_missing_is_named_with_the_line_to_add(driver: Path, hook: str) -> None:
    without(driver, hook)
    (fault,) = faults(driver)
    assert (fault.level, fault.text) == ("fail", f"class ProbeDriver has no {hook}")
    assert driver.read_text().splitlines()[fault.line - 1].startswith("class ProbeDriver")
    assert REQUIRED_HOOKS[hook] in fault.fix


def test_what_is_to_be_added_mends_it(driver: Path) -> None:
    without(driver, "_close_impl")
    (fault,) = faults(driver)
    edit(
        driver,
        "    def _acquisition_loop",
        fault.fix.partition("\n")[2] + "\n\n    def _acquisition_loop",
    )
    assert faults(driver) == []


def test_a_stream_without_a_loop_is_named_with_the_line_to_add(driver: Path) -> None:
    without(driver, "_acquisition_loop")
    (fault,) = faults(driver)
    assert fault.level == "fail"
    assert "def _acquisition_loop(self) -> None:" in fault.fix


FAULTS = [
    # what is written instead, level, check, what is said, what to do
    (
        "def _reset_impl(self, device: Device)",
        "def _reset_impl(self)",
        "fail",
        "hooks",
        "does not take the 1 arg",
        "use:",
    ),
    (
        "def _scan_impl(self)",
        "def _scan_impl(self, where)",
        "fail",
        "hooks",
        "does not take the 0 arg",
        "use:",
    ),
    (
        "def _connect_impl",
        "async def _connect_impl",
        "fail",
        "hooks",
        "async, and nobody awaits",
        "use:",
    ),
    (
        '        """CHANGE: look whether the device can be used. Once for each way up."""\n        return True',
        "        self.seen = device",
        "fail",
        "hooks",
        "_initialize_impl returns nothing",
        "return True",
    ),
    (
        "__init__(self, info: Mapping[str, Any] | None = None)",
        "__init__(self, info, port)",
        "fail",
        "constructor",
        "must take no arg",
        "info=None",
    ),
    (
        "super().__init__(info)",
        "self.info = {}",
        "fail",
        "constructor",
        "does not call that of the base",
        "super().__init__(info)",
    ),
    (
        "self._link: Link | None = None",
        "self._link: Link | None = self.info.get('x')",
        "warn",
        "constructor",
        "self.info is still empty",
        "hooks",
    ),
    (
        "rescan_in_worker = False",
        "rescan_in_worker = 'no'",
        "fail",
        "attributes",
        "rescan_in_worker is 'no'",
        "True or False",
    ),
    (
        "rescan_in_worker = False",
        "scan_period = 0",
        "fail",
        "attributes",
        "scan_period is 0",
        "above 0",
    ),
    ('"type": "number"', '"type": "nummer"', "fail", "commands", "'set'", "guide"),
    ('"read": "Measure once",', '"read": 5,', "fail", "commands", "'read'", "guide"),
    (
        '"read": "Measure once",',
        "",
        "warn",
        "commands",
        "read is handled and not declared",
        "declare it",
    ),
    (
        '            case "read":\n                return self._read()\n',
        "",
        "warn",
        "commands",
        "read is declared, and nothing handles it",
        "branch",
    ),
    (
        '"start": "Start streaming the measured value",',
        "",
        "warn",
        "commands",
        "start is handled and not declared",
        "declare",
    ),
    (
        "stream_types = (StreamType.CUSTOM,)",
        "stream_types = (StreamType.CAN,)",
        "warn",
        "streams",
        "StreamType.CUSTOM, which",
        "stream_types =",
    ),
    (
        "running, device = self.is_acquiring, self.device",
        "running, device = threading.Event(), self.device",
        "fail",
        "streams",
        "nothing looks at self.is_acquiring",
        "while self.is_acquiring",
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "level", "check", "text", "fix"), FAULTS, ids=lambda value: str(value)[:30]
)
def test_a_fault_is_said_with_its_line_and_what_to_do(
    driver: Path, old: str, new: str, level: str, check: str, text: str, fix: str
) -> None:
    fault = fault_in(driver, old, new, check, text)
    assert fault.level == level
    assert fix in fault.fix


def test_a_driver_that_starts_its_acquisition_itself_calls_its_own_loop(driver: Path) -> None:
    edit(driver, "    def _acquisition_loop(self)", "    def start_acquisition(self, device: Device) -> bool:\n"
         "        return True\n\n    def _acquisition_loop(self, speed: int)")  # fmt: skip
    assert faults(driver) == []
