"""Each service as a process says that it lives: to the service manager, and to the healthcheck of
its container."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sat_cli.brokers.embedded import EmbeddedBroker
from sat_cli.brokers.tcp_ports import find_free_port
from tests.service_manager import Manager
from tests.waiting import eventually

HEALTHCHECK = Path(__file__).parents[2] / "deploy" / "healthcheck"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.close()


def healthcheck(file: Path) -> tuple[int, str]:
    environment = os.environ | {"SAT_ALIVE_FILE": str(file)}
    done = subprocess.run(
        [HEALTHCHECK], env=environment, capture_output=True, text=True, timeout=10
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "words", [["host", "--family", "can"], ["orchestrator"]], ids=["host", "orchestrator"]
)
def test_a_service_is_alive_without_the_broker_and_healthy_with_it(
    words: list[str], manager: Manager, tmp_path: Path
) -> None:
    port, file = find_free_port("127.0.0.1"), tmp_path / "alive"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SAT_")
    } | {
        "NOTIFY_SOCKET": manager.address,
        "XDG_STATE_HOME": str(tmp_path),
        "SAT_ALIVE_FILE": str(file),
        "SAT_BROKER_URL": f"mqtt://127.0.0.1:{port}",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "sat_cli", *words], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        assert "STATUS=waiting for the broker" in manager.hear(20.0)
        assert "WATCHDOG=1" in manager.hear()
        assert healthcheck(file)[0] == 1
        broker = EmbeddedBroker(port=port)
        broker.start()
        try:
            assert eventually(lambda: "READY=1" in manager.hear(), 20.0)
            assert eventually(lambda: healthcheck(file)[0] == 0)
            process.terminate()
            assert eventually(lambda: "STOPPING=1" in manager.hear())
            assert process.wait(10) == 0
        finally:
            broker.stop()
        assert not file.exists()
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize(("age", "status"), [(0, 0), (3, 0), (10, 1), (-60, 1)])
def test_the_healthcheck_goes_by_the_files_age(tmp_path: Path, age: int, status: int) -> None:
    file = tmp_path / "alive"
    file.write_text("serving\n")
    written = time.time() - age
    os.utime(file, (written, written))
    code, said = healthcheck(file)
    assert (code, "serving" in said) == (status, True)


def test_the_healthcheck_says_that_there_is_no_file(tmp_path: Path) -> None:
    assert healthcheck(tmp_path / "none") == (
        1,
        f"not serving yet, or stopped: no {tmp_path}/none\n",
    )
