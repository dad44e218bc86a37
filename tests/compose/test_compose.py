"""The project as `docker compose up` brings it up, used from outside and broken in every
container."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sat_bus.transport.mqtt import MqttBus
from tests.compose import checks
from tests.compose.stack import (
    CONSOLE,
    ECU,
    HOSTS,
    SERVICES,
    Stack,
    plain_environment,
    row_topic,
    run,
)
from tests.e2e.readme import run_first_five_minutes
from tests.waiting import Inbox, eventually

BACK_WITHIN_S = 10.0


@pytest.mark.parametrize(
    "profiles", [[], ["sim"], ["can"], ["serial"], ["sim", "can", "serial"]], ids="+".join
)
def test_the_file_is_sound_in_every_profile(engine: None, profiles: list[str]) -> None:
    chosen = [word for profile in profiles for word in ("--profile", profile)]
    run("docker", "compose", *chosen, "config", "--quiet")
    services = set(run("docker", "compose", *chosen, "config", "--services").split())
    simulated = {"ecu", "console", "sim-can", "sim-serial"}
    assert services >= {"broker", "orchestrator"}
    assert (
        simulated <= services
        if profiles in ([], ["sim"])
        else not simulated & services or "sim" in profiles
    )


def test_ports_are_served_on_the_loopback(stack: Stack) -> None:
    checks.check_ports(stack)


def test_devices_are_discovered_and_connected(stack: Stack) -> None:
    checks.check_table(stack)


def test_commands_have_their_replies(stack: Stack) -> None:
    checks.check_commands(stack)


def test_frames_come_without_a_gap(stack: Stack) -> None:
    checks.check_frames(stack)


def test_a_loop_that_hangs_is_unhealthy(stack: Stack) -> None:
    checks.check_health(stack)


def test_containers_may_do_nothing_that_they_need_not(stack: Stack) -> None:
    checks.check_contained(stack)


def test_no_start_compiles_what_it_imports(stack: Stack) -> None:
    """Nothing can be written there, so the next start would do so again."""
    script = """
