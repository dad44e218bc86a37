"""`sat plugin check` runs a driver in a process that it outlives, and says what it did, where, and
what to do."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sat_cli.kit.check import check_plugin
from sat_cli.kit.child import Options, run_probe
from sat_cli.kit.findings import Finding, failed
from sat_cli.kit.new import new_plugin
from sat_toolkit.testing import RULES
from sat_toolkit.testing import TcpInstrument as Instrument
from tests.waiting import eventually

LIMIT = 30.0
SHORT = 3.0


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """A driver as `sat plugin new` writes it, with its simulator."""
    return new_plugin("probe", None, tmp_path)[0]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) >= 1, old
    path.write_text(text.replace(old, new, 1))


def run(path: Path, **options: object) -> list[Finding]:
    return list(run_probe(path, Options(**{"limit": LIMIT} | options)))  # type: ignore[arg-type]


def faults(path: Path) -> list[Finding]:
    return [finding for finding in run(path) if finding.level != "ok"]


def test_a_new_driver_passes_with_every_rule(driver: Path) -> None:
    found = list(check_plugin(driver, dynamic=True, options=Options()))
    assert [finding for finding in found if finding.level != "ok"] == []
    assert {rule.name for rule in RULES} <= {finding.check for finding in found}
    assert "probe1, probe2" in next(finding.text for finding in found if finding.check == "scan")


def test_a_driver_whose_source_fails_is_not_run(driver: Path) -> None:
    edit(driver, "def _close_impl", "def _no_close_impl")
    driver.write_text(driver.read_text() + "\n\nopen('ran', 'w')\n")
    found = list(check_plugin(driver, dynamic=True, options=Options()))
    assert failed(found)
    assert found[-1].text.startswith("not run")


AT_IMPORT = "\n\ndef at_import() -> None:\n    {}\n\n\nat_import()\n"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("__import__('os')._exit(7)", "the process ends with exit status 7"),
        ("time.sleep(60)", "it hangs: no end after 3 s"),
        ("__import__('ctypes').string_at(0)", "the process is ended by SIGSEGV"),
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
    ],
)
def test_what_an_import_does_is_said_as_that(driver: Path, what: str, said: str) -> None:
    driver.write_text(driver.read_text() + AT_IMPORT.format(what))
    began = time.monotonic()
    (fault,) = (finding for finding in run(driver, limit=SHORT) if finding.level != "ok")
    assert time.monotonic() - began < SHORT + 10
    assert (fault.level, fault.check) == ("fail", "import")
    assert said in fault.text
    assert fault.file == str(driver)
    if "_exit" not in what:  # a process that is gone at once cannot say where it was
        assert what in driver.read_text().splitlines()[fault.line - 1]


RULE_FAULTS = [
    # what is written instead, and the rule that is not held, what is said
    ("self._link = Link(self._addresses()[device.device_id])", "time.sleep(60)",
     "the device goes up and down", "hangs"),
    ("Once for each way up.\"\"\"\n        return True", "\"\"\"\n        return False", "the device goes up and down",
     "Initialization failed"),
    ("self._release()\n        self._link", "threading.Thread(target=threading.Event().wait, name='mine', daemon=True)"
     ".start()\n        self._link", "the device goes up and down", "threads are left running: mine"),
    ("self.stop_streaming(device)", "pass", "the stream starts and stops", "is still open after stop"),
    ("channel=device.device_id", "channel='x'", "the stream starts and stops", "on another channel than"),
    ("data=self._read(),", "data=1 / 0,", "the stream starts and stops", "ZeroDivisionError"),
    ("        if link is not None:\n            link.close()", "        LEFT.append(link)\n\n\nLEFT = []",
     "nothing is left open", "files and sockets are open"),
    ('"identity": self._ask("*IDN?")', '"identity": self', "each command answers, in JSON", "no data"),
    ('return {"value": float', 'raise CommandFailed("unknown command") #', "each command answers, in JSON",
     "is declared, and then refused"),
    ("timestamp=time.time()", "timestamp=time.monotonic()", "frames say what they are", "is not of today"),
    ("found.append(Device(name,", "found.append(Device(f'{name}-{time.time()}',",
     "a second scan finds the same devices", "then ["),
    ('"identity": identity', '"identity": identity.encode()', "the scan gives devices that can travel", "are no JSON"),
    ("self._release()\n        self._link", "self.supported_commands['x'] = self.seen.append(1)\n        self._link",
     "instances are independent", "all instances share ProbeDriver.seen"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "rule", "said"), RULE_FAULTS, ids=[said for *_, said in RULE_FAULTS]
)
def test_a_rule_that_is_not_held_is_named(
    driver: Path, old: str, new: str, rule: str, said: str
) -> None:
    edit(driver, old, new)
    edit(driver, "    rescan_in_worker = False\n", "    rescan_in_worker = False\n    seen = []\n")
    found = {
        fault.check: fault
        for fault in run(driver, limit=SHORT if said == "hangs" else LIMIT)
        if fault.level != "ok"
    }
    assert rule in found, found
    assert found[rule].level == "fail"
    assert said in found[rule].text
    if "Error" in said or said == "hangs":
        assert new in driver.read_text().splitlines()[found[rule].line - 1]
    else:
        assert found[rule].fix or "failed" in said


def test_a_loop_that_swallows_a_dead_port_is_found_out(driver: Path) -> None:
    swallowing = "try:\n                self._read()\n            except OSError:\n                time.sleep(0.1)\n"
    edit(
        driver,
        "        while running.is_set():\n",
        f"        while running.is_set():\n            {swallowing}                continue\n",
    )
    found = {fault.check: fault for fault in faults(driver)}
    assert list(found) == ["a device that is gone is said to be gone"]
    assert "still counts as running" in next(iter(found.values())).text


def test_what_can_only_fail_the_same_way_is_not_run(driver: Path) -> None:
    edit(driver, "data=self._read(),", "data=1 / 0,")
    first, second = faults(driver)
    assert "ZeroDivisionError" in first.text
    assert second.text.startswith("not run")
    assert "instances are independent" in second.text


def test_an_error_that_came_up_before_is_not_told_twice(driver: Path) -> None:
    edit(driver, '"hardware_id": identity', '"hardware_id": identity.encode()')
    texts = [fault.text for fault in faults(driver)]
    assert "are no JSON" in texts[0]
    assert set(texts[1:-1]) == {"as above"}


def test_a_device_that_does_not_come_up_is_told_once(driver: Path) -> None:
    edit(
        driver,
        "self._link = Link(self._addresses()[device.device_id])",
        "raise OSError('no such port')",
    )
    first, second = faults(driver)
    assert "Connection failed: OSError: no such port" in first.text
    assert second.text.startswith("not run")


def test_what_is_printed_is_found(driver: Path) -> None:
    edit(
        driver,
        "        found: list[Device] = []",
        "        found: list[Device] = []\n        print('hello', flush=True)",
    )
    (fault,) = faults(driver)
    assert (fault.level, fault.check) == ("warn", "output")
    assert "'hello'" in fault.text


def test_a_simulator_that_breaks_is_not_blamed_on_the_driver(driver: Path) -> None:
    simulator = driver.with_name("sim_probe.py")
    edit(
        simulator,
        "    first, second = Probe(1), Probe(2)\n",
        "    raise OSError('no port')\n",
    )
    (fault,) = faults(driver)
    assert (fault.level, fault.check, fault.file) == ("fail", "simulator", str(simulator))
    assert "no port" in fault.text


def test_without_simulator_and_hardware_it_says_what_was_not_looked_at(driver: Path) -> None:
    driver.with_name("sim_probe.py").unlink()
    (fault,) = faults(driver)
    assert (fault.level, fault.check) == ("warn", "scan")
    assert "nothing more was run" in fault.text
    assert "sim_probe.py" in fault.fix


def test_a_configuration_stands_in_for_the_simulator(driver: Path) -> None:
    """Hardware is asked for nothing but its status."""
    with Instrument(answer) as instrument:
        info = {"devices": {"psu": instrument.address}}
        found = run(driver, info=info, simulate=False)
        assert [fault for fault in found if fault.level != "ok"] == []
        assert "SET?" in instrument.received
        assert not [line for line in instrument.received if line.startswith("SET ")]


def answer(line: str) -> str:
    return "20.0" if line in ("READ?", "SET?") else "ACME"


def test_nothing_that_it_started_is_left(driver: Path) -> None:
    mark = f"600.{time.monotonic_ns()}"
    edit(
        driver,
        "        found: list[Device] = []",
        f"        __import__('subprocess').Popen(['sleep', '{mark}'])\n        found = []",
    )
    run(driver)
    assert eventually(lambda: not any(mark in line for line in command_lines()))


def command_lines() -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.append((process / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:  # it ended while we looked
            continue
    return found
