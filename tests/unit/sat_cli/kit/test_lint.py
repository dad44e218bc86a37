"""What ruff knows of a driver's source, said in our words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.sat_cli.kit.sources import edit, faults, guard


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
