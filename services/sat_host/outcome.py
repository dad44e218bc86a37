"""What became of something that was asked of a device or a worker. PURE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sat_toolkit.errors import SatError


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended. `error` None: it succeeded, with `result`.

    Attributes:
        fatal: the device is in ERROR now.
        gone: so is its worker.
    """

    result: Any = None
    error: SatError | None = None
    fatal: bool = False
    gone: bool = False
