"""Raises. `info`: ``kind`` is ``plain``, ``exit``, ``interrupt`` or ``mute``, whose text raises in its turn."""

from __future__ import annotations

from typing import Any

from plugins.devices.vicious.sick import SickDriver


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")

    __repr__ = __str__


class RaisesDriver(SickDriver):
    def __init__(self) -> None:
        super().__init__()
        if self.driver_name.endswith("_new"):  # before it is told any info
            self.info = {"where": "new"}
        self._at("new", None)

    def sick(self) -> Any:
        kinds: dict[str, BaseException] = {
            "plain": RuntimeError("it hurts here"),
            "exit": SystemExit(3),
            "interrupt": KeyboardInterrupt(),
            "mute": MuteError(),
        }
        raise kinds[self.info.get("kind", "plain")]
