"""The rules of one device: its state, its queue of jobs, its worker. PURE: what happened and the
time go in, effects come out.

Jobs run one at a time, each as a list of steps; a step ends when the shell, which carries out the
effects, says what became of it. The lifecycle's own rules are `sat_toolkit.core.lifecycle`; here
they meet a worker that may be slow, wrong or gone.
"""

from __future__ import annotations

from collections import deque

from sat_host import wire_messages
from sat_host.devices import effects, quarantine
from sat_host.devices.effects import Effect
from sat_host.devices.face import Dropped, Face
from sat_host.devices.job_queue import FIRST, JobQueue
from sat_host.devices.jobs import HOST, Deadlines, Job, Moment
from sat_host.devices.quarantine import Deaths
from sat_host.outcome import Outcome
from sat_toolkit.core import driver_events, lifecycle
from sat_toolkit.core.device_spec import DeviceState
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

ACTIVE_SHOWN_AFTER = 0.05
NOT_FOUND = "not found by the last scan"
_UNUSED = (DeviceState.DISCOVERED, DeviceState.DISCONNECTED, DeviceState.ERROR)
_IN_USE = (DeviceState.INITIALIZED, DeviceState.CONNECTED)


class Machine:
    """A device that a scan has found, from then on until it is forgotten."""

    def __init__(self, device_id: str, deadlines: Deadlines, now: Moment) -> None:
        self.id = device_id
        self.face = Face(since=now.clock)
        self._shown = self.face.copy()
        self._deadlines = deadlines
        self._queue = JobQueue(device_id)
        self._job: Job | None = None
        self._steps: deque[Step] = deque()
        self._before: tuple[DeviceState, float, str]  # as a command found it
        self._has_worker = False
        self._deaths = Deaths()
        self._effects: list[Effect] = []

    @property
    def queued(self) -> int:
        """Jobs that wait."""
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Nothing runs or waits, and no worker holds the device."""
        return self._job is None and not self._queue and not self._has_worker

    def is_running(self, job: Job) -> bool:
        """Whether the driver has been asked, and has not answered yet."""
        return self._job is job

    def check_takes_data(self) -> None:
        """Refuse a client's data where there is nobody to take it.

        Raises:
            BadState: the device is not connected.
        """
        if self.face.state not in (DeviceState.CONNECTED, DeviceState.ACTIVE):
            raise BadState(
                f"data needs a connected device, {self.id} is {self.face.state}; connect it first"
            )

    # -- scans -----------------------------------------------------------------------------------

    def found(self, now: Moment) -> list[Effect]:
        """A scan has found it. Never lowers a state."""
        if self.face.reason == NOT_FOUND:
            self.face.reason = ""
            self._show()
        if self.face.state is DeviceState.UNKNOWN:
            self.face.credit(HOST, Operation.SCAN.value)
            self.face.move(DeviceState.DISCOVERED, now.clock)
            self._show()
        return self._take_effects()

    def missing(self, now: Moment) -> list[Effect]:
        """A scan has not found it. What is initialised or more keeps its state, as some ports are
        not listed while they are in use: only its driver can tell. The reason says so meanwhile."""
        if self.face.state in _UNUSED and self._job is None:
            self._drop_worker()
            self.face.credit(HOST, Operation.SCAN.value)
            self.face.move(DeviceState.UNKNOWN, now.clock, "unplugged")
            self._show()
        elif self.face.state in _IN_USE and not self.face.reason:
            self.face.reason = NOT_FOUND
            self._show()
        return self._take_effects()

    # -- what is asked of it ---------------------------------------------------------------------

    def submit(self, job: Job, now: Moment) -> list[Effect]:
        """Run `job` in its turn.

        Raises:
            Busy: the queue is full.
        """
        self._queue.put(job)
        if self._job is None:
            self._next(now)
        return self._take_effects()

    def close(self, deadline: float, now: Moment, reason: str = "") -> list[Effect]:
        """The host itself wants it closed, where a worker holds it."""
        if not self._has_worker:
            return []
        try:
            return self.submit(Job(Operation.CLOSE, HOST, deadline, reason), now)
        except Busy:  # with requests to close or reset it
            return []

    def restart(self, why: str, now: Moment) -> list[Effect]:
        """Close it, so that it comes back with new code by what is desired of it."""
        return self.close(now.monotonic + self._deadlines.close, now, why)

    def release(self) -> list[Effect]:
        """End the quarantine. The device stays in ERROR until it is reset."""
        self.face.quarantined = False
        self._deaths.forgive()
        self._show()
        return self._take_effects()

    def abandon(self, error: SatError) -> list[Effect]:
        """The host ends: every job is answered with `error`."""
        jobs = [*([] if self._job is None else [self._job]), *self._queue.clear()]
        self._job = None
        if self._has_worker:
            self._effects.append(effects.Kill())
        for job in jobs:
            self._answer(job, Outcome(error=error))
        return self._take_effects()

    # -- what became of effects ------------------------------------------------------------------

    def scanned(self, job: Job, now: Moment) -> list[Effect]:
        """The scan that `job` needs is over; whether it has found the device, `found` was told."""
        if job is self._job:
            if self.face.state is DeviceState.UNKNOWN:
                gone = UnknownDevice(f"{self.id} is not there: a scan did not find it")
                self._finish(Outcome(error=gone), now)
            else:
                self._steps.popleft()
                self._step(job, now)
        return self._take_effects()

    def spawned(self, job: Job) -> list[Effect]:
        """A worker has been started for `job`."""
        self._has_worker = True
        self.face.streams = {}
        self._call_hook(job)
        return self._take_effects()

    def spawn_failed(self, error: OSError, now: Moment) -> list[Effect]:
        """No worker could be had."""
        self._fail(DriverError(f"no worker process could be started: {error}"), now)
        return self._take_effects()

    def answered(self, job: Job, outcome: Outcome, now: Moment) -> list[Effect]:
        """What became of a call. One for a job that was abandoned meanwhile is of no interest."""
        if job is self._job:
            if job.command is None:
                self._stepped(job, outcome, now)
            else:
                self._commanded(outcome, now)
        return self._take_effects()

    def show_active(self, job: Job) -> list[Effect]:
        """The command has taken so long by now that readers shall see it."""
        if job is self._job and self.face.state is DeviceState.ACTIVE:
            self.face.credit(job.by, job.word)
            self._show()
        return self._take_effects()

    # -- the worker's doings ---------------------------------------------------------------------

    def heard(self, event: wire_messages.Event, now: Moment) -> list[Effect]:
        """The worker tells something by itself."""
        match event:
            case wire_messages.StreamChanged():
                self._stream_changed(event)
            case wire_messages.Acquiring(on):
                self.face.acquiring = on
                self._show_unless_busy()
            case wire_messages.AcquisitionFailed(reason):
                self.face.credit(HOST, "")
                self._enter_error(f"acquisition failed: {reason}", now)
                self._show()  # a job that runs goes on, and hears its own outcome
            case wire_messages.InputFailed(code, reason, n):
                self._tell("input_failed", code=code, reason=reason, n=n)
            case wire_messages.DriverReported(name, data):
                self._tell(f"driver.{name}", data=driver_events.checked(name, data))
            case wire_messages.EventsDropped(n):
                self._tell("events_dropped", n=n)
        return self._take_effects()

    def exited(self, reason: str, now: Moment) -> list[Effect]:
        """The worker has ended, and not because it was told to."""
        if self._has_worker:
            self._has_worker = False
            self._count_death(now)
            if self.face.state is not DeviceState.ERROR:
                self.face.credit(HOST, "")
                self._fail(DriverError(reason), now)
        return self._take_effects()

    def frames_dropped(self, dropped: Dropped) -> list[Effect]:
        """So many frames the streams have lost by now, by type and cause."""
        if self.face.frames_dropped(dropped):
            self._show_unless_busy()
        return self._take_effects()

    # -- inside: jobs ----------------------------------------------------------------------------

    def _next(self, now: Moment) -> None:
        """Begin with what waits, until something runs."""
        while self._job is None and self._queue:
            job, expired = self._queue.take(now.monotonic)
            for late in expired:
                missed = Expired(f"{late.word} waited past its deadline and was not started")
                self._answer(late, Outcome(error=missed))
            if job is not None:
                self._begin(job, now)

    def _begin(self, job: Job, now: Moment) -> None:
        try:
            self._check_quarantine(job)
            steps = lifecycle.plan(job.operation, self.face.state)
        except SatError as error:
            self._answer(job, Outcome(error=error))
            return
        if not steps:
            message = f"Device already {self.face.state}"
            self._answer(job, Outcome({"changed": False, "message": message}))
            return
        self._job, self._steps = job, deque(steps)
        if job.command is not None:
            self._run_command(job, job.command, now)
        else:
            self.face.credit(job.by, job.word)
            self._step(job, now)

    def _check_quarantine(self, job: Job) -> None:
        if self.face.quarantined and job.operation is not Operation.CLOSE:
            raise Quarantined(
                f"{self.id} is {self.face.reason}; when the cause is mended, release it: "
                f"sat release {self.id}"
            )

    def _step(self, job: Job, now: Moment) -> None:
        """Go on with the job's next step, or end it."""
        if not self._steps:
            self._finish(Outcome({"changed": True, "message": ""}), now)
            return
        operation = self._steps[0].operation
        if operation is Operation.SCAN:
            self._effects.append(effects.ScanFirst(job))
        elif self._has_worker:
            self._call_hook(job)
        elif operation in FIRST:  # there is nothing to close
            self._stepped(job, Outcome(), now)
        else:
            self._effects.append(effects.Spawn(job))

    def _call_hook(self, job: Job) -> None:
        hook = self._steps[0].operation.value
        timeout = getattr(self._deadlines, hook)
        self._effects.append(effects.CallWorker(job, wire_messages.RunHook(hook), timeout))

    def _stepped(self, job: Job, outcome: Outcome, now: Moment) -> None:
        step = self._steps.popleft()
        if step.operation in FIRST:
            self.face.streams_over(job.by)
            self._drop_worker()
        if outcome.error is not None:
            self._fail(outcome.error, now, gone=outcome.gone)
        elif self.face.state is DeviceState.ERROR and step.operation not in FIRST:
            self._fail(DriverError(self.face.reason), now)
        else:
            self.face.move(step.target, now.clock, job.reason)
            self._show()
            self._step(job, now)

    def _run_command(self, job: Job, command: wire_messages.RunCommand, now: Moment) -> None:
        """ACTIVE meanwhile, which nobody sees of a quick command."""
        self._before = (self.face.previous, self.face.since, self.face.reason)
        self.face.move(DeviceState.ACTIVE, now.clock)
        limit = self._deadlines.command if job.limit is None else job.limit
        self._effects += (
            effects.ShowActive(job, ACTIVE_SHOWN_AFTER),
            effects.CallWorker(job, command, limit),
        )

    def _commanded(self, outcome: Outcome, now: Moment) -> None:
        if outcome.error is not None and outcome.fatal:
            self._fail(outcome.error, now, gone=outcome.gone)
            return
        if self.face.state is DeviceState.ACTIVE:
            self.face.move(DeviceState.CONNECTED, now.clock)
            if self._shown.state is not DeviceState.ACTIVE:
                self.face.previous, self.face.since, self.face.reason = self._before
        self._finish(outcome, now)

    def _finish(self, outcome: Outcome, now: Moment) -> None:
        """The job is over, if one ran: its outcome first, then the state, then the next job."""
        job, self._job = self._job, None
        if job is not None:
            self._answer(job, outcome)
        self._show()
        self._next(now)

    def _answer(self, job: Job, outcome: Outcome) -> None:
        self._effects.append(effects.Finished(job, outcome, self.face.state))

    # -- inside: failures ------------------------------------------------------------------------

    def _fail(self, error: SatError, now: Moment, *, gone: bool = False) -> None:
        """The device is in ERROR: its streams are over, and what runs is answered with `error`."""
        if gone:
            self._count_death(now)
            self._drop_worker()
        self._enter_error(str(error), now)
        self._finish(Outcome(error=error), now)

    def _enter_error(self, reason: str, now: Moment) -> None:
        if lifecycle.allowed(self.face.state, DeviceState.ERROR):
            self.face.move(DeviceState.ERROR, now.clock)
        if self.face.quarantined:
            reason = quarantine.reason(reason)
        self.face.reason = reason
        self.face.streams_over(HOST)
        if self._has_worker:
            self._effects.append(effects.HaltStreams())
        self._tell("error", reason=reason)

    def _count_death(self, now: Moment) -> None:
        if self._deaths.count(now.monotonic):
            self.face.quarantined = True

    def _drop_worker(self) -> None:
        if self._has_worker:
            self._has_worker = False
            self._effects.append(effects.Dismiss())

    # -- inside: what readers see ----------------------------------------------------------------

    def _stream_changed(self, event: wire_messages.StreamChanged) -> None:
        job = self._job
        by = job.by if job is not None and not event.by_itself else HOST
        if event.running:
            args = {} if job is None else job.args
            self.face.stream_runs(event.kind, event.run_id, by, args)
        elif not self.face.stream_stopped(event.kind, event.run_id, by):
            return
        self._show_unless_busy()

    def _show(self) -> None:
        """Publish what has changed to a reader's eye."""
        if self.face != self._shown:
            self._shown = self.face.copy()
            self._effects.append(effects.Publish(self._shown))

    def _show_unless_busy(self) -> None:
        """A change that a running job made is shown with the job's end."""
        if self._job is None:
            self._show()
        else:
            self.face.credit(self._job.by, self._job.word)

    def _tell(self, event: str, **fields: object) -> None:
        self._effects.append(effects.Tell(event, fields))

    def _take_effects(self) -> list[Effect]:
        due, self._effects = self._effects, []
        return due
