"""`sat plugin run`: a device without a broker, driven by options, by a pipe and by a person at a
terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sat_cli.kit.new import new_plugin

DEADLINE = 30.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    new_plugin("demo", None, tmp_path)
    return tmp_path


def start(folder: Path, *words: str, **more: object) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAT_")}
    streams = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    } | more
    return subprocess.Popen(
        [sys.executable, "-m", "sat_cli", "plugin", "run", "demo", *words],
        cwd=folder,
        env=environment | {"COLUMNS": "120", "TERM": "dumb"},
        text=True,
        **streams,  # type: ignore[call-overload]
    )


def run(folder: Path, *words: str, lines: str = "", status: int = 0) -> tuple[str, str]:
    process = start(folder, *words)
    out, err = process.communicate(lines, DEADLINE)
    assert process.returncode == status, out + err
    assert "Traceback" not in err, err
    return out, err


ONE = ("--sim", "--device", "demo1")


def test_commands_of_the_command_line_are_run_and_frames_printed(folder: Path) -> None:
    out, err = run(
        folder, *ONE, "--command", "set value=30", "--command", "start", "--seconds", "0.5"
    )
    assert '"setpoint": 30' in out
    assert "Started streaming" in out
    frames = [line for line in out.splitlines() if "demo1  {" in line]
    assert len(frames) >= 3
    assert all('"value": 30.' in frame or '"value": 29.9' in frame for frame in frames)
    assert "demo1 connected" in err
    assert "the stream is closed" in err


def test_a_command_that_fails_ends_it_with_a_status(folder: Path) -> None:
    out, err = run(folder, *ONE, "--command", "set value=1000", "--command", "start", status=1)
    assert "bad_args" in err
    assert "maximum of 100" in err
    assert "Started" not in out


def test_commands_come_from_a_pipe(folder: Path) -> None:
    out, err = run(
        folder,
        *ONE,
        lines="status\n\n/state\n/help\n/reset\nread\n/connect\nread\n/quit\nstart\n",
        status=1,
    )
    assert '"identity": "ACME,DEMO,1,1.0"' in out
    assert "value=number, 0..100 (required)" in out
    assert "error (bad_state)" in err
    assert '"value"' in out
    assert "Started" not in out


def test_a_device_is_named_where_there_are_several(folder: Path) -> None:
    assert "demo1, demo2" in run(folder, "--sim", status=2)[1]
    assert "does not find 'x'" in run(folder, "--sim", "--device", "x", status=2)[1]


def test_without_a_device_it_says_what_would_find_one(folder: Path) -> None:
    said = run(folder, status=1)[1].replace("\n", " ")
    assert "finds no device" in said
    assert "sat plugin run demo --sim" in said
    (folder / "demo" / "sim_demo.py").unlink()
    assert "leave --sim out" in run(folder, "--sim", status=2)[1].replace("\n", " ")


def test_a_configuration_reaches_the_driver(folder: Path) -> None:
    config = '{"devices": {"psu": "127.0.0.1:1"}}'
    assert "finds no device" in run(folder, "--config", config, status=1)[1]
    assert "--config takes a JSON object" in run(folder, "--config", "[]", status=2)[1]
    assert "--config takes a JSON object" in run(folder, "--config", "{", status=2)[1]


def test_a_device_that_fails_while_streaming_ends_it_with_a_status(folder: Path) -> None:
    driver = folder / "demo" / "drv_demo.py"
    driver.write_text(driver.read_text().replace("time.sleep(PERIOD)", "raise OSError('gone')"))
    began = time.monotonic()
    process = start(folder, *ONE, "--command", "start", "--seconds", "20")
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert time.monotonic() - began < 15
    assert "the acquisition loop died: OSError: gone" in err
    assert "drv_demo.py" in err  # where it died


def test_a_signal_closes_the_device(folder: Path) -> None:
    process = start(folder, *ONE, "--command", "start", "--seconds", "60")
    assert process.stdout is not None
    while "demo1  {" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE)
    assert "the stream is closed" in err
    assert "Traceback" not in err


def test_a_person_gets_a_prompt(folder: Path) -> None:
    master, slave = pty.openpty()
    process = start(folder, *ONE, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    said = b""

    def wait_for(text: bytes) -> None:
        nonlocal said
        deadline = time.monotonic() + DEADLINE
        while text not in said:
            ready, _, _ = select.select([master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, said
            said += os.read(master, 65536)

    wait_for(b"demo1> ")
    os.write(master, b"set value=50\n")
    wait_for(b'"setpoint": 50')
    os.write(master, b"nonsense\n")
    wait_for(b"unknown_command")
    os.write(master, b"\x04")
    assert process.wait(DEADLINE) == 0
    os.close(master)
