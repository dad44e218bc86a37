"""The settings of a driver host."""

from __future__ import annotations

import re
import socket
from typing import Any

from pydantic import Field, model_validator
from sat_bus.service import ServiceSettings


class HostSettings(ServiceSettings):
    """A driver host serves one hardware family.

    Attributes:
        family: the folder below ``plugins/devices`` whose drivers are served.
        host: its name on the bus; by default ``<machine>-<family>``.
        drivers: driver name -> its configuration, handed to the driver as its ``info``.
    """

    family: str = Field(pattern=r"^[A-Za-z0-9_]{1,64}$")
    host: str = Field(default="", pattern=r"^[A-Za-z0-9_.:-]{0,64}$")
    drivers: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _name(self) -> HostSettings:
        if not self.host:
            machine = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname().split(".")[0])[:40] or "host"
            self.host = f"{machine}-{self.family}"
        return self
