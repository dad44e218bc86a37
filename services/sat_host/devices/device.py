"""One device of a host: its state, its queue of jobs, and its worker. Lives on the work loop alone.

Jobs run one at a time. Each step of an operation is a call to the worker whose result comes back as
a job of the loop, so nothing here ever waits. The lifecycle's rules are
`sat_toolkit.core.lifecycle`; here they meet a process that may be slow, wrong or gone.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from sat_bus.contract.messages import CommandInfo, Meta, Status, StreamStatus
from sat_bus.service.tasks import Promise
from sat_host.devices.delivery_args import take_delivery, with_delivery
from sat_host.devices.jobs import Deadlines, Job, JobOutcome
from sat_host.outcome import Outcome
from sat_host.pool.handle import WorkerHandle
from sat_host.wire_messages import (
    Acquiring,
    AcquisitionFailed,
    BatchHeader,
    DriverReported,
    Event,
    EventsDropped,
    Halt,
    InputFailed,
    RunCommand,
    RunHook,
    SendFrames,
    StreamChanged,
    TakeInput,
)
from sat_toolkit.core import driver_events, lifecycle
from sat_toolkit.core.commands import Command
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.lifecycle import Operation, Step
from sat_toolkit.errors import (
    BadState,
    Busy,
    DriverError,
    Expired,
    Quarantined,
    SatError,
    UnknownDevice,
)

QUEUE_LENGTH = 16
QUARANTINE_DEATHS = 5
QUARANTINE_WITHIN = 60.0
ACTIVE_SHOWN_AFTER = 0.05
HOST = "host"
NOT_FOUND = "not found by the last scan"
_FIRST = (Operation.RESET, Operation.CLOSE)


class DeviceContext(Protocol):
    """What a device needs of its host."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float: ...

    def later(self, delay: float, job: Callable[[], None]) -> Any: ...

    def next_rev(self) -> int: ...

    def changed(self, device: HostedDevice) -> None:
        """Publish the device's state and status."""

    def event(self, device: HostedDevice, event: str, **fields: Any) -> None: ...

    def spawn(self, device: HostedDevice) -> WorkerHandle:
        """A worker for the device.

        Raises:
            OSError: no process could be had.
        """

    def scan(self, driver: str, done: Callable[[], None]) -> None: ...

    def when(self, outcome: Promise[Outcome], done: Callable[[Outcome], None]) -> None: ...

    def frames(self, device: HostedDevice, header: BatchHeader, frames: bytes) -> None: ...


