"""Returns what nobody asked for: `info`: ``kind`` names it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from plugins.devices.vicious.sick import SickDriver
from sat_toolkit.models.Device_Model import Device


class Bad:
    """Raises whatever is asked of it."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("no iterator")


def _generator() -> Iterator[Any]:
    yield 1
    raise RuntimeError("in the middle")


def _recursive() -> list[Any]:
    made: list[Any] = [Bad()]
    made.append(made)
    return made


class WrongReturnDriver(SickDriver):
    where = "command"

    def sick(self) -> Any:
        made: dict[str, Any] = {
            "none": lambda: None,
            "int": lambda: 7,
            "zero": lambda: 0,
            "generator": _generator,
            "huge": lambda: ["x" * 1000] * 2000,
            "nan": lambda: {"value": float("nan"), "big": 10**400, 5: b"\xff"},
            "recursive": _recursive,
            "bad": Bad,
            "many": lambda: [Device(f"d{n}", "d", "Ethernet") for n in range(50_000)],
        }
        return made[self.info["kind"]]()
