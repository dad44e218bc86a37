"""The Mosquitto configuration and access list of the operators' page, as they stand there: a rack
works under them, and nobody speaks for another. Only TLS and the places of files are changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sat_bus.transport.mqtt import MqttBus
from sat_cli.brokers.mosquitto import find_mosquitto
from sat_client import Device, DeviceState, Offline, Rack
from sat_toolkit.errors import Denied
from tests.brokers import need_mosquitto
from tests.e2e.rack import DEADLINE, DEV, DEVICE, DRIVER, HOST, POLICY, Program, free_port
from tests.waiting import Inbox, eventually

pytestmark = pytest.mark.mosquitto
PAGE = Path(__file__).resolve().parents[2] / "docs" / "operators.md"
ACCOUNTS = ("orchestrator", HOST, "bench2-can", "rack1", "rack2", "watcher")


def block(beginning: str) -> str:
    """The block of the page whose first line is `beginning`."""
    (text,) = re.findall(
        rf"^```\n({re.escape(beginning)}\n.*?)^```$", PAGE.read_text(), re.M | re.S
    )
    return str(text)


def write_configuration(folder: Path, port: int) -> Path:
    text = block("listener 8883").replace("listener 8883", f"listener {port} 127.0.0.1")
    text = re.sub(r"^(certfile|keyfile) .*\n", "", text, flags=re.M).replace(
        "/etc/mosquitto/", f"{folder}/"
    )
    path = folder / "mosquitto.conf"
    user = "user root\n" if os.geteuid() == 0 else ""
    path.write_text(f"{text}persistence_location {folder}/\n{user}")
    (folder / "acl").write_text(block("# the orchestrator"))
    program = shutil.which("mosquitto_passwd")
    assert program, "mosquitto_passwd comes with mosquitto"
    for number, account in enumerate(ACCOUNTS):
        options = ["-b"] if number else ["-c", "-b"]
        subprocess.run(
            [program, *options, str(folder / "passwd"), account, account],
            check=True,
            timeout=DEADLINE,
        )
    return path


class Secured:
    """Broker, orchestrator, host and ECU under the page's configuration; an account's password is
    its name."""

    def __init__(self, folder: Path) -> None:
        need_mosquitto()
        self.port = free_port()
        binary = find_mosquitto() or ""
        ecu = folder / "ecu"
        drivers = {DRIVER: {"buses": [{"name": DEVICE, "interface": "slcan", "channel": str(ecu)}]}}
        env = {name: value for name, value in os.environ.items() if not name.startswith("SAT_")} | {
            "SAT_DRIVERS": json.dumps(drivers),
            "SAT_POLICY": json.dumps(POLICY),
            "SAT_DATABASE_URL": f"sqlite:///{folder}/sat.db",
        }
        sat = [sys.executable, "-m", "sat_cli"]
        simulator = [sys.executable, "-m", "plugins.devices.can.sim_ecu", "--pty", str(ecu)]
        host = [*sat, "host", "--family", "can", "--name", HOST, "--broker", self.url(HOST)]
        self.programs = [
            Program(
                "broker", [binary, "-c", str(write_configuration(folder, self.port))], env, folder
            ),
            Program("ecu", simulator, env, folder),
            Program(
                "orchestrator",
                [*sat, "orchestrator", "--broker", self.url("orchestrator")],
                env,
                folder,
            ),
            Program("host", host, env, folder),
        ]

    def url(self, account: str) -> str:
        return f"mqtt://{account}:{account}@127.0.0.1:{self.port}"

    def logs(self) -> str:
        return "\n".join(f"--- {program.name}\n{program.tail()}" for program in self.programs)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    rack = Secured(tmp_path_factory.mktemp("secured"))
    try:
        for program in rack.programs:
            program.start()
        yield rack
    finally:
        for program in reversed(rack.programs):
            program.stop()


@pytest.fixture
def ecu(secured: Secured) -> Iterator[Device]:
    """The device, connected and streaming, as the account ``rack1`` sees it."""
    with Rack(secured.url("rack1")) as rack:
        name = f"{HOST}/{DRIVER}/{DEVICE}"
        assert eventually(lambda: DEVICE in {device.id for device in rack.devices()}, DEADLINE), (
            secured.logs()
        )
        device = rack.device(name)
        device.wait_for("connected", timeout=DEADLINE)
        assert eventually(lambda: running(device), DEADLINE), secured.logs()
        yield device


def running(device: Device) -> bool:
    status = device.status
    return (
        status is not None and "can" in status.streams and status.streams["can"].state == "running"
    )


def say(secured: Secured, account: str, topic: str, payload: str, *, retain: bool = False) -> None:
    """Publish as `account`, and wait until the broker has taken it or thrown it away."""
    with MqttBus(secured.url(account), account) as bus:
        assert bus.start(DEADLINE)
        bus.publish(topic, payload.encode(), retain=retain)
        bus.flush(DEADLINE)


def test_a_client_sees_frames_commands_and_moves_a_device(
    secured: Secured, ecu: Device, caplog: pytest.LogCaptureFixture
) -> None:
    with ecu.watch("can") as watch:
        received = watch.get(DEADLINE)
        assert received is not None
    assert ecu.do("send", id="0x123", data="01") == {"id": 0x123, "data": "01"}
    sent = ecu.send_frames([{"id": 0x100, "data": "01"}])
    assert sent is not None
    assert sent.sent == 1
    assert ecu.set("disconnected").status == "ok"
    ecu.wait_for("disconnected", timeout=DEADLINE)
    assert ecu.connect().status == "ok"
    assert ecu.set("auto").status == "ok"
    assert eventually(
        lambda: ecu.row is not None and ecu.row.observed == DeviceState.CONNECTED, DEADLINE
    )
    said = [
        record.getMessage() for when in ("setup", "call") for record in caplog.get_records(when)
    ]
    assert "the broker refuses" not in "\n".join([*said, secured.logs()])


@pytest.mark.parametrize(
    ("account", "topic", "payload"),
    [
        ("rack2", f"{DEV}/cmd/stop/rack1", "{}"),
        ("rack2", f"{DEV}/cmd/stop", "{}"),
        ("rack2", f"{DEV}/set", "disconnected"),
        ("rack2", f"{DEV}/set/rack1", "disconnected"),
        ("rack2", "sat/1/lab/orch/req/close/rack1", f'{{"device": "{DEVICE}"}}'),
        (
            "rack2",
            f"sat/1/lab/host/{HOST}/req/close",
            f'{{"driver": "{DRIVER}", "device": "{DEVICE}"}}',
        ),
        ("bench2-can", f"{DEV}/cmd/stop", "{}"),
        (
            "bench2-can",
            f"sat/1/lab/host/{HOST}/req/close",
            f'{{"driver": "{DRIVER}", "device": "{DEVICE}"}}',
        ),
    ],
)
def test_nobody_asks_in_the_name_of_another(
    secured: Secured, ecu: Device, account: str, topic: str, payload: str
) -> None:
    """What is asked afterwards is answered afterwards: had the other request been heard, it would
    show by then."""
    before = ecu.status
    say(secured, account, topic, payload)
    assert ecu.request("status").status == "ok"
    assert ecu.set("auto").status == "ok"
    assert running(ecu)
    assert before is not None
    assert ecu.status is not None
    assert (ecu.status.since, ecu.status.streams["can"].by) == (
        before.since,
        before.streams["can"].by,
    )


@pytest.mark.parametrize("account", ["rack2", "bench2-can"])
@pytest.mark.parametrize("topic", [f"{DEV}/state", f"sat/1/lab/host/{HOST}/state"])
def test_nobody_tells_states_that_are_not_its_own(
    secured: Secured, ecu: Device, account: str, topic: str
) -> None:
    say(secured, account, topic, "lie", retain=True)
    said: Inbox[bytes] = Inbox()
    with MqttBus(secured.url("watcher"), "watcher") as watcher:
        watcher.subscribe(topic, lambda inbound: said(inbound.payload))
        assert watcher.start(DEADLINE)
        assert b"lie" not in said.wait()
    assert ecu.request("status").status == "ok"


def test_a_request_in_anothers_name_is_not_answered(secured: Secured, ecu: Device) -> None:
    with (
        Rack(secured.url("rack2"), client="rack1") as liar,
        pytest.raises(Denied, match="access list"),
    ):
        liar.device(str(ecu.key)).do("status", timeout=60.0)


def test_nobody_comes_in_without_an_account(secured: Secured) -> None:
    with pytest.raises(Offline):
        Rack(f"mqtt://127.0.0.1:{secured.port}").open(1.0)
    with pytest.raises(Offline):
        Rack(f"mqtt://rack1:wrong@127.0.0.1:{secured.port}").open(1.0)
