"""`sat up`: a whole bench as child processes, and none of them left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.brokers import need_mosquitto
from tests.integration.benches import Sat
from tests.waiting import eventually

RUNNING = 20.0


@pytest.fixture
def sat(tmp_path: Path) -> Sat:
    return Sat(tmp_path)


def start_bench(sat: Sat) -> subprocess.Popen[bytes]:
    """A bench that runs with the embedded broker and has its device connected."""
    bench = sat.start("up", "--port", str(sat.port), "--broker-kind", "embedded")
    connected = eventually(
        lambda: "ecu: connected" in sat.said() or bench.poll() is not None, RUNNING
    )
    assert connected, sat.said()
    assert bench.poll() is None, sat.said()
    return bench


@pytest.mark.parametrize(
    "kind",
    ["embedded", pytest.param("mosquitto", marks=[pytest.mark.mosquitto, pytest.mark.slow])],
)
def test_a_bench_connects_its_device_and_loses_no_frame(sat: Sat, kind: str) -> None:
    if kind == "mosquitto":
        need_mosquitto()
    done = sat("up", "--port", str(sat.port), "--seconds", "20", "--json", "--broker-kind", kind)
    assert done.status == 0, done.err
    summary = done.json
    assert summary["broker"] == kind
    assert summary["ok"] is True
    assert summary["problems"] == []
    assert (summary["dropped"], summary["gaps"]) == (0, 0)
    assert summary["frames"] > 100
    assert summary["frames_per_s"] > 50
    assert 0 < summary["time_to_connected_s"] < 20
    (ecu,) = [d for d in summary["devices"] if d["device"] == "ecu"]
    assert ecu["state"] == "connected"
    assert f"{kind} broker on {sat.url}" in done.err
    assert not sat.processes()
    assert not list(sat.folder.glob("sat-*")), "the runtime folder is left"


def test_a_bench_without_a_device_has_failed_and_says_why(sat: Sat) -> None:
    done = sat("up", "--port", str(sat.port), "--seconds", "3", "--no-demo", "--broker-kind", "embedded",
               SAT_POLICY="[]")  # fmt: skip
    assert done.status == 1
    assert "no device connected" in done.err
    assert "no frames arrived" in done.err


def test_a_taken_port_says_so_and_what_to_do(sat: Sat) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", sat.port))
        other.listen()
        done = sat("up", "--port", str(sat.port), "--seconds", "3")
    assert done.status == 2
    assert f"port {sat.port}" in done.err
    assert "--port" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_within_five_seconds(sat: Sat, number: signal.Signals) -> None:
    bench = start_bench(sat)
    assert len(sat.processes()) >= 5
    began = time.monotonic()
    assert sat.end(bench, number) == 0
    assert time.monotonic() - began < 5.0


def test_nothing_outlives_a_bench_that_was_killed(sat: Sat) -> None:
    bench = start_bench(sat)
    sat.end(bench, signal.SIGKILL)


def test_a_service_that_is_killed_comes_back(sat: Sat) -> None:
    bench = start_bench(sat)
    try:
        assert eventually(lambda: "ecu: connected can" in sat.said(), RUNNING), sat.said()
        (host,) = [
            pid for pid, line in sat.processes().items() if "sat_cli host --family can" in line
        ]
        os.kill(host, signal.SIGKILL)
        assert eventually(
            lambda: "host-can has ended (killed by SIGKILL); it starts again" in sat.said(), RUNNING
        )
        assert eventually(lambda: sat.said().count("ecu: connected can") == 2, RUNNING), sat.said()
    finally:
        assert sat.end(bench) == 0


def test_a_service_with_a_wrong_setting_ends_the_bench_and_shows_what_it_said(sat: Sat) -> None:
    done = sat(
        "up",
        "--port",
        str(sat.port),
        "--broker-kind",
        "embedded",
        "--seconds",
        "20",
        SAT_POLICY='[{"no": 1}]',
    )
    assert done.status == 1
    assert "orchestrator cannot be kept running" in done.err
    assert "SAT_POLICY" in done.err
    assert not sat.processes()


@pytest.mark.slow
def test_a_broker_of_ones_own_is_used(sat: Sat) -> None:
    broker = sat.start("broker", "--port", str(sat.port), "--kind", "embedded")
    try:
        assert eventually(lambda: "broker on" in sat.said(), RUNNING), sat.said()
        done = sat("up", "--broker", sat.url, "--seconds", "20", "--json")
        assert done.status == 0, done.err
        assert done.json["broker"] == "external"
    finally:
        assert sat.end(broker) == 0
