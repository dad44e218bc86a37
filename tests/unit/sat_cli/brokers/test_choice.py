"""Which broker a command starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sat_cli.brokers.choice import BrokerKind, make, resolve
from sat_toolkit.errors import ConfigError


@pytest.fixture
def mosquitto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("mosquitto")
def test_mosquitto_is_preferred() -> None:
    assert resolve(BrokerKind.AUTO) is BrokerKind.MOSQUITTO


@pytest.mark.usefixtures("mosquitto")
def test_websocket_needs_the_origin_checked(tmp_path: Path) -> None:
    assert resolve(BrokerKind.AUTO, ws_port=9001) is BrokerKind.EMBEDDED
    with pytest.raises(ConfigError, match="--ws-port"):
        make(BrokerKind.MOSQUITTO, "127.0.0.1", 0, 9001, tmp_path)


@pytest.mark.usefixtures("mosquitto")
def test_who_names_one_gets_that_one(tmp_path: Path) -> None:
    for kind in (BrokerKind.EMBEDDED, BrokerKind.MOSQUITTO):
        assert make(kind, "127.0.0.1", 0, None, tmp_path).kind == kind
