"""The units of deploy/systemd under a real systemd, installed as docs/operators.md says."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from sat_client import Rack
from tests.vm.buses import eventually_true
from tests.vm.machine import ROOT, Image, Machine, Options

CAN, ORCHESTRATOR = "sat-host@can", "sat-orchestrator"
LINK = "vcan0"
POLICY = '[[orchestrator.policy]]\\nmatch = "*"\\nlevel = "connected"\\nstreams = { can = {} }\\n'
BROKER = "listener 1883 0.0.0.0\\nallow_anonymous true\\n"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine with a CAN link and a broker, and the project's units in it."""
    page = (ROOT / "docs" / "operators.md").read_text()
    install = re.search(r"^### systemd\n.*?^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert install is not None
    assert "systemctl start" in install[1]
    with Machine(Image.build(), Options(systemd=True)) as machine:
        machine.shell(f"modprobe vcan; ip link add {LINK} type vcan; ip link set {LINK} up")
        machine.shell(
            f"mkdir /tmp/clone; cp -r /tree/deploy /tmp/clone; printf '{BROKER}' >/tmp/broker.conf"
        )
        machine.shell(f"cd /tmp/clone; printf '{POLICY}' >orchestrator.toml; : >can.toml")
        with machine.serve("mosquitto", "mosquitto", "-c", "/tmp/broker.conf"):
            machine.shell(f"cd /tmp/clone; {install[1]}", timeout=120.0)
            yield machine


@pytest.fixture(scope="module")
def client(machine: Machine) -> Iterator[Rack]:
    with Rack(machine.broker_url) as client:
        yield client


def shows(machine: Machine, unit: str, name: str) -> str:
    """A property of a unit."""
    return machine.check("systemctl", "show", "--value", "--property", name, unit).strip()


def pid(machine: Machine, unit: str) -> int:
    return int(shows(machine, unit, "MainPID"))


def await_active(machine: Machine, unit: str, instead_of: int = 0) -> None:
    """Until it serves, in another process than `instead_of`."""
    eventually_true(
        lambda: (
            shows(machine, unit, "ActiveState") == "active" and pid(machine, unit) != instead_of
        ),
        f"{unit} is active",
    )


def await_connected(client: Rack) -> None:
    eventually_true(
        lambda: any(
            device.id == LINK and device.state == "connected" for device in client.devices()
        ),
        "it is connected",
    )


def test_what_was_started_serves_and_needs_no_privilege(machine: Machine, client: Rack) -> None:
    """`systemctl start` has returned, so all of it was on the bus."""
    await_connected(client)
    for unit in (CAN, ORCHESTRATOR):
        assert shows(machine, unit, "ActiveState") == "active"
        assert shows(machine, unit, "NRestarts") == "0"
        status = machine.shell(f"cat /proc/{pid(machine, unit)}/status")
        assert re.search(r"^Cap(Eff|Bnd):\t0+$", status, re.MULTILINE), status
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE), status
        assert not re.search(r"^Uid:\t0\t", status, re.MULTILINE), status


def test_each_worker_has_a_cgroup_of_the_unit(machine: Machine, client: Rack) -> None:
    await_connected(client)
    group, host = shows(machine, CAN, "ControlGroup"), pid(machine, CAN)
    lines = machine.shell(
        f"cd '/sys/fs/cgroup{group}'; grep . sat-host-*-{host}-*/*/cgroup.procs"
    ).split()
    inside = [line.split("/", 1)[1].split("/cgroup.procs:") for line in lines]
    assert ["host", str(host)] in inside
    workers = [name for name, _ in inside if name != "host"]
    assert workers
    assert len(workers) == len(set(workers))


def test_what_is_killed_is_started_again(machine: Machine, client: Rack) -> None:
    before = pid(machine, ORCHESTRATOR)
    machine.shell(f"systemctl kill --signal=KILL --kill-whom=main {ORCHESTRATOR}")
    await_active(machine, ORCHESTRATOR, instead_of=before)
    await_connected(client)


def test_a_host_that_hangs_is_replaced(machine: Machine, client: Rack) -> None:
    before = pid(machine, CAN)
    machine.shell(f"kill -STOP {before}")
    await_active(machine, CAN, instead_of=before)
    assert (
        "watchdog"
        in machine.shell(f"journalctl --no-pager --unit {CAN} | grep -i watchdog").lower()
    )
    await_connected(client)


def test_a_wrong_setting_ends_a_program_for_good(machine: Machine, client: Rack) -> None:
    machine.shell("printf '[host]\\nlog_format = \"loud\"\\n' >>/etc/sat/can.toml")
    assert machine.run("systemctl", "restart", CAN, timeout=60.0).status == 1
    assert shows(machine, CAN, "ActiveState") == "failed"
    assert shows(machine, CAN, "ExecMainStatus") == "2"
    assert "log_format" in machine.shell(f"journalctl --no-pager --unit {CAN}")
    machine.shell(f": >/etc/sat/can.toml; systemctl start {CAN}", timeout=60.0)
    await_connected(client)


def test_a_host_gives_way_to_another_of_its_name_for_good(machine: Machine, client: Rack) -> None:
    with machine.serve("twin", "sat", "host", "--family", "can"):
        eventually_true(lambda: shows(machine, CAN, "ActiveState") == "failed", "it has given way")
        assert shows(machine, CAN, "ExecMainStatus") == "4"
    machine.shell(f"systemctl start {CAN}", timeout=60.0)
    await_connected(client)


def test_a_stop_of_all_is_orderly(machine: Machine, client: Rack) -> None:
    machine.shell("systemctl stop sat.target", timeout=60.0)
    eventually_true(
        lambda: not any(host.alive for host in client.hosts().values()), "the hosts are gone"
    )
    for unit in (CAN, ORCHESTRATOR):
        eventually_true(
            lambda unit=unit: shows(machine, unit, "ActiveState") == "inactive", f"{unit} has ended"
        )
        assert shows(machine, unit, "Result") == "success"
    assert machine.shell("find /sys/fs/cgroup -name 'sat-host-*'") == ""
