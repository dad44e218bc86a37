"""What readers of the bus see of a device. PURE.

The machine changes its face as it goes, and has it published where it differs from the one that was
published last.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sat_bus.contract.messages import CommandInfo, Meta, Status, StreamStatus
from sat_host.devices.delivery_args import with_delivery
from sat_host.devices.jobs import HOST
from sat_toolkit.core import lifecycle
from sat_toolkit.core.commands import Command
from sat_toolkit.core.device_spec import DeviceState

Dropped = Mapping[str, dict[str, int]]


@dataclass
class Face:
    """A device's state and what belongs to it. Two that look alike to a reader are equal.

    Attributes:
        since: when it came into its state, seconds since the epoch; a change of that alone does not
            count.
        by, operation: who did what last.
        reason: why it is as it is, where that needs saying.
    """

    since: float = field(compare=False)
    state: DeviceState = DeviceState.UNKNOWN
    previous: DeviceState = DeviceState.UNKNOWN
    by: str = HOST
    reason: str = ""
    operation: str = ""
    acquiring: bool = False
    quarantined: bool = False
    streams: dict[str, StreamStatus] = field(default_factory=dict)

    def copy(self) -> Face:
        """As it is now; what changes later does not change the copy."""
        return replace(self)

    def status(self, rev: int, boot: str) -> Status:
        """The message that shows it."""
        return Status(
            state=self.state,
            previous=self.previous,
            since=self.since,
            rev=rev,
            boot=boot,
            by=self.by,
            reason=self.reason,
            operation=self.operation,
            acquiring=self.acquiring,
            streams=self.streams,
            quarantined=self.quarantined,
        )

    def move(self, target: DeviceState, clock: float, reason: str = "") -> None:
        """Apply one edge of the lifecycle, at `clock` seconds since the epoch.

        Raises:
            IllegalTransition: there is no such edge; nothing is changed.
        """
        if target is not self.state:
            self.previous, self.state = self.state, lifecycle.apply(self.state, target)
            self.since = clock
        self.reason = reason

    def credit(self, by: str, operation: str) -> None:
        """Name who did what last."""
        self.by, self.operation = by, operation

    def stream_runs(self, kind: str, run_id: str, by: str, args: Mapping[str, Any]) -> None:
        """A stream was started."""
        status = StreamStatus(state="running", stream=run_id, by=by, args=dict(args))
        self.streams = {**self.streams, kind: status}

    def stream_stopped(self, kind: str, run_id: str, by: str) -> bool:
        """A stream has ended. False: it is not the one that is shown, and nothing is changed."""
        known = self.streams.get(kind)
        if known is None or known.stream != run_id:
            return False
        self.streams = {**self.streams, kind: _stopped(known, by)}
        return True

    def streams_over(self, by: str) -> None:
        """Whatever ran has ended, and acquisition with it."""
        self.acquiring = False
        self.streams = {
            kind: _stopped(status, by) if status.state == "running" else status
            for kind, status in self.streams.items()
        }

    def frames_dropped(self, dropped: Dropped) -> bool:
        """Take over how many frames the running streams have lost, by type and cause. False:
        nothing is new."""
        news = {
            kind: status.model_copy(update={"dropped": dropped[kind]})
            for kind, status in self.streams.items()
            if status.state == "running" and dropped.get(kind, status.dropped) != status.dropped
        }
        self.streams = {**self.streams, **news}
        return bool(news)


def describe(info: Mapping[str, Any], commands: Mapping[str, Command], streams: list[str]) -> Meta:
    """The message that says what a device is.

    Args:
        info: a Device as a dict, with its ``hardware_id``, as a scan has found it.
        commands, streams: what its driver declares.
    """
    return Meta(
        name=info["name"],
        device_type=info["device_type"],
        attributes=info.get("attributes", {}),
        hardware_id=info.get("hardware_id"),
        commands={name: _command_info(command, streams) for name, command in commands.items()},
        streams=streams,
    )


def _command_info(command: Command, streams: Collection[str]) -> CommandInfo:
    return CommandInfo(
        description=command.description,
        parameters=with_delivery(command, streams),
        timeout_ms=command.timeout_ms,
    )


def _stopped(status: StreamStatus, by: str) -> StreamStatus:
    return status.model_copy(update={"state": "stopped", "by": by})
