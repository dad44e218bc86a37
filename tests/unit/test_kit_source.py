"""What `sat plugin check` says of a driver's source: each fault with its line and what to write,
and no false alarm."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from sat_cli.kit.check import check_source
from sat_cli.kit.findings import Finding, failed
from sat_cli.kit.new import new_plugin
from sat_toolkit.core.plugin_loader import REQUIRED_HOOKS, find_plugins, plugin_folders


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """A driver as `sat plugin new` writes it."""
    return new_plugin("probe", None, tmp_path)[0]


def faults(path: Path) -> list[Finding]:
    return [finding for finding in check_source(path) if finding.level != "ok"]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) >= 1, old
    path.write_text(text.replace(old, new, 1))


def guard(path: Path, clause: str, handler: str) -> None:
    """Put an exception handler into the acquisition loop."""
    line, inner = "            time.sleep(PERIOD)\n", " " * 16
    edit(path, line, f"            try:\n    {line}            {clause}:\n{inner}{handler}\n")


def without(path: Path, name: str) -> None:
    """Remove a method of the driver's class."""
    lines = path.read_text().splitlines(keepends=True)
    (node,) = (
        item
        for cls in ast.walk(ast.parse("".join(lines)))
        if isinstance(cls, ast.ClassDef) and cls.name == "ProbeDriver"
        for item in cls.body
        if isinstance(item, ast.FunctionDef) and item.name == name
    )
    path.write_text("".join(lines[: node.lineno - 1] + lines[node.end_lineno :]))


def test_a_new_driver_has_no_fault(driver: Path) -> None:
    assert faults(driver) == []


@pytest.mark.parametrize("plugin", find_plugins(plugin_folders()), ids=lambda plugin: plugin.name)
def test_no_driver_that_ships_has_one(plugin: object) -> None:
    assert faults(plugin.path) == []  # type: ignore[attr-defined]


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
    # what is written instead, (level, check), what is said, in which line, what to do
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
    edit(driver, old, new)
    found = [finding for finding in faults(driver) if finding.check == check]
    assert found, faults(driver)
    (fault,) = [finding for finding in found if text in finding.text] or found
    assert (fault.level, fault.check) == (level, check)
    assert text in fault.text
    assert fix in fault.fix
    assert 0 < fault.line <= len(driver.read_text().splitlines())


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


# --- the file -----------------------------------------------------------------------------------------


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


def test_a_driver_that_starts_its_acquisition_itself_calls_its_own_loop(driver: Path) -> None:
    edit(driver, "    def _acquisition_loop(self)", "    def start_acquisition(self, device: Device) -> bool:\n"
         "        return True\n\n    def _acquisition_loop(self, speed: int)")  # fmt: skip
    assert faults(driver) == []


# --- base classes ------------------------------------------------------------------------------------


def test_hooks_of_a_base_class_beside_the_driver_count(driver: Path) -> None:
    """The whole class moves to a helper module; what is left derives from it."""
    driver.with_name("common.py").write_text(driver.read_text())
    driver.write_text(
        "from plugins.devices.probe.common import ProbeDriver\n\n\nclass Better(ProbeDriver):\n    scan_period = 3.0\n"
    )
    assert faults(driver) == []
    without(driver.with_name("common.py"), "_reset_impl")
    (fault,) = faults(driver)
    assert fault.text == "class Better has no _reset_impl"


def test_of_an_unknown_base_class_nothing_is_assumed(driver: Path) -> None:
    text = driver.read_text().replace("(BaseDeviceDriver)", "(SomeDriver)")
    driver.write_text(
        text.replace("import logging", "import logging\nfrom decimal import SomeDriver")
    )
    without(driver, "_reset_impl")
    assert not failed(check_source(driver))


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


# --- what `sat plugin new` writes -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x", "power_supply", "a_name_of_24_characters_"])
def test_the_files_are_named_after_the_driver(tmp_path: Path, name: str) -> None:
    written = new_plugin(name, "lab", tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        f"lab/drv_{name}.py", f"lab/sim_{name}.py", f"lab/test_drv_{name}.py",
    ]  # fmt: skip
    assert not any(re.search("demo", path.read_text(), re.I) for path in written)
    assert faults(written[0]) == []