import os, sys, sat_cli.app, sat_host.app, sat_host.worker.server, sat_orchestrator.app
cached = {name: getattr(module, "__cached__", None) for name, module in sys.modules.items()}
print(*(name for name, path in cached.items() if path and not os.path.exists(path)))
"""
    assert stack.exec("sim-can", f"python3 -c {shlex.quote(script)}").split() == []


def test_what_clients_want_outlives_the_orchestrators_container(stack: Stack) -> None:
    checks.check_desired_survives(stack)


def test_the_first_five_minutes_of_the_readme_go_as_written(stack: Stack) -> None:
    run_first_five_minutes(stack.port, plain_environment())


@pytest.mark.parametrize("scheme", ["mqtt", "ws"])
def test_sat_ls_shows_the_devices(stack: Stack, scheme: str) -> None:
    port = stack.port if scheme == "mqtt" else stack.ws_port
    argv = [sys.executable, "-m", "sat_cli", "ls", "--broker", f"{scheme}://localhost:{port}"]
    done = subprocess.run(argv, env=plain_environment(), capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "ecu" in done.stdout
    assert "console" in done.stdout


def test_a_web_page_may_look_and_not_drive(stack: Stack) -> None:
    heard: Inbox[bytes] = Inbox()
    with (
        MqttBus(f"ws://127.0.0.1:{stack.ws_port}", "page") as page,
        MqttBus(f"mqtt://127.0.0.1:{stack.port}", "program") as program,
    ):
        page.subscribe(f"{ECU}/state", lambda inbound: heard(inbound.payload))
        program.subscribe("test/#", lambda inbound: heard(inbound.payload))
        assert page.start(10.0)
        assert program.start(10.0)
        assert heard.wait() == [b"connected"]
        page.publish("test/x", b"from the page")
        assert page.flush(5.0)
        program.publish("test/x", b"from a program")
        assert heard.wait(2) == [b"connected", b"from a program"]


@pytest.fixture
def desired(stack: Stack) -> Iterator[None]:
    """A client wants the console connected; that is what must not be forgotten."""
    stack.ask(f"{CONSOLE}/set", "connected", f"{CONSOLE}/res/set")
    checks.check_table(stack)
    yield
    stack.ask(f"{CONSOLE}/set", "auto", f"{CONSOLE}/res/set")


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_that_crashes_is_back_in_ten_seconds(
    stack: Stack, desired: None, service: str
) -> None:
    boots, before = _boots(stack), stack.containers()[service]
    crashed = time.monotonic()
    # All but the container's init, which then ends too: what a crash of the program looks like to
    # the engine.
    subprocess.run(
        ["docker", "exec", before["Id"], "sh", "-c", "kill -9 -1"], capture_output=True, timeout=20
    )
    assert eventually(
        lambda: stack.containers()[service]["State"]["StartedAt"] != before["State"]["StartedAt"]
    )
    _wait_until_all_is_true_again(stack, crashed, boots, service)


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_that_is_killed_and_started_is_adopted_in_ten_seconds(
    stack: Stack, desired: None, service: str
) -> None:
    boots, container = _boots(stack), stack.containers()[service]["Id"]
    run("docker", "kill", container)
    started = time.monotonic()
    run("docker", "start", container)
    _wait_until_all_is_true_again(stack, started, boots, service)


def test_a_broker_whose_volume_is_wiped_is_told_everything_again(stack: Stack) -> None:
    checks.check_table(stack)
    stack.compose("rm", "--stop", "--force", "broker")
    run("docker", "volume", "rm", f"{stack.name}_broker")
    stack.compose("up", "-d", "--wait", "--no-recreate")
    _wait_until_all_is_true_again(stack, time.monotonic(), {}, "broker")
    retained = run(
        "mosquitto_sub",
        "-p",
        str(stack.port),
        "-t",
        "sat/1/#",
        "--retained-only",
        "-W",
        "2",
        "-F",
        "%t",
    )
    assert {f"{ECU}/state", f"{CONSOLE}/meta", row_topic(ECU), row_topic(CONSOLE)} <= set(
        retained.split()
    )


def test_the_step_that_brings_links_up_says_what_is_missing(stack: Stack) -> None:
    with pytest.raises(
        AssertionError, match="can_link: can0: there is no such link; is the adapter plugged in"
    ):
        stack.compose("--profile", "can", "run", "--rm", "--no-deps", "-T", "can-link")


def test_the_hosts_of_real_hardware_join_the_same_broker(stack: Stack) -> None:
    try:
        stack.compose(
            "--profile",
            "can",
            "--profile",
            "serial",
            "up",
            "-d",
            "--wait",
            "--no-deps",
            "can",
            "serial",
        )
        for host in ("bench-can", "bench-serial"):
            topic = f"sat/1/lab/host/{host}/birth"
            stack.observer.wait(
                lambda topic=topic: stack.observer.json(topic).get("drivers"), topic
            )
    finally:
        stack.compose(
            "--profile", "can", "--profile", "serial", "rm", "--stop", "--force", "can", "serial"
        )


def test_down_leaves_nothing(engine: None, tmp_path: Path) -> None:
    with Stack(tmp_path) as short:
        assert _left_of(short)
    assert _left_of(short) == []


def _boots(stack: Stack) -> dict[str, str]:
    return {name: checks.boot_of(stack, name) for name in (*HOSTS, "orchestrator")}


def _wait_until_all_is_true_again(
    stack: Stack, since: float, boots: dict[str, str], service: str
) -> None:
    """Within ten seconds of `since`: `service`, if one of ours, has another boot than it had in
    `boots`; all speak, the table is true, frames flow. With `boots`, what a client desires still
    stands then."""
    deadline, observer = since + BACK_WITHIN_S, stack.observer

    def wait(condition: Callable[[], bool], what: str) -> None:
        observer.wait(
            condition,
            f"{what} {BACK_WITHIN_S:g} s after {service} ended",
            deadline - time.monotonic(),
        )

    if service in boots:
        wait(lambda: checks.boot_of(stack, service) not in ("", boots[service]), "a new boot")
    for topic in [f"sat/1/lab/host/{host}/heartbeat" for host in HOSTS] + ["sat/1/lab/orch/health"]:
        wait(
            lambda topic=topic: any(
                at > since and name == topic for at, name, _ in observer.history
            ),
            topic,
        )
    checks.check_table(stack, deadline - time.monotonic())
    observer.wait_streaming(deadline - time.monotonic(), dev=ECU)
    observer.wait_streaming(deadline - time.monotonic(), dev=CONSOLE, stream="uart")
    if boots:
        assert observer.json(row_topic(CONSOLE))["policy"] == "explicit"


def _left_of(stack: Stack) -> list[str]:
    """Containers, networks and volumes with the project's label."""
    label = f"label=com.docker.compose.project={stack.name}"
    lists = (["ps", "-aq"], ["network", "ls", "-q"], ["volume", "ls", "-q"])
    return [
        word for arguments in lists for word in run("docker", *arguments, "--filter", label).split()
    ]
