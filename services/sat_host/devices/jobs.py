"""What is asked of a device, and how long it may take. Plain data; whoever runs it is `machine`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sat_host.devices.delivery_args import take_delivery
from sat_host.wire_messages import RunCommand
from sat_toolkit.core import commands
from sat_toolkit.core.commands import Command
from sat_toolkit.core.lifecycle import Operation

HOST = "host"


class Moment(NamedTuple):
    """A point in time: on the wall's clock, in seconds since the epoch, and on the monotonic
    one."""

    clock: float
    monotonic: float


@dataclass(frozen=True, eq=False, slots=True)
class Job:
    """An operation asked of a device.

    Attributes:
        by: who asked, as the status names it.
        deadline: on the host's monotonic clock; a job not begun by then is `expired`.
        reason: why the host itself wants it; stands in the status.
        command: what the worker is told to run, of Operation.COMMAND alone.
        args: of that command as its client gave them, which the status of a stream shows.
        limit: seconds that the driver allows for the command; None where it does not say.
    """

    operation: Operation
    by: str
    deadline: float
    reason: str = ""
    command: RunCommand | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    limit: float | None = None

    @property
    def word(self) -> str:
        """The operation as the status shows it: a command by its name."""
        return self.operation.value if self.command is None else self.command.command


@dataclass(frozen=True)
class Deadlines:
    """Seconds a driver's hook may take before its worker is killed."""

    initialize: float = 30.0
    connect: float = 30.0
    reset: float = 10.0
    close: float = 10.0
    command: float = 30.0


def command_job(
    command: Command,
    streams: Collection[str],
    args: Mapping[str, Any],
    *,
    by: str,
    deadline: float,
) -> Job:
    """The job that runs `command`, its args checked, on a device that has these `streams`.

    Raises:
        BadArgs: the command does not take such args.
    """
    rest, delivery = take_delivery(command, streams, args)
    commands.check_args(command, rest)
    told = RunCommand(command.name, rest, delivery if command.name == "start" else None)
    limit = command.timeout_ms / 1000 if command.timeout_ms else None
    return Job(Operation.COMMAND, by, deadline, command=told, args=args, limit=limit)
