"""The systemd units: systemd takes every line of them, finds them tight, and the programs take
their command lines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sat_bus.service.run import STOOD_DOWN

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
SYSTEM = Path("/usr/lib/systemd/system")
# What a unit may be exposed to, by the measure of systemd-analyze, in tenths of a point of ten.
EXPOSURE = {
    "sat-orchestrator.service": 15,
    "sat-host@can.service": 25,
    "sat-host@serial.service": 25,
}
# Known from systemd 254 on; before, a restart waits the same second each time.
NEWER = ("RestartSteps", "RestartMaxDelaySec")


@pytest.fixture(scope="module")
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None or not SYSTEM.is_dir():
        pytest.skip("systemd is not installed (Debian: apt-get install systemd)")
    return program


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a machine on which the programs and their units are installed."""
    units = tmp_path / "etc/systemd/system"
    shutil.copytree(SYSTEM, tmp_path / "usr/lib/systemd/system", symlinks=True)
    shutil.copytree(UNITS, units)
    program = tmp_path / "opt/sat/bin/sat"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


def verify(analyze: str, machine: Path, unit: str) -> list[str]:
    """What systemd says of `unit`; nothing is well."""
    result = subprocess.run(
        [analyze, "verify", f"--root={machine}", unit], capture_output=True, text=True, timeout=60
    )
    version = int(subprocess.check_output([analyze, "--version"], text=True).split()[1])
    known = NEWER if version < 254 else ()
    lines = (result.stdout + result.stderr).splitlines()
    said = [line for line in lines if not any(f"Unknown key '{key}'" in line for key in known)]
    return said or ([] if result.returncode == 0 else [f"exit status {result.returncode}"])


def exposed(analyze: str, machine: Path, unit: str, tenths: int) -> bool:
    """Whether `unit` is exposed to more than `tenths`."""
    options = ["--offline=true", "--no-pager", f"--threshold={tenths}", f"--root={machine}"]
    result = subprocess.run(
        [analyze, "security", *options, unit], capture_output=True, text=True, timeout=60
    )
    assert "Overall exposure level" in result.stdout, result.stderr
    return result.returncode != 0


@pytest.mark.parametrize("unit", [*EXPOSURE, "sat.target"])
def test_systemd_has_nothing_to_say_of_a_unit(analyze: str, machine: Path, unit: str) -> None:
    assert verify(analyze, machine, unit) == []


def change(machine: Path, right: str, wrong: str) -> str:
    """Write `wrong` in the place of `right` in a unit; the unit."""
    unit = machine / "etc/systemd/system/sat-orchestrator.service"
    assert right in unit.read_text()
    unit.write_text(unit.read_text().replace(right, wrong))
    return unit.name


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("/bin/sat ", "/bin/sta ", "not executable"),
        ("ProtectSystem", "ProtectSystm", "Unknown key 'ProtectSystm'"),
    ],
)
def test_what_is_wrong_in_a_unit_is_told(
    analyze: str, machine: Path, right: str, wrong: str, told: str
) -> None:
    unit = change(machine, right, wrong)
    assert any(told in line for line in verify(analyze, machine, unit))


@pytest.mark.parametrize(
    "guard", ["User=sat\n", "CapabilityBoundingSet=\n", "SystemCallFilter=@system-service\n"]
)
def test_a_unit_without_a_guard_is_exposed(analyze: str, machine: Path, guard: str) -> None:
    unit = change(machine, guard, "")
    assert exposed(analyze, machine, unit, EXPOSURE[unit])


@pytest.mark.parametrize(("unit", "tenths"), EXPOSURE.items())
def test_a_unit_is_tight(analyze: str, machine: Path, unit: str, tenths: int) -> None:
    assert not exposed(analyze, machine, unit, tenths)


def command(unit: Path, instance: str) -> list[str]:
    (line,) = re.findall(r"^ExecStart=/opt/sat/bin/sat (.*)$", unit.read_text(), re.M)
    return str(line).replace("%i", instance).split()


@pytest.mark.parametrize("name", ["sat-orchestrator.service", "sat-host@.service"])
def test_a_program_takes_its_units_command_line_and_a_wrong_setting_ends_it_for_good(
    tmp_path: Path, name: str
) -> None:
    """The settings file is read, as it is found wrong; the status is one after which systemd leaves
    it alone."""
    words = command(UNITS / name, "can")
    at = words.index("--config") + 1
    settings = tmp_path / Path(words[at]).name
    table = words[0]
    settings.write_text(f'[{table}]\nlog_format = "loud"\n')
    words[at] = str(settings)
    result = subprocess.run(
        [sys.executable, "-m", "sat_cli", *words],
        env={key: value for key, value in os.environ.items() if not key.startswith("SAT_")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f"log_format in [{table}] of {settings}" in result.stderr
    final = re.findall(r"^RestartPreventExitStatus=(.*)$", (UNITS / name).read_text(), re.M)
    assert {result.returncode, STOOD_DOWN} == {int(word) for word in final[0].split()}


def test_the_target_starts_every_program() -> None:
    for unit in UNITS.glob("*.service"):
        assert "\nPartOf=sat.target\n" in unit.read_text()
        assert "\nWantedBy=sat.target\n" in unit.read_text()


def test_the_account_is_the_units(tmp_path: Path) -> None:
    program = shutil.which("systemd-sysusers") or pytest.skip("systemd is not installed")
    (tmp_path / "etc").mkdir()
    options = [f"--root={tmp_path}", "--replace=/usr/lib/sysusers.d/sat.conf"]
    subprocess.run(
        [program, *options, str(UNITS / "sat.conf")], check=True, capture_output=True, timeout=60
    )
    (account,) = (tmp_path / "etc/passwd").read_text().splitlines()
    assert account.startswith("sat:")
    assert ":/var/lib/sat:" in account
    assert {
        re.findall(r"^User=(.*)$", unit.read_text(), re.M)[0] for unit in UNITS.glob("*.service")
    } == {"sat"}
