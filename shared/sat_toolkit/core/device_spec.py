"""DeviceState and the small data types that name a device (guide, "Device State Management")."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class DeviceState(StrEnum):
    """The lifecycle states of the guide; the value is the word on the wire."""

    UNKNOWN = "unknown"
    DISCOVERED = "discovered"
    INITIALIZED = "initialized"
    CONNECTED = "connected"
    ACTIVE = "active"
    DISCONNECTED = "disconnected"
    ERROR = "error"


@dataclass(frozen=True)
class DevicePluginSpec:
    """What a plugin says of itself. Plugins of the guide's era import it; nothing requires it."""

    name: str = ""
    version: str = ""
    description: str = ""
    commands: dict[str, Any] = field(default_factory=dict)
