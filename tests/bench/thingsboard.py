"""ThingsBoard's IoT gateway as a peer from outside: its CAN connector, told to take each frame as
telemetry, with our Mosquitto in the place of its server and no rate limits. It reads the same
datagrams as the driver host does on a machine without CAN. Its telemetry is one JSON entry for each
frame, packed by the gateway."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt

from tests.bench.harness import CACHE, FOLDER, Context, Program
from tests.bench.peers.wire import connected
from tests.bench.rate import highest
from tests.bench.report import Row
from tests.bench.rig import Pool, Subject, Trial, free_udp_port, ours

TITLE = "ThingsBoard's gateway"
HOME = FOLDER / "thingsboard"
NAME = "ThingsBoard gateway"
RATE = 5_000  # that it carries
SECONDS = 4.0
START_S = 60.0
IDS = (*range(0x100, 0x200), 0x7FF)
LIMITS = json.dumps(
    {
        "rateLimits": {},
        "gatewayRateLimits": {},
        "maxInflightMessages": 100,
        "maxPayloadSize": 65_536,
    }
)


def run(context: Context) -> list[Row]:
    """The highest rates, and the cost at a rate that both carry."""
    if context.can:
        return []
    home = installed()
    us, gateway = ours(), Subject(NAME, "v1/gateway/telemetry", "thingsboard", _starter(home))
    guess = {us.name: 20_000.0, NAME: 1_000.0}
    rates: dict[str, list[float]] = {us.name: [], NAME: []}
    trials: dict[str, list[Trial]] = {us.name: [], NAME: []}
    with Pool(context) as pool:
        for _ in range(context.repetitions):
            for subject in (us, gateway):
                trials[subject.name].append(
                    pool.rig(subject).trial(RATE, 0.5 if context.quick else SECONDS)
                )
                rates[subject.name].append(highest(context, pool, subject, guess[subject.name]))
                context.say(f"{subject.name}: {rates[subject.name][-1]:.0f} frames/s")
    arrived = {
        name: sum(t.received for t in them) / sum(t.sent for t in them)
        for name, them in trials.items()
    }
    gateway, ourselves = arrived[NAME], arrived[us.name]
    version = _version(home).strip()
    note = f"of the gateway's frames {gateway:.0%} arrived, of ours {ourselves:.0%}; {version}"
    cost = {name: [t.cpu_us("subject") for t in them] for name, them in trials.items()}
    return [
        Row("rate without loss", "frames/s", rates[us.name], rates[NAME], NAME),
        Row(
            f"CPU per frame at {RATE} frames/s, of this alone",
            "us",
            cost[us.name],
            cost[NAME],
            NAME,
            note=note,
        ),
    ]


def installed() -> Path:
    """A virtual environment with the gateway."""
    home = CACHE / "thingsboard"
    wanted = (HOME / "requirements.txt").read_bytes()
    marker = home / "installed.txt"
    if not marker.exists() or marker.read_bytes() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        install = [
            str(home / "bin" / "pip"),
            "install",
            "--quiet",
            "-r",
            str(HOME / "requirements.txt"),
        ]
        subprocess.run(install, check=True, capture_output=True, timeout=600)
        marker.write_bytes(wanted)
    return home


def _starter(home: Path) -> Callable[[ExitStack, str, int], tuple[Program, str]]:
    def start(stack: ExitStack, _source: str, broker: int) -> tuple[Program, str]:
        port = free_udp_port()
        folder = home / "run"
        shutil.rmtree(folder, ignore_errors=True)
        _configure(folder, broker, port)
        env = {"TB_GW_CONFIG_DIR": str(folder / "config"), "PYTHONPATH": str(HOME)}
        _pose_as_server(stack, broker)
        program = stack.enter_context(
            Program("gateway", [str(home / "bin" / "thingsboard-gateway")], env, folder)
        )
        _wait_for_reader(port, program)
        return program, f"udp:{port}"

    return start


def _pose_as_server(stack: ExitStack, broker: int) -> None:
    """Tell the gateway its limits, none, which it waits for before it sends anything."""
    client = connected(broker, "server")

    def answer(client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        client.publish(message.topic.replace("request", "response"), LIMITS, 1)

    client.on_message = answer
    client.subscribe("v1/devices/me/rpc/request/+", qos=1)
    stack.callback(client.loop_stop)
    stack.callback(client.disconnect)


def _configure(folder: Path, broker: int, port: int) -> None:
    """Settings as the gateway's own examples have them; without limits, statistics and remote
    configuration."""
    (folder / "config").mkdir(parents=True)
    (folder / "logs").mkdir()
    limits = ("rateLimits", "dpRateLimits", "messagesRateLimits", "deviceMessagesRateLimits", "deviceRateLimits",
              "deviceDpRateLimits")  # fmt: skip
    server = {
        "host": "127.0.0.1", "port": broker, "qos": 1, "remoteConfiguration": False, "remoteShell": False,
        "statistics": {"enable": False}, "security": {"type": "accessToken", "accessToken": "bench"},
        "minPackSendDelayMS": 50, "minPackSizeToSend": 500, "maxPayloadSizeBytes": 8196,
        **dict.fromkeys(limits, "0:0,"),
    }  # fmt: skip
    gateway = {
        "thingsboard": server,
        "storage": {"type": "memory", "read_records_count": 100, "max_records_count": 100_000},
        "grpc": {"enabled": False},
        "connectors": [{"type": "can", "name": NAME, "configuration": "can.json"}],
    }
    series = [{"key": f"{number:x}", "nodeId": number, "value": "0:-1:raw"} for number in IDS]
    device = {"name": "bus", "sendDataOnlyOnChange": False, "timeseries": series}
    can = {
        "name": NAME,
        "interface": "standin",
        "channel": str(port),
        "backend": {},
        "devices": [device],
    }
    for name, content in {"tb_gateway": gateway, "can": can}.items():
        (folder / "config" / f"{name}.json").write_text(json.dumps(content))


def _wait_for_reader(port: int, program: Program) -> None:
    """Until somebody reads from the port."""
    pause = threading.Event()
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return
        pause.wait(0.2)
    raise RuntimeError(f"the gateway does not open its bus: {program.last_words()}")


def _version(home: Path) -> str:
    code = "import importlib.metadata as m; print('thingsboard-gateway', m.version('thingsboard-gateway'))"
    return subprocess.run(
        [str(home / "bin" / "python"), "-c", code], capture_output=True, text=True, check=True
    ).stdout
