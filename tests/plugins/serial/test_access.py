"""What a user is told who may not use a port."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plugins.devices.serial.access import access_problem, advice
from plugins.devices.serial.drv_serial import SerialDriver
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.errors import DriverError
from sat_toolkit.models.Device_Model import SerialDevice

NOBODY = 65534
DIALOUT = 20  # Debian's number for it; any group that this process is not in will do


def test_the_group_that_opens_it_is_said_with_the_command() -> None:
    text = advice(Path("/dev/ttyUSB0"), 0o20660, "root", "dialout", "ann")
    assert "ann may not use /dev/ttyUSB0" in text
    assert "`usermod -aG dialout ann`" in text


@pytest.mark.parametrize(
    ("mode", "group"), [(0o20600, "dialout"), (0o20660, "root"), (0o20620, "tty")]
)
def test_a_group_that_does_not_help_is_not_advised(mode: int, group: str) -> None:
    text = advice(Path("/dev/ttyS0"), mode, "root", group, "ann")
    assert "Only root may" in text
    assert "usermod" not in text


@pytest.fixture
def nobody() -> Iterator[None]:
    """This process as a user without rights."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)


@pytest.fixture
def port() -> Iterator[str]:
    """A tty that its group may use and no one else, as a serial port is."""
    master, slave = os.openpty()
    name = os.ttyname(slave)
    os.chmod(name, 0o660)
    if os.geteuid() == 0:
        os.chown(name, 0, DIALOUT)
    yield name
    os.close(slave)
    os.close(master)


def test_a_port_that_this_user_may_use_has_no_problem(port: str) -> None:
    assert access_problem(Path(port)) is None


def test_initialize_says_it(port: str, nobody: None) -> None:
    runner = DriverRunner(SerialDriver, {}, SerialDevice("console", "Console", port))
    with pytest.raises(DriverError, match=r"nobody may not use .*`usermod -aG \w+ nobody`"):
        runner.initialize()


def test_connect_says_it(port: str, nobody: None) -> None:
    runner = DriverRunner(SerialDriver, {}, SerialDevice("console", "Console", port))
    with pytest.raises(DriverError, match=r"cannot open .*nobody may not use"):
        runner.connect()


def test_a_port_that_is_gone_says_so(rig: Callable, tmp_path: Path) -> None:
    runner = DriverRunner(
        SerialDriver, {}, SerialDevice("console", "Console", str(tmp_path / "gone"))
    )
    with pytest.raises(DriverError, match="is not there"):
        runner.initialize()
    with pytest.raises(DriverError, match="is not there"):
        runner.connect()
