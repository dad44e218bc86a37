"""What may be asked of a host, and how each request is answered: one function for each, which reads
from top to bottom. Lives on the work loop alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from sat_bus.contract import messages, topics
from sat_bus.contract.messages import DeviceArgs, ScanArgs, StartArgs
from sat_bus.contract.topics import Match
from sat_bus.service.loop import WorkLoop
from sat_bus.service.request_desk import DEFAULT_TIMEOUT_S, Accepted, RequestDesk
from sat_bus.service.tasks import DeadlinePassedError, Task
from sat_bus.transport.bus import Inbound
from sat_host.bus.inputs import parse_bin_input, parse_input
from sat_host.bus.publisher import HostPublisher
from sat_host.bus.stream_publisher import StreamPublisher
from sat_host.devices.device import HostedDevice
from sat_host.devices.drivers import Driver
from sat_host.devices.effects import Finished
from sat_host.devices.inventory import Inventory
from sat_host.devices.jobs import Job, command_job
from sat_host.devices.scanner import Scanner
from sat_host.wire_messages import InputFailed
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
)

ORCHESTRATOR = "orchestrator"
LIFECYCLE_TIMEOUT = 70.0
_GONE = (DeviceState.UNKNOWN, DeviceState.DISCOVERED, DeviceState.DISCONNECTED)
_LIFECYCLE = (Operation.INITIALIZE, Operation.CONNECT, Operation.RESET, Operation.CLOSE)

Answering = Coroutine[Any, None, None]


class HostRequests:
    """Answers commands, client data and the requests of an orchestrator, each exactly once."""

    def __init__(
        self,
        desk: RequestDesk,
        loop: WorkLoop,
        inventory: Inventory,
        scanner: Scanner,
        publisher: HostPublisher,
        streams: StreamPublisher,
    ) -> None:
        self._desk = desk
        self._loop = loop
        self._inventory = inventory
        self._scanner = scanner
        self._publisher = publisher
        self._streams = streams
        self._operations: dict[str, Callable[[Accepted], Answering]] = {
            **dict.fromkeys(_LIFECYCLE, self._lifecycle),
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

    def handle(self, inbound: Inbound, match: Match) -> None:
        """Answer the request `inbound`."""
        if match.topic is topics.COMMAND:
            self._begin(inbound, match, self._command)
        elif match.topic is topics.INPUT_JSON:
            self._begin(inbound, match, self._take_items, parser=parse_input)
        elif match.topic is topics.INPUT_BIN:
            self._begin(inbound, match, self._send_frames, parser=parse_bin_input)
        else:
            self._begin(inbound, match, self._operate, timeout_s=LIFECYCLE_TIMEOUT)

    def _begin(
        self,
        inbound: Inbound,
        match: Match,
        answer: Callable[[Accepted], Answering],
        *,
        parser: Callable[[bytes], messages.Request] = messages.parse_request,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        accepted = self._desk.accept(
            inbound, match, parser=parser, arrived=inbound.arrived, timeout_s=timeout_s
        )
        if accepted is not None:
            Task(self._loop, self._guard(accepted, answer(accepted)))

    async def _guard(self, accepted: Accepted, answering: Answering) -> None:
        """Whatever happens, there is an answer."""
        try:
            await answering
        except SatError as error:
            accepted.fail(error)
        except Exception as error:
            accepted.fail(Internal(f"{type(error).__name__}: {error}"))
            raise

    # -- clients ---------------------------------------------------------------------------------

    async def _command(self, accepted: Accepted) -> None:
        """``cmd/<command>``: run a command of the driver."""
        levels = accepted.match.levels
        device = self._inventory.device(levels["driver"], levels["device"])
        args = accepted.request.args
        job = self._command_job(accepted, device, levels["command"], args, accepted.client)
        _reply(accepted, await self._run(accepted, device, job))

    async def _take_items(self, accepted: Accepted) -> None:
        """``in/<stream>/json``: hand data to the driver. There is a reply only to what it cannot
        take; what becomes of the rest, events tell."""
        levels = accepted.match.levels
        device = self._inventory.device(levels["driver"], levels["device"])
        device.send_input(levels["stream"], accepted.request.args["items"])

    async def _send_frames(self, accepted: Accepted) -> None:
        """``in/can/bin``: hand CAN frames to the driver, and say what became of each: in the reply,
        or in an event where nobody asked for a reply."""
        levels = accepted.match.levels
        device = self._inventory.device(levels["driver"], levels["device"])
        if levels["stream"] != StreamType.CAN:
            raise BadArgs(
                f"bin is for CAN frames: publish to in/can/bin, or to in/{levels['stream']}/json"
            )
        sending = device.send_frames(accepted.request.args["block"])
        try:
            await sending.by(self._loop, accepted.deadline)
        except DeadlinePassedError:
            accepted.fail(
                Timeout("the frames were not all sent in time; what became of them is unknown")
            )
        outcome = await sending
        if outcome.error is not None:
            accepted.fail(outcome.error)
        elif accepted.request.request_id is not None or accepted.request.reply_to is not None:
            accepted.ok(outcome.result)
        elif failed := outcome.result["failed"]:
            reason = failed[-1]["reason"]
            device.on_event(InputFailed(Code.DRIVER_ERROR, reason, len(failed)))

    # -- the orchestrator ------------------------------------------------------------------------

    async def _operate(self, accepted: Accepted) -> None:
        """``req/<op>``: one of those below, unless who asks has been superseded."""
        name = accepted.match.levels["op"]
        operation = self._operations.get(name)
        if operation is None:
            known = ", ".join(sorted(self._operations))
            raise UnknownCommand(f"unknown request {name!r}; a host takes: {known}")
        epoch, seen = accepted.request.epoch, self._publisher.epoch_seen
        if epoch is not None:
            if epoch < seen:
                raise Fenced(f"epoch {epoch} is over; {seen} has been seen")
            self._publisher.epoch_seen = epoch
        await operation(accepted)

    async def _lifecycle(self, accepted: Accepted) -> None:
        """initialize, connect, reset and close."""
        device = self._named(accepted)
        operation = Operation(accepted.match.levels["op"])
        job = Job(operation, ORCHESTRATOR, accepted.deadline)
        _reply(accepted, await self._run(accepted, device, job))

    async def _start(self, accepted: Accepted) -> None:
        """Run the driver's start command for a stream that is desired."""
        args = messages.parse_args(StartArgs, accepted.request)
        device = self._inventory.device(args.driver, args.device)
        job = self._command_job(accepted, device, "start", args.args, ORCHESTRATOR)
        _reply(accepted, await self._run(accepted, device, job))

    async def _scan(self, accepted: Accepted) -> None:
        """Look for devices with one driver or all, and list them."""
        drivers = self._drivers_named(accepted)
        before = set(self._inventory.devices)
        scans = [(driver, self._scanner.scan(driver)) for driver in drivers]
        errors = {}
        for driver, scan in scans:
            result = await scan
            if result.error is not None:
                errors[driver.name] = str(result.error)
        found = [
            {
                "driver": device.driver.name,
                "device": device.id,
                "state": device.state,
                "new": device not in before,
            }
            for device in self._inventory.devices
            if device.driver in drivers
        ]
        accepted.ok({"devices": found, "errors": errors})

    async def _reload(self, accepted: Accepted) -> None:
        """Read one driver's plugin file again, or all."""
        drivers = self._drivers_named(accepted)
        for driver in drivers:
            driver.reload()
        accepted.ok({"drivers": [driver.name for driver in drivers]})

    async def _resync(self, accepted: Accepted) -> None:
        """Publish everything again."""
        self._publisher.resync()
        accepted.ok({"devices": len(self._inventory.devices)})

    async def _forget(self, accepted: Accepted) -> None:
        """Drop a device that is gone, with all that was said of it."""
        device = self._named(accepted)
        if device.state not in _GONE or not device.idle:
            raise BadState(f"{device.id} is {device.state}; close it first, then forget it")
        self._inventory.forget(device)
        self._streams.forget(device.driver.name, device.id)
        self._publisher.forget(device.driver.name, device.id)
        accepted.ok({"forgotten": device.id})

    async def _release(self, accepted: Accepted) -> None:
        """End a device's quarantine."""
        device = self._named(accepted)
        accepted.ok({"released": device.release()}, state=device.state)

    # -- what several need -----------------------------------------------------------------------

    def _command_job(
        self, accepted: Accepted, device: HostedDevice, name: str, args: dict[str, Any], by: str
    ) -> Job:
        """The job of a command. Raises UnknownCommand, BadArgs."""
        command = self._inventory.command(device, name)
        streams = device.driver.streams
        return command_job(command, streams, args, by=by, deadline=accepted.deadline)

    async def _run(self, accepted: Accepted, device: HostedDevice, job: Job) -> Finished:
        """What became of `job`.

        Raises:
            Busy: the device's queue is full.
            Expired, Timeout: the deadline has passed before it could start, or while it ran.
        """
        try:
            return await device.submit(job).by(self._loop, job.deadline)
        except DeadlinePassedError:
            pass
        within = f"{accepted.deadline - accepted.arrived:g} s"
        if device.is_running(job):
            raise Timeout(f"{job.word} did not end within {within}; its effect is unknown")
        raise Expired(f"{job.word} could not start within {within} and never will")

    def _named(self, accepted: Accepted) -> HostedDevice:
        """The device of the request's args. Raises BadArgs, UnknownDriver, UnknownDevice."""
        args = messages.parse_args(DeviceArgs, accepted.request)
        return self._inventory.find(args.device, args.driver)

    def _drivers_named(self, accepted: Accepted) -> list[Driver]:
        """The driver of the request's args, or all. Raises BadArgs, UnknownDriver."""
        args = messages.parse_args(ScanArgs, accepted.request)
        if args.driver is not None:
            return [self._inventory.driver(args.driver)]
        return list(self._inventory.drivers)


def _reply(accepted: Accepted, finished: Finished) -> None:
    """Say what became of a job, and in which state the device was then."""
    outcome = finished.outcome
    if outcome.error is not None:
        accepted.fail(outcome.error, state=finished.state)
    elif finished.job.command is not None:
        accepted.ok(outcome.result, state=finished.state)
    else:
        accepted.ok(outcome.result, state=finished.state, message=outcome.result["message"])
