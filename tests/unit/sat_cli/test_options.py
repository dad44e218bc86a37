"""The way from the options to a rack."""

from __future__ import annotations

import pytest

from sat_cli import options
from sat_cli.brokers.tcp_ports import find_free_port
from sat_client import Offline
from sat_toolkit.errors import ConfigError
from tests.brokers import embedded_broker


def test_a_rack_is_open_in_the_with_statement_and_closed_after_it() -> None:
    with embedded_broker() as broker:
        with options.rack(broker.url, "lab") as rack:
            assert rack.connected
        assert not rack.connected


def test_where_nothing_listens_it_is_said_soon() -> None:
    with pytest.raises(Offline, match="within 1 s"):
        options.rack(f"mqtt://127.0.0.1:{find_free_port()}", "lab")


def test_a_wrong_url_is_refused() -> None:
    with pytest.raises(ConfigError, match="ftp"):
        options.rack("ftp://bench", "lab")
