"""A service of tests."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from sat_bus.service.settings import ServiceSettings


class HostSettings(ServiceSettings):
    """As a service extends them."""

    table: ClassVar[str] = "host"

    drivers: dict[str, dict[str, object]] = Field({}, description='JSON such as {"drv_x": {}}')
    count: int = Field(1, description="a whole number")
