"""The settings of a driver host."""

from __future__ import annotations

import re
import socket
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from sat_bus.contract.messages import Name
from sat_bus.service.settings import ServiceSettings
from sat_host.delivery import Delivery
from sat_host.wire_messages import WorkerLimits


class HostSettings(ServiceSettings):
    """A driver host serves one hardware family.

    Attributes:
        family: the folder below ``plugins/devices`` whose drivers are served.
        host: its name on the bus; by default ``<machine>-<family>``.
        drivers: driver name -> its configuration, handed to the driver as its ``info``.
        isolation: a process for each device; or threads of the host, for thousands of light
            simulated devices whose drivers are trusted.
        worker_cgroups: a cgroup for each worker where the host may make some, or none.
        stream_formats, stream_window_ms: how streams are delivered where their start says nothing
            else: as ``json``, ``bin`` or both, and gathered for how long.
        worker_memory_mb, worker_processes, worker_files, worker_silence_s: see `WorkerLimits`.
    """

    table: ClassVar[str] = "host"

    family: str = Field(
        pattern=r"^[A-Za-z0-9_]{1,64}$", description="a folder below plugins/devices, such as can"
    )
    host: Name = Field("", description="1 to 64 of A-Z a-z 0-9 _ . : -")
    drivers: dict[str, dict[str, Any]] = Field(
        {}, description='a JSON object such as {"drv_socketcan": {...}}'
    )
    isolation: Literal["process", "thread"] = Field(
        "process", description="process, or thread for trusted drivers"
    )
    worker_cgroups: Literal["auto", "off"] = Field(
        "auto", description="auto: where they can be had; or off"
    )
    stream_formats: list[Literal["json", "bin"]] = Field(
        ["json"], min_length=1, description='["json"], ["bin"] or both'
    )
    stream_window_ms: int = Field(
        10, ge=1, le=1000, description="ms for which frames are gathered, 1 to 1000"
    )
    worker_memory_mb: int = Field(
        1024, ge=64, description="MiB a device's worker may use, 64 or more"
    )
    worker_processes: int = Field(
        64, ge=1, description="processes a worker may be, itself included"
    )
    worker_files: int = Field(1024, ge=32, description="open files of a worker, 32 or more")
    worker_silence_s: float = Field(
        3.0, ge=1.0, description="seconds of silence after which a worker is killed"
    )

    @property
    def limits(self) -> WorkerLimits:
        """What each worker may use."""
        return WorkerLimits(
            self.worker_memory_mb, self.worker_processes, self.worker_files, self.worker_silence_s
        )

    @property
    def delivery(self) -> Delivery:
        """How streams are delivered where their start says nothing else."""
        return Delivery(tuple(self.stream_formats), self.stream_window_ms)

    @model_validator(mode="before")
    @classmethod
    def _name(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("host"):
            return values
        machine = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname().split(".")[0])[:40] or "host"
        return {**values, "host": f"{machine}-{values.get('family', '')}"}
