"""What ``sat up`` runs: a bench on one machine as a list of programs. PURE but for the
interpreter's path."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sat_cli.bench.demo import FamilyDemo, with_drivers
from sat_cli.bench.supervisor import Program

BROKER = "broker"
ORCHESTRATOR = "orchestrator"
EVERYTHING = [{"match": "*", "level": "connected"}]


@dataclass(frozen=True)
class BenchPlan:
    """A bench to be.

    Attributes:
        broker_kind: ``mosquitto`` or ``embedded``; None: the broker at `broker_url` runs already.
        families: one driver host each.
        demo: the simulators and what goes with them; empty for a bench of hardware only.
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
    demo: FamilyDemo
    state: Path
    runtime: Path


def programs(bench: BenchPlan, environ: Mapping[str, str]) -> list[Program]:
    """The programs of `bench`, in the order of their start; `environ` is what the user has set.

    Raises:
        ConfigError: SAT_DRIVERS is no JSON object.
    """
    found: list[Program] = []
    if bench.broker_kind is not None:
        found.append(Program(BROKER, _broker(bench), last=True))
    for simulator in bench.demo.simulators:
        argv = _python("sat_cli.bench.simulate", simulator.module, *simulator.args)
        found.append(Program(f"sim-{simulator.device}", argv))
    bus = ("--broker", bench.broker_url, "--site", bench.site)
    env = {
        "SAT_POLICY": environ.get("SAT_POLICY") or json.dumps(bench.demo.policy or EVERYTHING),
        "SAT_DATABASE_URL": environ.get("SAT_DATABASE_URL")
        or f"sqlite:///{bench.state / 'orchestrator.db'}",
    }
    found.append(Program(ORCHESTRATOR, _sat("orchestrator", *bus), env))
    drivers = with_drivers(environ.get("SAT_DRIVERS", ""), bench.demo)
    env = {"SAT_PLUGINS": bench.plugins} | ({"SAT_DRIVERS": json.dumps(drivers)} if drivers else {})
    hosts = (
        Program(f"host-{family}", _sat("host", "--family", family, *bus), env)
        for family in bench.families
    )
    return [*found, *hosts]


def hints(bench: BenchPlan) -> Sequence[str]:
    """Commands to look at the bench with."""
    sub = f"mosquitto_sub -h {bench.bind} -p {bench.port} -v -t 'sat/1/#'"
    usual = bench.port == 1883 and bench.bind == "127.0.0.1" and bench.broker_kind is not None
    broker = "" if usual else f" --broker {bench.broker_url}"
    first = next((f" {simulator.device}" for simulator in bench.demo.simulators), "")
    return (f"sat ls{broker}", f"sat watch{first}{broker}", sub)


def _broker(bench: BenchPlan) -> tuple[str, ...]:
    ws = ("--ws-port", str(bench.ws_port)) if bench.ws_port is not None else ()
    data = str(bench.state / "broker")
    listen = ("--bind", bench.bind, "--port", str(bench.port), *ws)
    return _sat("broker", "--kind", str(bench.broker_kind), *listen, "--data-dir", data)


def _sat(*words: str) -> tuple[str, ...]:
    return _python("sat_cli", *words)


def _python(module: str, *words: str) -> tuple[str, ...]:
    """A module as a program. -P: what lies in the current folder is not for it to import."""
    return (sys.executable, "-P", "-m", module, *words)
