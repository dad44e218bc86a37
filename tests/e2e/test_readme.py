"""The README's two commands and its first five minutes, run as a reader would run them."""

from __future__ import annotations

import json
import os
import re
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

pytestmark = pytest.mark.mosquitto
ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def first_five_minutes() -> list[tuple[str, str]]:
    """The fenced blocks of that section: language, text."""
    text = (ROOT / "README.md").read_text()
    section = text.split("## The first five minutes", 1)[1].split("\n## ", 1)[0]
    return BLOCK.findall(section)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("SAT_")}
    return bare | {"XDG_STATE_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}


@pytest.fixture
def demo(tmp_path: Path, environment: dict[str, str]) -> Iterator[int]:
    """``scripts/demo`` with its device streaming; the port of its broker."""
    port = free_port()
    program = Program("demo", [str(ROOT / "scripts/demo"), "--port", str(port)], environment, tmp_path)
    program.start()
    try:
        observer = wait_for_broker(port, program)
        try:
            observer.wait(lambda: any("/stream/can/" in topic for topic in observer.latest), "frames", 60.0)
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
    argv = [str(ROOT / "scripts/demo"), "--seconds", "8", "--port", str(free_port()), "--json"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["ok"]
    assert summary["frames"] > 500
    assert (summary["dropped"], summary["gaps"]) == (0, 0)


def test_the_first_five_minutes_go_as_written(demo: int, environment: dict[str, str]) -> None:
    blocks = first_five_minutes()
    script = "\n".join(text for language, text in blocks if language == "sh")
    # A reader's demo has the default port; here the same commands go to another.
    clients = "\n".join(f'{name}() {{ command {name} -p {demo} "$@"; }}' for name in ("mosquitto_sub", "mosquitto_pub"))
    script = re.sub(r"(mosquitto_pub .*)", r"\1; wait_for_reply", script)
    script = re.sub(r"(/set\" -m (\w*connected); wait_for_reply)", r"\1; wait_for_state \2", script)
    waiting = f'command mosquitto_sub -p {demo} -W 3 -C 1 -R -t "$DEVICE/res/#" >/dev/null || true'
    state = f'command mosquitto_sub -p {demo} -W 1 -C 1 -t "$DEVICE/state"'
    until = f'SECONDS=0; until [ "$({state})" = "$1" ]; do [ $SECONDS -lt 20 ] || return 1; done'
    helpers = f"wait_for_reply() {{ {waiting}; }}; wait_for_state() {{ {until}; }}"
    done = subprocess.run(
        ["bash", "-euc", f"set -m; trap 'kill %1 2>/dev/null || true' EXIT\n{clients}\n{helpers}\n{script}"],
        env=environment, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    position = 0
    for line in expected_lines(blocks):
        pieces = [re.escape(piece) for piece in line.split("...") if piece]
        found = re.compile(".*?".join(pieces)).search(done.stdout, position)
        assert found, f"{line!r} is not in what came after: {done.stdout[position:]}"
        position = found.start()


def expected_lines(blocks: list[tuple[str, str]]) -> list[str]:
    """The lines of the watching terminal that the README shows."""
    return [line for language, text in blocks if language == "text" for line in text.splitlines() if line[:3] == "..."]


def test_the_python_example_runs(demo: int, environment: dict[str, str]) -> None:
    (example,) = [text for language, text in first_five_minutes() if language == "python"]
    done = subprocess.run(
        [sys.executable, "-c", example],
        env=environment | {"SAT_BROKER_URL": f"mqtt://127.0.0.1:{demo}"},
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "deadbeef" in done.stdout
