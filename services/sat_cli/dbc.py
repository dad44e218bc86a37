"""Decodes CAN frames by a DBC file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cantools.database import Database, load_file
from cantools.database.errors import Error

from sat_toolkit.errors import ConfigError


class Dbc:
    """A `sat_cli.frames.Decoder`.

    Raises:
        ConfigError: the file cannot be read or is no description of CAN messages.
    """

    def __init__(self, path: Path) -> None:
        try:
            database = load_file(path)
        except (OSError, ValueError, Error) as error:
            raise ConfigError(f"--signals {path}: {error}") from None
        if not isinstance(database, Database):
            raise ConfigError(f"--signals {path}: it describes no CAN messages")
        self._database = database

    def decode(self, frame: dict[str, Any]) -> str | None:
        """``Engine: EngineSpeed=812.5 rpm, ...``; None for a frame that the file does not
        describe."""
        try:
            message = self._database.get_message_by_frame_id(frame["id"])
            values = message.decode(bytes.fromhex(frame.get("data", "")))
        except (KeyError, ValueError, Error):
            return None
        if not isinstance(values, dict):
            return None
        units = {
            signal.name: f" {signal.unit}" if signal.unit else "" for signal in message.signals
        }
        return f"{message.name}: {', '.join(_field(name, value, units[name]) for name, value in values.items())}"


def _field(name: str, value: Any, unit: str) -> str:
    return f"{name}={value:g}{unit}" if isinstance(value, int | float) else f"{name}={value}"
