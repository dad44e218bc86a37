"""The simulated console as a process: a serial port to any program, that nothing makes wait or
linger."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import serial

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT / 'shared'}{os.pathsep}{ROOT}"}
PROGRAM = [sys.executable, "-m", "plugins.devices.serial.sim_console"]


def test_a_stranger_talks_to_it_and_clients_come_and_go(sim: Callable, tmp_path: Path) -> None:
    port = tmp_path / "console"
    sim("--pty", str(port))
    for _ in range(3):
        with serial.Serial(str(port), timeout=5) as client:
            client.write(b"\rversion\r")
            assert client.read_until(b"firmware 1.4.2\r\nsat> ").endswith(
                b"version\r\nfirmware 1.4.2\r\nsat> "
            )
            client.write(b"echo half a li")


def test_clients_on_tcp_take_turns(sim: Callable, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    url = sim("--listen", "127.0.0.1:0", "--alive-file", str(alive)).ready.rsplit(maxsplit=1)[-1]
    with (
        serial.serial_for_url(url, timeout=5) as first,
        serial.serial_for_url(url, timeout=5) as second,
    ):
        first.write(b"\rversion\r")
        assert first.read_until(b"firmware 1.4.2\r\n").endswith(b"firmware 1.4.2\r\n")
        second.write(b"\rversion\r")
        first.close()
        assert second.read_until(b"firmware 1.4.2\r\n").endswith(b"firmware 1.4.2\r\n")
    assert alive.exists()


@pytest.mark.parametrize("address", ["nowhere", ":1", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_said(address: str) -> None:
    done = subprocess.run(
        [*PROGRAM, "--listen", address], env=ENVIRONMENT, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1
    assert (
        f"sim_console: {address!r} is no address to listen at; HOST:PORT is accepted" in done.stderr
    )


def test_a_client_that_does_not_read_does_not_stop_it(sim: Callable, tmp_path: Path) -> None:
    port = tmp_path / "console"
    sim("--pty", str(port), "--log-period", "3600")
    with serial.Serial(str(port), timeout=0.5, write_timeout=5) as client:
        # The answers are more than the line and the simulator hold together.
        for _ in range(2000):
            client.write(b"help\r")
        while client.read(4096):
            pass
        client.write(b"\rversion\r")
        client.timeout = 5
        assert client.read_until(b"firmware 1.4.2\r\n").endswith(b"firmware 1.4.2\r\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_a_signal_and_takes_its_link_along(
    sim: Callable, tmp_path: Path, number: int
) -> None:
    port = tmp_path / "console"
    console = sim("--pty", str(port))
    assert port.exists()
    assert console.stop(number) == 0
    assert not port.is_symlink()


def test_it_dies_with_its_parent(tmp_path: Path, wait_until: Callable) -> None:
    port = tmp_path / "console"
    parent = (
        "import subprocess, sys\n"
        f"p = subprocess.Popen({[*PROGRAM, '--die-with-parent', '--pty', str(port)]!r},\n"
        "    stdout=subprocess.PIPE, text=True)\n"
        "print(p.stdout.readline(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout.readline().startswith("sim_console ready")
    assert port.exists()
    process.kill()
    process.communicate(timeout=10)
    wait_until(lambda: not port.is_symlink())


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["--pty", "{file}"], 1, "is not a symbolic link"),
        ([], 2, "--pty"),
        (["--pty", "{file}", "--log-period", "0"], 2, "0.001 to 3600"),
    ],
)
def test_a_wrong_call_is_said(tmp_path: Path, args: list[str], status: int, message: str) -> None:
    file = tmp_path / "console"
    file.write_text("precious")
    command = [*PROGRAM, *(arg.format(file=file) for arg in args)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=20, env=ENVIRONMENT)
    assert run.returncode == status
    assert message in run.stderr
    assert file.read_text() == "precious"
