"""One device of a host: the shell around its `machine`, whose effects it carries out. Lives on the
work loop alone, but for the frames, which pass it on the multiplexer's thread.

There are no rules here: what follows from what is the machine's to say.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from functools import partial
from typing import Any

from sat_bus.contract.messages import Meta
from sat_bus.service.loop import Timer
from sat_bus.service.tasks import Promise, Task
from sat_host import wire_messages
from sat_host.devices import effects
from sat_host.devices.drivers import Driver
from sat_host.devices.effects import Effect, Finished
from sat_host.devices.face import Dropped, describe
from sat_host.devices.jobs import Deadlines, Job, Moment
from sat_host.devices.machine import Machine
from sat_host.devices.surroundings import Surroundings
from sat_host.outcome import Outcome
from sat_host.pool.handle import WorkerHandle
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import Busy, SatError


class HostedDevice:
    """A device that a scan has found; `info` is the scanned Device as a dict."""

    def __init__(self, driver: Driver, info: dict[str, Any], around: Surroundings) -> None:
        self.driver = driver
        self.id: str = info["device_id"]
        self.info = info
        self._around = around
        self._deadlines = Deadlines()
        self._machine = Machine(self.id, self._deadlines, self._now())
        self._worker: WorkerHandle | None = None
        self._waiting: dict[Job, Promise[Finished]] = {}
        self._due: deque[Effect] = deque()
        self._carrying = False
        self._showing: Timer | None = None

    @property
    def state(self) -> DeviceState:
        return self._machine.face.state

    @property
    def queued(self) -> int:
        """Jobs that wait."""
        return self._machine.queued

    @property
    def idle(self) -> bool:
        """Nothing runs or waits, and no worker holds the device."""
        return self._machine.idle

    def meta(self) -> Meta:
        """What it is, as a message."""
        return describe(self.info, self.driver.commands, self.driver.streams)

    def found(self, info: dict[str, Any]) -> bool:
        """A scan has found it. Whether its description has changed."""
        changed, self.info = info != self.info, info
        self._carry_out(self._machine.found(self._now()))
        return changed

    def missing(self) -> None:
        """A scan has not found it."""
        self._carry_out(self._machine.missing(self._now()))

    # -- what is asked of it ---------------------------------------------------------------------

    def submit(self, job: Job) -> Promise[Finished]:
        """Run `job` in its turn.

        Raises:
            Busy: the queue is full.
        """
        finished: Promise[Finished] = Promise()
        due = self._machine.submit(job, self._now())
        self._waiting[job] = finished
        self._carry_out(due)
        return finished

    def is_running(self, job: Job) -> bool:
        """Whether the driver has been asked, and has not answered yet."""
        return self._machine.is_running(job)

    def send_input(self, stream: str, items: list[dict[str, Any]]) -> None:
        """Hand client data to the driver.

        Raises:
            BadState: the device is not connected.
            Busy: the worker does not take it.
        """
        self._taking().tell(wire_messages.TakeInput(stream, items))

    def send_frames(self, block: FrameBlock) -> Promise[Outcome]:
        """Hand a client's CAN frames to the driver; the outcome says what became of each.

        Raises:
            BadState: the device is not connected.
        """
        return self._taking().call(wire_messages.SendFrames(block), self._deadlines.command)

    def close(self, deadline: float) -> None:
        """Close it, where a worker holds it, by `deadline` on the loop's clock."""
        self._carry_out(self._machine.close(deadline, self._now()))

    def restart(self, why: str) -> None:
        """Close it, so that it comes back with new code by what is desired of it."""
        self._carry_out(self._machine.restart(why, self._now()))

    def release(self) -> bool:
        """End its quarantine; whether there was one."""
        quarantined = self._machine.face.quarantined
        self._carry_out(self._machine.release())
        return quarantined

    def abandon(self, error: SatError) -> None:
        """Answer every job with `error` and kill the worker, at the host's end."""
        self._carry_out(self._machine.abandon(error))

    def show_dropped(self, dropped: Dropped) -> None:
        """Show how many frames the streams have lost, by type and cause."""
        self._carry_out(self._machine.frames_dropped(dropped))

    # -- WorkerOwner -----------------------------------------------------------------------------

    def on_frames(self, header: wire_messages.BatchHeader, frames: bytes) -> None:
        """On the multiplexer's thread, straight to the bus."""
        self._around.frames.publish(self.driver.name, self.id, header, frames)

    def on_event(self, event: wire_messages.Event) -> None:
        """The worker tells something by itself."""
        self._carry_out(self._machine.heard(event, self._now()))

    def on_exit(self, reason: str) -> None:
        """The worker has ended by itself."""
        self._worker = None
        self._carry_out(self._machine.exited(reason, self._now()))

    # -- effects ---------------------------------------------------------------------------------

    def _carry_out(self, due: list[Effect]) -> None:
        """In order; what carrying one out brings about comes after those that are due already."""
        self._due.extend(due)
        if self._carrying:
            return
        self._carrying = True
        while self._due:
            self._around.loop.call(self._perform_due)
        self._carrying = False

    def _perform_due(self) -> None:
        """What one of them raises, a job of the loop has raised; the others follow all the same."""
        while self._due:
            self._perform(self._due.popleft())

    def _perform(self, effect: Effect) -> None:
        match effect:
            case effects.Finished():
                asked = self._waiting.pop(effect.job, None)
                if asked is not None:  # the host asks for some itself
                    asked.set_result(effect)
            case effects.CallWorker():
                Task(self._around.loop, self._call(effect))
            case effects.ShowActive():
                show = partial(self._show_active, effect.job)
                self._showing = self._around.loop.later(effect.after, show)
            case effects.Publish(face):
                self._around.readers.show(self.driver.name, self.id, face)
            case effects.Tell(event, fields):
                self._around.readers.tell(self.driver.name, self.id, event, fields)
            case effects.ScanFirst(job):
                Task(self._around.loop, self._scan(job))
            case effects.Spawn(job):
                self._spawn(job)
            case effects.HaltStreams():
                with contextlib.suppress(Busy):
                    self._holder().tell(wire_messages.Halt())
            case effects.Dismiss():
                self._holder().dismiss()
                self._worker = None
            case effects.Kill():
                self._holder().kill()

    async def _call(self, call: effects.CallWorker) -> None:
        outcome = await self._holder().call(call.request, call.timeout)
        if self._showing is not None:
            self._showing.cancel()
        self._carry_out(self._machine.answered(call.job, outcome, self._now()))

    async def _scan(self, job: Job) -> None:
        await self._around.scans.scan(self.driver)
        self._carry_out(self._machine.scanned(job, self._now()))

    def _spawn(self, job: Job) -> None:
        name = f"{self.driver.name}/{self.id}"
        try:
            self._worker = self._around.workers.spawn(name, self.driver.plugin, self.info, self)
        except OSError as error:
            self._carry_out(self._machine.spawn_failed(error, self._now()))
        else:
            self._carry_out(self._machine.spawned(job))

    def _show_active(self, job: Job) -> None:
        self._carry_out(self._machine.show_active(job))

    def _taking(self) -> WorkerHandle:
        self._machine.check_takes_data()
        return self._holder()

    def _holder(self) -> WorkerHandle:
        """The worker that holds it, where the machine says that one does."""
        assert self._worker is not None
        return self._worker

    def _now(self) -> Moment:
        return Moment(time.time(), self._around.loop.now())