class HostedDevice:
    """A device that a scan has found.

    `info` is the scanned Device as a dict, `commands` and `streams` what its driver declares.
    """

    def __init__(
        self,
        driver: str,
        info: dict[str, Any],
        commands: dict[str, Command],
        streams: list[str],
        boot: str,
        context: DeviceContext,
        deadlines: Deadlines,
    ) -> None:
        self.driver = driver
        self.id: str = info["device_id"]
        self.info = info
        self.commands = commands
        self.declared_streams = streams
        self.state = DeviceState.UNKNOWN
        self.rev = 0
        self._boot = boot
        self._context = context
        self._deadlines = deadlines
        self._previous = DeviceState.UNKNOWN
        self._since = context.now()
        self._by = HOST
        self._reason = ""
        self._operation = ""
        self._acquiring = False
        self._streams: dict[str, StreamStatus] = {}
        self._urgent: deque[Job] = deque()
        self._queue: deque[Job] = deque()
        self._job: Job | None = None
        self._worker: WorkerHandle | None = None
        self._deaths: deque[float] = deque(maxlen=QUARANTINE_DEATHS)
        self._quarantined = False
        self._shown: tuple[Any, ...] = ()

    # -- what the bus shows ----------------------------------------------------------------------

    def status(self) -> Status:
        return Status(
            state=self.state,
            previous=self._previous,
            since=self._since,
            rev=self.rev,
            boot=self._boot,
            by=self._by,
            reason=self._reason,
            operation=self._operation,
            acquiring=self._acquiring,
            streams=self._streams,
            quarantined=self._quarantined,
        )

    def meta(self) -> Meta:
        return Meta(
            name=self.info["name"],
            device_type=self.info["device_type"],
            attributes=self.info.get("attributes", {}),
            hardware_id=self.info.get("hardware_id"),
            commands={
                name: CommandInfo(
                    description=c.description,
                    parameters=with_delivery(c, self.declared_streams),
                    timeout_ms=c.timeout_ms,
                )
                for name, c in self.commands.items()
            },
            streams=self.declared_streams,
        )

    @property
    def queued(self) -> int:
        return len(self._queue) + len(self._urgent)

    @property
    def worker(self) -> WorkerHandle | None:
        return self._worker

    @property
    def idle(self) -> bool:
        """Nothing runs or waits, and no worker holds the device."""
        return self._job is None and not self.queued and self._worker is None

    def _show(self) -> None:
        """Publish, when anything a reader would see has changed."""
        shown = (
            self.state,
            self._previous,
            self._reason,
            self._operation,
            self._by,
            self._acquiring,
            self._quarantined,
            tuple(self._streams.items()),
        )
        if shown != self._shown:
            self._shown = shown
            self.rev = self._context.next_rev()
            self._context.changed(self)

    def _move(self, target: DeviceState, reason: str = "") -> None:
        """Apply one edge of the lifecycle.

        Raises:
            IllegalTransition: there is none; nothing is changed.
        """
        if target is not self.state:
            self._previous, self.state = self.state, lifecycle.apply(self.state, target)
            self._since = self._context.now()
        self._reason = reason

    # -- scans -----------------------------------------------------------------------------------

    def found(self, info: dict[str, Any]) -> bool:
        """A scan found it. Never lowers a state. Returns whether its description changed."""
        changed = info != self.info
        self.info = info
        if self._reason == NOT_FOUND:
            self._reason = ""
            self._show()
        if self.state is DeviceState.UNKNOWN:
            self._by, self._operation = HOST, Operation.SCAN.value
            self._move(DeviceState.DISCOVERED)
            self._show()
        return changed

    def missing(self) -> None:
        """A scan did not find it. What is initialised or more keeps its state, as some ports are
        not listed while they are in use: only its driver can tell. The reason says so meanwhile."""
        if (
            self.state in (DeviceState.DISCOVERED, DeviceState.DISCONNECTED, DeviceState.ERROR)
            and self._job is None
        ):
            self._drop_worker()
            self._by, self._operation = HOST, Operation.SCAN.value
            self._move(DeviceState.UNKNOWN, "unplugged")
            self._show()
        elif self.state in (DeviceState.INITIALIZED, DeviceState.CONNECTED) and not self._reason:
            self._reason = NOT_FOUND
            self._show()

    # -- jobs ------------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Run `job` in its turn; reset and close go before commands.

        Raises:
            Busy: the queue is full.
        """
        queue = self._urgent if job.operation in _FIRST else self._queue
        if len(queue) >= QUEUE_LENGTH:
            raise Busy(f"{QUEUE_LENGTH} requests wait for {self.id} already; try again later")
        queue.append(job)
        if self._job is None:
            self._next()

    def send_input(self, stream: str, items: list[dict[str, Any]]) -> None:
        """Hand client data to the driver.

        Raises:
            BadState: the device is not connected.
            Busy: the worker does not take it.
        """
        self._taking().tell(TakeInput(stream, items))

    def send_frames(self, block: FrameBlock, done: Callable[[Outcome], None]) -> None:
        """Hand a client's CAN frames to the driver; `done` hears what became of each.

        Raises:
            BadState: the device is not connected.
        """
        outcome = self._taking().call(SendFrames(block), self._deadlines.command)
        self._context.when(outcome, done)

    def _taking(self) -> WorkerHandle:
        if self._worker is None or self.state not in (DeviceState.CONNECTED, DeviceState.ACTIVE):
            raise BadState(
                f"data needs a connected device, {self.id} is {self.state}; connect it first"
            )
        return self._worker

    def abandon(self, error: SatError) -> None:
        """Answer every job with `error` and kill the worker, at the host's end."""
        jobs = [*([self._job] if self._job else []), *self._urgent, *self._queue]
        self._job = None
        self._urgent.clear()
        self._queue.clear()
        if self._worker is not None:
            self._worker.kill()
        for job in jobs:
            job.done(JobOutcome(error=error))

    def release(self) -> bool:
        """End the quarantine; whether there was one. The device stays in ERROR until it is
        reset."""
        released, self._quarantined = self._quarantined, False
        self._deaths.clear()
        self._show()
        return released

    def restart(self, why: str) -> None:
        """Close it, so that it comes back with new code by what is desired of it."""
        if self._worker is not None:
            deadline = self._context.monotonic() + self._deadlines.close
            with contextlib.suppress(Busy):
                self.submit(Job(Operation.CLOSE, HOST, deadline, lambda outcome: None, reason=why))

    def _died(self) -> None:
        """Count a death of the worker; too many in too short a time end in quarantine."""
        now = self._context.monotonic()
        self._deaths.append(now)
        if len(self._deaths) == QUARANTINE_DEATHS and now - self._deaths[0] <= QUARANTINE_WITHIN:
            self._quarantined = True

    def _next(self) -> None:
        while self._job is None and self.queued:
            job = (self._urgent or self._queue).popleft()
            if self._context.monotonic() >= job.deadline:
                job.done(
                    JobOutcome(
                        error=Expired(f"{job.word} waited past its deadline and was not started")
                    )
                )
                continue
            self._start(job)

    def _start(self, job: Job) -> None:
        try:
            self._check_quarantine(job)
            job.steps.extend(lifecycle.plan(job.operation, self.state))
        except SatError as error:
            job.done(JobOutcome(error=error))
            return
        if not job.steps:
            message = f"Device already {self.state}"
            job.done(JobOutcome(result={"changed": False, "message": message}))
            return
        self._job = job
        job.started = True
        if job.operation is Operation.COMMAND:
            self._command(job)
        else:
            self._by, self._operation = job.by, job.word
            self._step()

    def _check_quarantine(self, job: Job) -> None:
        if self._quarantined and job.operation is not Operation.CLOSE:
            raise Quarantined(
                f"{self.id} is {self._reason}; when the cause is mended, release it: sat release {self.id}"
            )

    def _finish(self, outcome: JobOutcome) -> None:
        """The job is over: reply first, then the state that the bus shows."""
        job, self._job = self._job, None
        if job is not None:
            job.done(outcome)
        self._show()
        self._next()

    def _fail(self, error: SatError, *, gone: bool = False) -> None:
        """The device is in ERROR: its streams are over, and what runs is answered with `error`."""
        if gone:
            self._died()
            self._drop_worker()
        self._enter_error(str(error))
        self._finish(JobOutcome(error=error))

    def _enter_error(self, reason: str) -> None:
        if lifecycle.allowed(self.state, DeviceState.ERROR):
            self._move(DeviceState.ERROR)
        if self._quarantined:
            reason = f"quarantined after {QUARANTINE_DEATHS} deaths within {QUARANTINE_WITHIN:g} s, the last: {reason}"
        self._reason = reason
        self._streams_over(HOST)
        if self._worker is not None:
            with contextlib.suppress(Busy):
                self._worker.tell(Halt())
        self._context.event(self, "error", reason=reason)

    # -- lifecycle steps ---------------------------------------------------------------------------

    def _step(self) -> None:
        job = self._job
        if job is None:
            return
        if not job.steps:
            self._finish(JobOutcome(result={"changed": True, "message": ""}))
            return
        step = job.steps[0]
        if step.operation is Operation.SCAN:
            self._context.scan(self.driver, self._scanned)
        elif step.operation in _FIRST and (self._worker is None or not self._worker.alive):
            self._stepped(Outcome())
        else:
            self._call_step(step)

    def _call_step(self, step: Step) -> None:
        if self._worker is None:
            try:
                self._worker = self._context.spawn(self)
            except OSError as error:
                self._fail(DriverError(f"no worker process could be started: {error}"))
                return
            self._streams = {}
        timeout = getattr(self._deadlines, step.operation.value)
        outcome = self._worker.call(RunHook(step.operation.value), timeout)
        self._context.when(outcome, self._stepped)

    def _scanned(self) -> None:
        if self.state is DeviceState.UNKNOWN:
            self._finish(
                JobOutcome(error=UnknownDevice(f"{self.id} is not there: a scan did not find it"))
            )
        elif self._job is not None:
            self._job.steps.popleft()
            self._step()

    def _stepped(self, result: Outcome) -> None:
        job = self._job
        if job is None or not job.steps:
            return
        step = job.steps.popleft()
        if step.operation in _FIRST:
            self._streams_over(job.by)
            self._drop_worker()
        if result.error is not None:
            self._fail(result.error, gone=result.gone)
        elif self.state is DeviceState.ERROR and step.operation not in _FIRST:
            self._fail(DriverError(self._reason))
        else:
            self._move(step.target, job.reason)
            self._show()
            self._step()

    def _drop_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.dismiss()

    # -- commands ----------------------------------------------------------------------------------

    def _command(self, job: Job) -> None:
        worker = self._worker
        if worker is None:
            self._fail(DriverError("the device has no worker"))
            return
        before = (self._previous, self._since, self._reason)
        rev = self.rev
        self._move(DeviceState.ACTIVE)
        showing = self._context.later(ACTIVE_SHOWN_AFTER, lambda: self._show_active(job))
        declared = self.commands.get(job.command)
        limit = (
            declared.timeout_ms / 1000
            if declared and declared.timeout_ms
            else self._deadlines.command
        )

        def commanded(result: Outcome) -> None:
            showing.cancel()
            if self._job is not job:
                return
            if result.error is not None and result.fatal:
                self._fail(result.error, gone=result.gone)
                return
            if self.state is DeviceState.ACTIVE:
                self._move(DeviceState.CONNECTED)
                if self.rev == rev:  # nobody saw it active
                    self._previous, self._since, self._reason = before
            self._finish(JobOutcome(result=result.result, error=result.error))

        args, delivery = job.args, None
        if declared is not None and job.command == "start":
            args, delivery = take_delivery(declared, self.declared_streams, job.args)
        outcome = worker.call(RunCommand(job.command, args, delivery), limit)
        self._context.when(outcome, commanded)

    def _show_active(self, job: Job) -> None:
        if self._job is job and self.state is DeviceState.ACTIVE:
            self._by, self._operation = job.by, job.word
            self._show()

    # -- the worker's doings (WorkerOwner) -----------------------------------------------------------

    def on_frames(self, header: BatchHeader, frames: bytes) -> None:
        self._context.frames(self, header, frames)

    def on_event(self, event: Event) -> None:
        match event:
            case StreamChanged():
                self._stream_event(event)
            case Acquiring(on):
                self._acquiring = on
                self._show_unless_busy()
            case InputFailed(code, reason, n):
                self._context.event(self, "input_failed", code=code, reason=reason, n=n)
            case DriverReported(name, data):
                data = driver_events.checked(name, data)
                self._context.event(self, f"driver.{name}", data=data)
            case EventsDropped(n):
                self._context.event(self, "events_dropped", n=n)
            case AcquisitionFailed(reason):
                self._acquisition_failed(reason)

    def on_exit(self, reason: str) -> None:
        self._worker = None
        self._died()
        if self.state is not DeviceState.ERROR:
            self._by, self._operation = HOST, ""
            self._fail(DriverError(reason))

    def _acquisition_failed(self, reason: str) -> None:
        """Into ERROR by itself. A job that runs goes on, and its own outcome is told to who
        asked."""
        self._by, self._operation = HOST, ""
        self._enter_error(f"acquisition failed: {reason}")
        self._show()

    def _stream_event(self, event: StreamChanged) -> None:
        kind, stream, job = event.kind, event.run_id, self._job
        by = job.by if job is not None and not event.by_itself else HOST
        if event.running:
            args = job.args if job is not None and job.operation is Operation.COMMAND else {}
            status = StreamStatus(state="running", stream=stream, by=by, args=args)
        else:
            known = self._streams.get(kind)
            if known is None or known.stream != stream:
                return
            status = known.model_copy(update={"state": "stopped", "by": by})
        self._streams = {**self._streams, kind: status}
        self._show_unless_busy()

    def show_dropped(self, dropped: dict[str, dict[str, int]]) -> None:
        """Show how many frames the streams have lost, by type and cause."""
        streams = {
            kind: status.model_copy(update={"dropped": dropped[kind]})
            if status.state == "running" and dropped.get(kind, status.dropped) != status.dropped
            else status
            for kind, status in self._streams.items()
        }
        if streams != self._streams:
            self._streams = streams
            self._show_unless_busy()

    def _show_unless_busy(self) -> None:
        """A change that a running job made is shown with the job's end."""
        if self._job is None:
            self._show()
        else:
            self._by, self._operation = self._job.by, self._job.word

    def _streams_over(self, by: str) -> None:
        self._acquiring = False
        self._streams = {
            kind: s.model_copy(update={"state": "stopped", "by": by}) if s.state == "running" else s
            for kind, s in self._streams.items()
        }
