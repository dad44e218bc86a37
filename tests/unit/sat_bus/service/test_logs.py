"""The logs of a service: one stream of lines or of JSON objects."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from sat_bus.service.logs import configure_logging
from tests.unit.sat_bus.service.made import HostSettings


class TestLogging:
    @pytest.fixture(autouse=True)
    def restored(self) -> Iterator[None]:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        yield
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)
        structlog.reset_defaults()

    def test_is_one_stream_of_json_for_libraries_and_ourselves(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure_logging("host", HostSettings.load(log_format="json"))
        logging.getLogger("some.library").warning("port %s is gone", "can0")
        structlog.get_logger("ours").info("connected", device="can0")
        try:
            raise OSError("unplugged")
        except OSError:
            logging.getLogger("some.plugin").exception("it failed")
        logging.getLogger("some.library").debug("too quiet to show")
        captured = capsys.readouterr()
        lines = [json.loads(line) for line in captured.err.splitlines()]
        assert captured.out == ""
        assert [line["event"] for line in lines] == ["port can0 is gone", "connected", "it failed"]
        assert all(line["service"] == "host" and line["timestamp"].endswith("Z") for line in lines)
        assert lines[1]["device"] == "can0"
        assert "OSError: unplugged" in lines[2]["exception"]

    def test_can_be_read_by_people(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging("host", HostSettings.load(log_level="warning"))
        logging.getLogger("x").warning("careful")
        logging.getLogger("x").info("chatter")
        text = capsys.readouterr().err
        assert "careful" in text
        assert "chatter" not in text
