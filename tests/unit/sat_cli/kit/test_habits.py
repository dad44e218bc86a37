"""The checks of a file as a whole: names, imports, swallowed errors, manners."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.sat_cli.kit.sources import edit, fault_in, faults

FAULTS = [
    # what is written instead, level, check, what is said, what to do
    ("import time\n", "", "fail", "names", "time is not defined", "add: import time"),
    (
        ", DeviceType\n",
        "\n",
        "fail",
        "names",
        "DeviceType is not defined",
        "from sat_toolkit.models.Device_Model import DeviceType",
    ),
    (
        "DeviceType.Ethernet",
        "DeviceType.ETHERNET",
        "fail",
        "names",
        "DeviceType has no ETHERNET",
        "Ethernet",
    ),
    (
        "self._release()\n        return True",
        "self._let_go()\n        return True",
        "fail",
        "names",
        "self._let_go is not defined",
        "write the method",
    ),
    (
        "import time\n",
        "import time\nimport no_such_library_here\n",
        "fail",
        "imports",
        "no_such_library_here is not there",
        "pip install",
    ),
    (
        "import time\n",
        "import time\nimport paho.mqtt.client\n",
        "warn",
        "imports",
        "knows nothing of the bus",
        "stream_wrapper",
    ),
    (
        "import time\n",
        "import time\nimport sat_toolkit.testing\n",
        "warn",
        "imports",
        "for tests",
        "sim_",
    ),
    (
        "except OSError as error:\n                logger",
        "except Exception as error:\n                logger",
        "warn",
        "errors",
        "_scan_impl swallows",
        "let the others out",
    ),
    (
        "time.sleep(PERIOD)",
        "print(time.sleep(PERIOD))",
        "warn",
        "manners",
        "print() prints",
        "getLogger",
    ),
    (
        "time.sleep(PERIOD)",
        "exit(time.sleep(PERIOD))",
        "warn",
        "manners",
        "ends the process",
        "raise",
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


def test_a_helper_beside_the_driver_is_imported_as_the_family_s(driver: Path) -> None:
    driver.with_name("wire_words.py").write_text("READ = 'READ?'\n")
    edit(driver, "import time\n", "import time\nimport wire_words\n")
    (fault,) = faults(driver)
    assert (
        fault.fix == "it lies beside the driver, so: from plugins.devices.probe import wire_words"
    )


def test_a_library_that_may_be_missing_may_be_missing(driver: Path) -> None:
    edit(
        driver,
        "import time\n",
        "import time\n\ntry:\n    import no_such_library\nexcept ImportError:\n    no_such_library = None\n",
    )
    assert faults(driver) == []
