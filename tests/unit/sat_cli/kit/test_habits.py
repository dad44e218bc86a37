"""The checks of a file as a whole: names, imports, swallowed errors, manners."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.sat_cli.kit.sources import edit, fault_in, faults, guard

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


def test_a_loop_that_swallows_everything_is_named(driver: Path) -> None:
    guard(driver, "except Exception", "logger.error('x')")
    (fault,) = faults(driver)
    assert (fault.level, fault.check) == ("warn", "errors")
    assert "looks alive for ever" in fault.text
    assert "except Exception" in driver.read_text().splitlines()[fault.line - 1]


@pytest.mark.parametrize(
    "handler",
    [
        "raise",
        "self._release()\n                raise RuntimeError('x') from error",
    ],
)
def test_an_error_that_goes_somewhere_is_not_swallowed(driver: Path, handler: str) -> None:
    guard(driver, "except Exception as error", handler)
    assert faults(driver) == []


def test_a_handler_that_an_author_answers_for_is_left_alone(driver: Path) -> None:
    guard(driver, "except Exception as error", "self.failure = error")
    assert [fault.check for fault in faults(driver)] == ["errors"]
    edit(driver, "except Exception as error:", "except Exception as error:  # noqa: BLE001 - kept")
    assert faults(driver) == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("os.system('ls')", "os.system() runs a shell"),
        ("sys.exit(1)", "sys.exit() ends the process"),
        ("signal.signal(1, 2)", "signal.signal() takes the process's signals over"),
        ("subprocess.run(['sudo', 'ip'])", "sudo is called"),
    ],
)
def test_what_a_guest_does_not_do_is_named_once(driver: Path, call: str, said: str) -> None:
    module = call.partition(".")[0]
    edit(driver, "import time\n", f"import time\nimport {module}\n")
    edit(driver, "time.sleep(PERIOD)", f"{call}; {call}; time.sleep(PERIOD)")
    assert {(fault.level, fault.text) for fault in faults(driver)} == {("warn", said)}


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
