"""The README's two commands and its first five minutes, run as a reader would run them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.rack import DEADLINE, Observer, Program, free_port
from tests.e2e.readme import ROOT, first_five_minutes, run_first_five_minutes

pytestmark = [pytest.mark.mosquitto, pytest.mark.slow]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("SAT_")}
    return bare | {"XDG_STATE_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}


@pytest.fixture
def demo(tmp_path: Path, environment: dict[str, str]) -> Iterator[int]:
    """``scripts/demo`` with its device streaming; the port of its broker."""
    port = free_port()
    program = Program(
        "demo", [str(ROOT / "scripts/demo"), "--port", str(port)], environment, tmp_path
    )
    program.start()
    try:
        observer = wait_for_broker(port, program)
        try:
            observer.wait(
                lambda: any("/stream/can/" in topic for topic in observer.latest), "frames", 60.0
            )
        finally:
            observer.close()
        yield port
    finally:
        program.signal(signal.SIGINT)
        program.stop()


def wait_for_broker(port: int, program: Program) -> Observer:
    deadline = time.monotonic() + 120.0  # the first run in a clone installs everything
    while time.monotonic() < deadline and program.running:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return Observer(port)
        threading.Event().wait(0.1)
    raise AssertionError(program.tail())


def test_the_demo_command_succeeds_and_says_what_it_saw(environment: dict[str, str]) -> None:
    argv = [str(ROOT / "scripts/demo"), "--seconds", "20", "--port", str(free_port()), "--json"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["ok"]
    assert summary["frames"] > 500
    assert (summary["dropped"], summary["gaps"]) == (0, 0)


def test_the_first_five_minutes_go_as_written(demo: int, environment: dict[str, str]) -> None:
    run_first_five_minutes(demo, environment)


def test_the_python_example_runs(demo: int, environment: dict[str, str]) -> None:
    (example,) = [text for language, text in first_five_minutes() if language == "python"]
    done = subprocess.run(
        [sys.executable, "-c", example],
        env=environment | {"SAT_BROKER_URL": f"mqtt://127.0.0.1:{demo}"},
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "deadbeef" in done.stdout
