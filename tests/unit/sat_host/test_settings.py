"""A driver host's settings: its name, what it hands to workers, and what it refuses."""

from __future__ import annotations

import socket

import pytest

from sat_host.delivery import Delivery
from sat_host.settings import HostSettings
from sat_host.wire_messages import WorkerLimits
from sat_toolkit.errors import ConfigError


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in HostSettings.model_fields:
        monkeypatch.delenv(f"SAT_{name.upper()}", raising=False)


@pytest.mark.parametrize(
    ("machine", "host"),
    [
        ("rack7.lab.example", "rack7-can"),
        ("prüf stand", "pr-f-stand-can"),
        ("", "host-can"),
        ("m" * 60, "m" * 40 + "-can"),
    ],
)
def test_a_host_is_named_after_its_machine_and_family(
    monkeypatch: pytest.MonkeyPatch, machine: str, host: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: machine)
    assert HostSettings.load(family="can").host == host
    assert HostSettings.load(family="can", host="mine").host == "mine"


def test_workers_get_their_limits_and_streams_their_delivery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SAT_WORKER_MEMORY_MB", "128")
    monkeypatch.setenv("SAT_STREAM_FORMATS", '["bin", "json"]')
    settings = HostSettings.load(family="can", stream_window_ms=50)
    assert settings.limits == WorkerLimits(128, 64, 1024, 3.0)
    assert settings.delivery == Delivery(("bin", "json"), 50)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("family", "can/.."),
        ("host", "two words"),
        ("isolation", "none"),
        ("stream_formats", "[]"),
        ("stream_window_ms", "0"),
        ("worker_memory_mb", "63"),
        ("worker_silence_s", "0.5"),
        ("drivers", "drv_x"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("SAT_FAMILY", "can")
    monkeypatch.setenv(f"SAT_{name.upper()}", value)
    with pytest.raises(ConfigError, match=f"(?i){name}"):
        HostSettings.load()
