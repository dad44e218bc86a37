"""What may be asked of a host, and how each request is answered. Lives on the work loop alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from sat_bus.contract import messages, topics
from sat_bus.contract.messages import ScanArgs, StartArgs
from sat_bus.contract.topics import Match
from sat_bus.service.loop import WorkLoop
from sat_bus.service.request_desk import Accepted, RequestDesk
from sat_bus.transport.bus import Bus, Inbound
from sat_host.bus.inputs import parse_bin_input, parse_input
from sat_host.devices.delivery_args import take_delivery
from sat_host.devices.device import HostedDevice
from sat_host.devices.drivers import ScanResult
from sat_host.devices.jobs import Job, JobOutcome
from sat_host.outcome import Outcome
from sat_host.wire_messages import InputFailed
from sat_toolkit.core import commands
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.lifecycle import Operation
from sat_toolkit.core.stream_manager import StreamType
from sat_toolkit.errors import (
    BadArgs,
    BadState,
    Code,
    Expired,
    Fenced,
    Internal,
    SatError,
    Timeout,
    UnknownCommand,
    UnknownDevice,
    UnknownDriver,
)

if TYPE_CHECKING:
    from sat_host.host import Host

ORCHESTRATOR = "orchestrator"
LIFECYCLE_TIMEOUT = 70.0
_GONE = (DeviceState.UNKNOWN, DeviceState.DISCOVERED, DeviceState.DISCONNECTED)


class HostRequests:
    """Answers commands, client data and lifecycle requests, each exactly once."""

    def __init__(self, host: Host, bus: Bus, loop: WorkLoop) -> None:
        self._host = host
        self._loop = loop
        self._desk = RequestDesk(host.site, host.name, host.boot, bus, host.monotonic)
        lifecycle = (Operation.INITIALIZE, Operation.CONNECT, Operation.RESET, Operation.CLOSE)
        self._operations: dict[str, Callable[[Accepted], None]] = {
            **{operation.value: partial(self._lifecycle, operation) for operation in lifecycle},
            "scan": self._scan,
            "start": self._start,
            "reload": self._reload,
            "resync": self._resync,
            "forget": self._forget,
            "release": self._release,
        }

    @property
    def counts(self) -> Counter[str]:
        """Requests that were refused or repeated, by cause."""
        return self._desk.counts

    def handle(self, inbound: Inbound, match: Match, arrived: float) -> None:
        """Answer the request `inbound`, which came at `arrived` on the host's monotonic clock."""
        if match.topic is topics.INPUT_JSON:
            accepted = self._desk.accept(inbound, match, parser=parse_input, arrived=arrived)
            run = self._input
        elif match.topic is topics.INPUT_BIN:
            accepted = self._desk.accept(inbound, match, parser=parse_bin_input, arrived=arrived)
            run = self._frames
        elif match.topic is topics.COMMAND:
            accepted = self._desk.accept(inbound, match, arrived=arrived)
            run = self._command
        else:
            accepted = self._desk.accept(
                inbound, match, arrived=arrived, timeout_s=LIFECYCLE_TIMEOUT
            )
            run = self._request
        if accepted is None:
            return
        try:
            run(accepted)
        except SatError as error:
            accepted.fail(error)
        except Exception as error:
            accepted.fail(Internal(f"{type(error).__name__}: {error}"))
            raise

    # -- clients -----------------------------------------------------------------------------------

    def _input(self, accepted: Accepted) -> None:
        levels = accepted.match.levels
        device = self._device(levels["driver"], levels["device"])
        device.send_input(levels["stream"], accepted.request.args["items"])

    def _frames(self, accepted: Accepted) -> None:
        levels = accepted.match.levels
        device = self._device(levels["driver"], levels["device"])
        if levels["stream"] != StreamType.CAN:
            raise BadArgs(
                f"bin is for CAN frames: publish to in/can/bin, or to in/{levels['stream']}/json"
            )
        block = accepted.request.args["block"]
        answers = accepted.request.request_id is not None or accepted.request.reply_to is not None

        def done(result: Outcome) -> None:
            timer.cancel()
            if result.error is not None:
                accepted.fail(result.error)
            elif answers:
                accepted.ok(result.result)
            elif failed := result.result["failed"]:
                reason = failed[-1]["reason"]
                device.on_event(InputFailed(Code.DRIVER_ERROR, reason, len(failed)))

        def late() -> None:
            accepted.fail(
                Timeout("the frames were not all sent in time; what became of them is unknown")
            )

        timer = self._loop.later(accepted.deadline - self._host.monotonic(), late)
        try:
            device.send_frames(block, done)
        except SatError:
            timer.cancel()
            raise

    def _command(self, accepted: Accepted) -> None:
        levels = accepted.match.levels
        device = self._device(levels["driver"], levels["device"])
        self._submit_command(
            accepted, device, levels["command"], accepted.request.args, accepted.client
        )

    def _submit_command(
        self, accepted: Accepted, device: HostedDevice, name: str, args: dict[str, Any], by: str
    ) -> None:
        command = device.commands.get(name)
        if command is None:
            known = ", ".join(sorted(device.commands)) or "none"
            raise UnknownCommand(f"unknown command {name!r}; {device.driver} has: {known}")
        rest, _ = take_delivery(command, device.declared_streams, args)
        commands.check_args(command, rest)
        self._submit(accepted, device, Operation.COMMAND, by, name, args)

    # -- the orchestrator --------------------------------------------------------------------------

    def _request(self, accepted: Accepted) -> None:
        name = accepted.match.levels["op"]
        operation = self._operations.get(name)
        if operation is None:
            known = ", ".join(sorted(self._operations))
            raise UnknownCommand(f"unknown request {name!r}; a host takes: {known}")
        self._fence(accepted)
        operation(accepted)

    def _fence(self, accepted: Accepted) -> None:
        epoch = accepted.request.epoch
        if epoch is None:
            return
        if epoch < self._host.epoch_seen:
            raise Fenced(f"epoch {epoch} is over; {self._host.epoch_seen} has been seen")
        self._host.epoch_seen = epoch

    def _lifecycle(self, operation: Operation, accepted: Accepted) -> None:
        device = self._named(accepted)
        self._submit(accepted, device, operation, ORCHESTRATOR)

    def _start(self, accepted: Accepted) -> None:
        args = messages.parse_args(StartArgs, accepted.request)
        device = self._device(args.driver, args.device)
        self._submit_command(accepted, device, "start", args.args, ORCHESTRATOR)

    def _scan(self, accepted: Accepted) -> None:
        args = messages.parse_args(ScanArgs, accepted.request)
        if args.driver is not None and args.driver not in self._host.drivers:
            raise self._unknown_driver(args.driver)
        names = [args.driver] if args.driver is not None else list(self._host.drivers)
        before = set(self._host.devices)
        errors: dict[str, str] = {}
        left = set(names)

        def scanned(name: str, result: ScanResult) -> None:
            left.discard(name)
            if result.error is not None:
                errors[name] = str(result.error)
            if not left:
                accepted.ok({"devices": self._listed(names, before), "errors": errors})

        if not names:
            accepted.ok({"devices": [], "errors": {}})
        for name in names:
            self._host.scan_driver(name, partial(scanned, name))

    def _listed(self, drivers: list[str], before: set[tuple[str, str]]) -> list[dict[str, Any]]:
        return [
            {"driver": key[0], "device": key[1], "state": device.state, "new": key not in before}
            for key, device in self._host.devices.items()
            if key[0] in drivers
        ]

    def _reload(self, accepted: Accepted) -> None:
        args = messages.parse_args(ScanArgs, accepted.request)
        if args.driver is not None and args.driver not in self._host.drivers:
            raise self._unknown_driver(args.driver)
        for name, driver in self._host.drivers.items():
            if args.driver in (None, name):
                driver.reload()
        accepted.ok({"drivers": [args.driver] if args.driver else list(self._host.drivers)})

    def _resync(self, accepted: Accepted) -> None:
        self._host.resync()
        accepted.ok({"devices": len(self._host.devices)})

    def _forget(self, accepted: Accepted) -> None:
        device = self._named(accepted)
        if device.state not in _GONE or not device.idle:
            raise BadState(
                f"{device.id} is {device.state}; close it first, then forget it",
            )
        self._host.forget(device)
        accepted.ok({"forgotten": device.id})

    def _release(self, accepted: Accepted) -> None:
        device = self._named(accepted)
        accepted.ok({"released": device.release()}, state=device.state)

    # -- all ---------------------------------------------------------------------------------------

    def _submit(
        self,
        accepted: Accepted,
        device: HostedDevice,
        operation: Operation,
        by: str,
        command: str = "",
        args: dict[str, Any] | None = None,
    ) -> None:
        def done(outcome: JobOutcome) -> None:
            timer.cancel()
            if outcome.error is not None:
                accepted.fail(outcome.error, state=device.state)
            elif operation is Operation.COMMAND:
                accepted.ok(outcome.result, state=device.state)
            else:
                accepted.ok(outcome.result, state=device.state, message=outcome.result["message"])

        def late() -> None:
            seconds = f"{accepted.deadline - accepted.arrived:g} s"
            if job.started:
                accepted.fail(
                    Timeout(f"{job.word} did not end within {seconds}; its effect is unknown")
                )
            else:
                accepted.fail(
                    Expired(f"{job.word} could not start within {seconds} and never will")
                )

        job = Job(operation, by, accepted.deadline, done, command, args or {})
        timer = self._loop.later(accepted.deadline - self._host.monotonic(), late)
        try:
            device.submit(job)
        except SatError:
            timer.cancel()
            raise

    def _named(self, accepted: Accepted) -> HostedDevice:
        args = messages.parse_args(messages.DeviceArgs, accepted.request)
        if args.driver is not None:
            return self._device(args.driver, args.device)
        found = [device for key, device in self._host.devices.items() if key[1] == args.device]
        if len(found) == 1:
            return found[0]
        if found:
            raise BadArgs(
                f"{args.device} is a device of {', '.join(d.driver for d in found)}; name the driver"
            )
        raise self._unknown_device(args.device)

    def _device(self, driver: str, device: str) -> HostedDevice:
        if driver not in self._host.drivers:
            raise self._unknown_driver(driver)
        known = self._host.devices.get((driver, device))
        if known is None:
            raise self._unknown_device(device)
        return known

    def _unknown_driver(self, driver: str) -> UnknownDriver:
        known = ", ".join(self._host.drivers) or "none"
        return UnknownDriver(f"unknown driver {driver!r}; {self._host.name} has: {known}")

    def _unknown_device(self, device: str) -> UnknownDevice:
        known = ", ".join(sorted(key[1] for key in self._host.devices)) or "none; scan first"
        return UnknownDevice(f"unknown device {device!r}; {self._host.name} has: {known}")
