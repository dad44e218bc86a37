"""The checks can fail: a healthcheck, a port, a volume and a topic are broken on purpose, and each
is told."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.compose import checks
from tests.compose.stack import Stack

BROKEN = """
services:
  broker:
    ports: !override ["127.0.0.1:{ws_port}:9002", "127.0.0.1:${SAT_MQTT_PORT}:1883"]
  orchestrator:
    volumes: !override ["${SAT_RACK:-./deploy/rack}:/etc/sat:ro"]
    tmpfs: ["/var/lib/sat:uid=10001,gid=10001"]
  sim-serial:
    healthcheck: {test: [CMD, "true"]}
  sim-can:
    environment: {SAT_SITE: elsewhere}
"""
SICK = """
services:
  console:
    healthcheck: {test: [CMD, "false"], interval: 1s, retries: 1, start_period: 1s}
"""


@pytest.fixture(scope="module")
def broken(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("broken"), BROKEN) as running:
        yield running


@pytest.mark.parametrize(
    ("check", "complaint"),
    [
        (checks.check_ports, "port for WebSocket"),
        (checks.check_desired_survives, "volume of the orchestrator"),
        (checks.check_health, "health of sim-serial"),
        (lambda stack: checks.check_table(stack, 3.0), "topics of .*ecu"),
    ],
    ids=["port", "volume", "healthcheck", "topic"],
)
def test_what_is_broken_is_told(
    broken: Stack, check: Callable[[Stack], None], complaint: str
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check(broken)


def test_up_waits_for_health_and_fails_without_it(engine: None, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError), Stack(tmp_path, SICK):
        pass
