"""What ``sat up`` runs: a bench on one machine as a list of programs. PURE but for the interpreter's path."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sat_cli.supervisor import Program
from sat_toolkit.errors import ConfigError

BROKER = "broker"
ORCHESTRATOR = "orchestrator"
ECU = "sim-ecu"
POLICY = [{"match": "*", "level": "connected", "streams": {"can": {}}}]
DEMO_DRIVER = "drv_socketcan"


@dataclass(frozen=True)
class Bench:
    """A bench to be.

    Attributes:
        broker_kind: ``mosquitto`` or ``embedded``; None: the broker at `broker_url` runs already.
        families: one driver host each.
        demo: with a simulated ECU behind an slcan adapter, which is a pty in `runtime`.
        state: the folder for what is kept; `runtime`: for what is not.
    """

    broker_url: str
    broker_kind: str | None
    bind: str
    port: int
    ws_port: int | None
    site: str
    families: tuple[str, ...]
    plugins: str
    demo: bool
    state: Path
    runtime: Path

    @property
    def pty(self) -> Path:
        """Where the simulated ECU's adapter is."""
        return self.runtime / "ecu"


def programs(bench: Bench, environ: Mapping[str, str]) -> list[Program]:
    """The programs of `bench`, in the order of their start; `environ` is what the user has set.

    Raises:
        ConfigError: SAT_DRIVERS is no JSON object.
    """
    found: list[Program] = []
    if bench.broker_kind is not None:
        found.append(Program(BROKER, _broker(bench), last=True))
    if bench.demo:
        found.append(Program(ECU, (sys.executable, "-m", "plugins.devices.can.sim_ecu", "--pty", str(bench.pty))))
    bus = ("--broker", bench.broker_url, "--site", bench.site)
    env = {
        "SAT_POLICY": environ.get("SAT_POLICY") or json.dumps(POLICY),
        "SAT_DATABASE_URL": environ.get("SAT_DATABASE_URL") or f"sqlite:///{bench.state / 'orchestrator.db'}",
    }
    found.append(Program(ORCHESTRATOR, _sat("orchestrator", *bus), env))
    drivers = environ.get("SAT_DRIVERS", "")
    for family in bench.families:
        text = json.dumps(demo_drivers(drivers, bench.pty)) if bench.demo and family == "can" else drivers
        env = {"SAT_PLUGINS": bench.plugins} | ({"SAT_DRIVERS": text} if text else {})
        found.append(Program(f"host-{family}", _sat("host", "--family", family, *bus), env))
    return found


def demo_drivers(configured: str, pty: Path) -> dict[str, Any]:
    """The drivers' configuration with the simulated ECU's bus added to what the user has.

    Raises:
        ConfigError: `configured` is not what SAT_DRIVERS takes.
    """
    takes = 'SAT_DRIVERS takes a JSON object, driver -> its configuration: {"drv_socketcan": {"buses": [...]}}'
    try:
        drivers = json.loads(configured or "{}")
    except ValueError as error:
        raise ConfigError(f"{takes}; {error}") from None
    info = drivers.get(DEMO_DRIVER, {}) if isinstance(drivers, dict) else None
    buses = info.get("buses", []) if isinstance(info, dict) else None
    if info is None or not isinstance(buses, list) or not all(isinstance(bus, dict) for bus in buses):
        raise ConfigError(takes)
    others = [bus for bus in buses if bus.get("name") != "ecu"]
    ecu = {"name": "ecu", "interface": "slcan", "channel": str(pty)}
    return {**drivers, DEMO_DRIVER: {**info, "buses": [*others, ecu]}}


def hints(bench: Bench) -> Sequence[str]:
    """Commands to look at the bench with."""
    sub = f"mosquitto_sub -h {bench.bind} -p {bench.port} -v -t 'sat/1/#'"
    usual = bench.port == 1883 and bench.bind == "127.0.0.1" and bench.broker_kind is not None
    broker = "" if usual else f" --broker {bench.broker_url}"
    return (f"sat ls{broker}", f"sat watch ecu{broker}" if bench.demo else f"sat watch{broker}", sub)


def _broker(bench: Bench) -> tuple[str, ...]:
    ws = ("--ws-port", str(bench.ws_port)) if bench.ws_port is not None else ()
    data = str(bench.state / "broker")
    listen = ("--bind", bench.bind, "--port", str(bench.port), *ws)
    return _sat("broker", "--kind", str(bench.broker_kind), *listen, "--data-dir", data)


def _sat(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "sat_cli", *words)
