"""The settings of the orchestrator."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from sat_bus.service.settings import ServiceSettings
from sat_orchestrator.fleet.fleet import RECOVERY_LIMIT, SCAN_PERIOD_S
from sat_orchestrator.fleet.policy import PolicyRule


class OrchestratorSettings(ServiceSettings):
    """Settings of ``sat orchestrator``.

    Attributes:
        database_url: where it is kept what clients desire; default a SQLite file in the user's
            state folder.
        policy: rules of what goes where by itself; the first that matches decides. As JSON in
            SAT_POLICY, as ``[[orchestrator.policy]]`` in the settings file. Without a rule, devices
            are discovered and left alone.
        scan_period_s: seconds between scans of a host.
        recovery_limit: recoveries of a device from ERROR before it is left there.
    """

    table: ClassVar[str] = "orchestrator"

    database_url: str = Field(
        "", description="sqlite:///<file>, or postgresql+psycopg://user@host/name where psycopg is installed"
    )  # fmt: skip
    policy: list[PolicyRule] = Field(
        [], description='rules such as [{"match": "drv_socketcan/*", "level": "connected", "streams": {"can": {}}}]'
    )  # fmt: skip
    scan_period_s: float = Field(
        SCAN_PERIOD_S, ge=0.5, le=86_400, description="0.5 to 86400 seconds"
    )
    recovery_limit: int = Field(RECOVERY_LIMIT, ge=0, le=1_000, description="0 to 1000")

    @property
    def database(self) -> str:
        """The database's URL, with the default filled in."""
        return self.database_url or f"sqlite:///{_state_folder() / f'{self.site}.db'}"


def _state_folder() -> Path:
    """The XDG state folder of this user."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state") / "sat"
