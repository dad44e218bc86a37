"""Runs a program of the guide and prints, as JSON, what each call on its DeviceDriverManager
returned.

python recorded.py PROGRAM [FUNCTION]
"""

from __future__ import annotations

import json
import logging
import runpy
import sys
from typing import Any

from sat_toolkit.core import device_manager
from sat_toolkit.core.jsonable import jsonable

CALLS = (
    "scan_devices",
    "initialize_device",
    "connect_device",
    "execute_command",
    "close_device",
    "cleanup_all_devices",
)


def main() -> None:
    seen: list[tuple[str, Any]] = []

    class Recorded(device_manager.DeviceDriverManager):
        """The manager that the program asks for, its answers noted."""

        def __getattribute__(self, name: str) -> Any:
            attribute = super().__getattribute__(name)
            if name not in CALLS:
                return attribute

            def call(*args: Any, **kwargs: Any) -> Any:
                answer = attribute(*args, **kwargs)
                seen.append((name, jsonable(answer)))
                return answer

            return call

    device_manager.DeviceDriverManager = Recorded
    logging.basicConfig(level=logging.ERROR)
    program = runpy.run_path(sys.argv[1])
    for function in sys.argv[2:]:
        program[function]()
    print(json.dumps(seen))  # noqa: T201 - the result


if __name__ == "__main__":
    main()
