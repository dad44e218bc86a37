"""xlog: standard loggers under the guide's era's name."""

from __future__ import annotations

import logging

import pytest

from sat_toolkit.tools.xlogger import xlog


def test_get_logger_is_the_standard_one() -> None:
    assert xlog.get_logger("plugins.x") is logging.getLogger("plugins.x")


def test_xlog_logs_at_each_level_and_names_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "sat"):
        for level in ("debug", "info", "warning", "error"):
            getattr(xlog, level)("at %s", level)
    assert [r.getMessage() for r in caplog.records] == [
        "at debug",
        "at info",
        "at warning",
        "at error",
    ]
    assert {r.filename for r in caplog.records} == {"test_xlogger.py"}
