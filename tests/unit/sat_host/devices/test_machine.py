"""The rules of a device: what happens to it and the time go in, effects come out, in order."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract.messages import StreamStatus
from sat_host import wire_messages
from sat_host.devices import job_queue
from sat_host.devices.effects import (
    CallWorker,
    Dismiss,
    Effect,
    Finished,
    HaltStreams,
    Kill,
    Publish,
    ScanFirst,
    ShowActive,
    Spawn,
    Tell,
)
from sat_host.devices.face import Face
from sat_host.devices.jobs import Deadlines, Job, Moment
from sat_host.devices.machine import Machine
from sat_host.outcome import Outcome
from sat_host.wire_messages import RunCommand, RunHook, StreamChanged
from sat_toolkit.core.device_spec import DeviceState as S
from sat_toolkit.core.lifecycle import Operation as Op
from sat_toolkit.errors import (
    BadState,
    Busy,
    Code,
    CommandFailed,
    DriverError,
    Expired,
    HostLost,
    Indeterminate,
    Quarantined,
    SatError,
    Timeout,
    UnknownDevice,
)

DEADLINES = Deadlines(initialize=11.0, connect=12.0, reset=13.0, close=14.0, command=15.0)
ENDED_BY_ITSELF = StreamChanged("can", "r1", running=False, by_itself=True)
CHANGED = {"changed": True, "message": ""}


class Device:
    """A machine, and a clock that the test moves."""

    def __init__(self) -> None:
        self.now = Moment(1_700_000_000.0, 100.0)
        self.machine = Machine("a", DEADLINES, self.now)

    @property
    def face(self) -> Face:
        return self.machine.face

    def wait(self, seconds: float) -> None:
        self.now = Moment(self.now.clock + seconds, self.now.monotonic + seconds)

    def found(self) -> list[Effect]:
        return self.machine.found(self.now)

    def missing(self) -> list[Effect]:
        return self.machine.missing(self.now)

    def job(self, operation: Op, by: str = "orchestrator", *, within: float = 60.0, **more: Any):
        return Job(operation, by, self.now.monotonic + within, **more)

    def command(self, name: str = "send", by: str = "ann", args: Any = None, **more: Any) -> Job:
        return self.job(Op.COMMAND, by, command=RunCommand(name, {}), args=args or {}, **more)

    def submit(self, job: Job) -> list[Effect]:
        return self.machine.submit(job, self.now)

    def answer(
        self, job: Job, result: Any = None, error: SatError | None = None, **more: bool
    ) -> list[Effect]:
        return self.machine.answered(job, Outcome(result, error, **more), self.now)

    def hear(self, event: wire_messages.Event) -> list[Effect]:
        return self.machine.heard(event, self.now)

    def exit(self, reason: str = "worker died: signal SIGKILL") -> list[Effect]:
        return self.machine.exited(reason, self.now)

    def connect(self) -> None:
        """Bring it to CONNECTED, whatever it is."""
        if self.face.state is S.ERROR:
            reset = self.job(Op.RESET)
            self.submit(reset)
            if self.machine.is_running(reset):
                self.answer(reset)
        job = self.job(Op.CONNECT)
        self.submit(job)
        self.machine.spawned(job)
        self.answer(job)
        self.answer(job)
        assert self.face.state is S.CONNECTED

    def start_stream(self, run_id: str = "r1", args: Any = None) -> None:
        start = self.command("start", args=args)
        self.submit(start)
        self.hear(StreamChanged("can", run_id, running=True))
        self.answer(start)

    def die(self) -> list[Effect]:
        """Its worker dies during a command."""
        job = self.command()
        self.submit(job)
        return self.answer(job, error=Indeterminate("exit status 3"), fatal=True, gone=True)


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def discovered(device: Device) -> Device:
    device.found()
    return device


@pytest.fixture
def connected(discovered: Device) -> Device:
    discovered.connect()
    discovered.wait(1.0)
    return discovered


def faces(effects: list[Effect]) -> list[Face]:
    return [effect.face for effect in effects if isinstance(effect, Publish)]


def outcomes(effects: list[Effect]) -> list[tuple[Job, Outcome, S]]:
    return [(e.job, e.outcome, e.state) for e in effects if isinstance(e, Finished)]


def the_error(effects: list[Effect]) -> SatError:
    """Of the one job that has failed."""
    ((_, outcome, _),) = outcomes(effects)
    assert outcome.error is not None
    return outcome.error


# -- scans -------------------------------------------------------------------------------------


def test_a_device_is_unknown_until_a_scan_has_found_it(device: Device) -> None:
    assert (device.face.state, device.face.since) == (S.UNKNOWN, device.now.clock)
    device.wait(2.0)
    (effect,) = device.found()
    assert effect == Publish(
        Face(device.now.clock, S.DISCOVERED, S.UNKNOWN, by="host", operation="scan")
    )
    assert device.face.since == device.now.clock
    assert device.found() == []


def test_what_is_published_does_not_change_afterwards(device: Device) -> None:
    (first,) = device.found()
    (second,) = device.missing()
    assert isinstance(first, Publish)
    assert first.face.state is S.DISCOVERED
    assert second != first


def test_a_device_that_is_missing_is_unknown(discovered: Device) -> None:
    discovered.wait(5.0)
    (shown,) = faces(discovered.missing())
    assert shown == Face(
        0.0, S.UNKNOWN, S.DISCOVERED, by="host", reason="unplugged", operation="scan"
    )
    assert shown.since == discovered.now.clock
    assert discovered.missing() == []
    (shown,) = faces(discovered.found())
    assert (shown.state, shown.reason) == (S.DISCOVERED, "")


def test_a_failed_device_that_is_missing_loses_its_worker(connected: Device) -> None:
    connected.hear(wire_messages.AcquisitionFailed("cable cut"))
    effects = connected.missing()
    assert [type(effect) for effect in effects] == [Dismiss, Publish]
    assert connected.machine.idle


def test_a_closed_device_that_is_missing_is_unknown(connected: Device) -> None:
    close = connected.job(Op.CLOSE)
    connected.submit(close)
    connected.answer(close)
    (effect,) = connected.missing()
    assert isinstance(effect, Publish)
    assert effect.face.state is S.UNKNOWN
    assert (effect.face.by, effect.face.operation) == ("host", "scan")


def test_a_device_with_a_job_is_not_missed(discovered: Device) -> None:
    discovered.submit(discovered.job(Op.INITIALIZE))
    assert discovered.missing() == []
    assert discovered.face.state is S.DISCOVERED


@pytest.mark.parametrize("initialized_only", [True, False])
def test_a_device_in_use_that_is_missing_says_so_until_it_is_found(
    discovered: Device, initialized_only: bool
) -> None:
    job = discovered.job(Op.INITIALIZE if initialized_only else Op.CONNECT)
    discovered.submit(job)
    discovered.machine.spawned(job)
    discovered.answer(job)
    if not initialized_only:
        discovered.answer(job)
    state = discovered.face.state
    (shown,) = faces(discovered.missing())
    assert (shown.state, shown.reason) == (state, "not found by the last scan")
    assert discovered.missing() == []
    (shown,) = faces(discovered.found())
    assert (shown.state, shown.reason) == (state, "")
    assert discovered.found() == []


def test_another_reason_outlives_a_scan(connected: Device) -> None:
    connected.face.reason = "mine"
    assert connected.missing() == []
    assert connected.found() == []
    assert connected.face.reason == "mine"


# -- lifecycle ---------------------------------------------------------------------------------


def test_connect_spawns_initialises_and_connects(discovered: Device) -> None:
    job = discovered.job(Op.CONNECT, by="ann")
    assert discovered.submit(job) == [Spawn(job)]
    assert not discovered.machine.idle
    assert discovered.machine.is_running(job)
    assert discovered.machine.spawned(job) == [CallWorker(job, RunHook("initialize"), 11.0)]
    discovered.wait(1.0)
    assert discovered.answer(job) == [
        Publish(Face(0.0, S.INITIALIZED, S.DISCOVERED, by="ann", operation="connect")),
        CallWorker(job, RunHook("connect"), 12.0),
    ]
    discovered.wait(1.0)
    shown = Face(0.0, S.CONNECTED, S.INITIALIZED, by="ann", operation="connect")
    effects = discovered.answer(job)
    assert effects == [Publish(shown), Finished(job, Outcome(CHANGED), S.CONNECTED)]
    assert faces(effects)[0].since == discovered.now.clock
    assert not discovered.machine.is_running(job)
    assert not discovered.machine.idle, "a worker holds it"


def test_the_last_step_is_shown_before_the_reply(discovered: Device) -> None:
    job = discovered.job(Op.INITIALIZE)
    discovered.submit(job)
    discovered.machine.spawned(job)
    assert discovered.answer(job) == [
        Publish(Face(0.0, S.INITIALIZED, S.DISCOVERED, by="orchestrator", operation="initialize")),
        Finished(job, Outcome(CHANGED), S.INITIALIZED),
    ]


def test_what_is_there_already_changes_nothing(connected: Device) -> None:
    job = connected.job(Op.CONNECT, by="bob")
    message = {"changed": False, "message": "Device already connected"}
    assert connected.submit(job) == [Finished(job, Outcome(message), S.CONNECTED)]
    assert connected.face.by == "orchestrator"


def test_a_refused_operation_changes_nothing(discovered: Device) -> None:
    effects = discovered.submit(discovered.command())
    assert isinstance(the_error(effects), BadState)
    assert len(effects) == 1
    assert discovered.machine.idle


@pytest.mark.parametrize(("operation", "timeout"), [(Op.RESET, 13.0), (Op.CLOSE, 14.0)])
def test_reset_and_close_end_streams_and_worker(
    connected: Device, operation: Op, timeout: float
) -> None:
    connected.start_stream()
    connected.hear(wire_messages.Acquiring(True))
    job = connected.job(operation, by="bob")
    assert connected.submit(job) == [CallWorker(job, RunHook(operation.value), timeout)]
    effects = connected.answer(job)
    assert [type(effect) for effect in effects] == [Dismiss, Publish, Finished]
    (shown,) = faces(effects)
    assert (shown.state, shown.by, shown.operation) == (S.DISCONNECTED, "bob", operation.value)
    assert not shown.acquiring
    assert shown.streams["can"] == StreamStatus(state="stopped", stream="r1", by="bob")
    assert connected.machine.idle


@pytest.mark.parametrize("operation", [Op.RESET, Op.CLOSE])
def test_reset_and_close_need_no_worker(connected: Device, operation: Op) -> None:
    connected.die()
    job = connected.job(operation, reason="enough")
    effects = connected.submit(job)
    assert [type(effect) for effect in effects] == [Publish, Finished]
    assert (connected.face.state, connected.face.reason) == (S.DISCONNECTED, "enough")


def test_a_new_worker_has_no_streams_yet(connected: Device) -> None:
    connected.start_stream()
    close = connected.job(Op.CLOSE)
    connected.submit(close)
    connected.answer(close)
    assert connected.face.streams
    job = connected.job(Op.INITIALIZE)
    connected.submit(job)
    connected.machine.spawned(job)
    assert connected.face.streams == {}


def test_an_initialised_device_is_connected_in_its_worker(discovered: Device) -> None:
    first = discovered.job(Op.INITIALIZE)
    discovered.submit(first)
    discovered.machine.spawned(first)
    discovered.answer(first)
    job = discovered.job(Op.CONNECT)
    assert discovered.submit(job) == [CallWorker(job, RunHook("connect"), 12.0)]


def test_no_worker_can_be_had(discovered: Device) -> None:
    job = discovered.job(Op.CONNECT)
    discovered.submit(job)
    effects = discovered.machine.spawn_failed(OSError("no more processes"), discovered.now)
    reason = "no worker process could be started: no more processes"
    assert effects[0] == Tell("error", {"reason": reason})
    assert isinstance(effects[1], Finished)
    assert isinstance(effects[2], Publish)
    assert len(effects) == 3
    error = the_error(effects)
    assert isinstance(error, DriverError)
    assert str(error) == reason
    assert (discovered.face.state, discovered.face.reason) == (S.ERROR, reason)
    assert discovered.machine.idle


def test_a_hook_that_fails_leads_to_error(connected: Device) -> None:
    connected.start_stream()
    close = connected.job(Op.CLOSE)
    connected.submit(close)
    effects = connected.answer(close, error=DriverError("it is stuck"))
    assert [type(effect) for effect in effects] == [Dismiss, Tell, Finished, Publish]
    assert outcomes(effects)[0][2] is S.ERROR
    (shown,) = faces(effects)
    assert (shown.state, shown.previous) == (S.ERROR, S.CONNECTED)
    assert shown.reason == "it is stuck"
    assert shown.streams["can"].by == "orchestrator"


def test_a_hook_that_fails_on_the_way_up_keeps_its_worker(discovered: Device) -> None:
    job = discovered.job(Op.CONNECT)
    discovered.submit(job)
    discovered.machine.spawned(job)
    effects = discovered.answer(job, error=DriverError("no"), fatal=True)
    assert effects[:2] == [HaltStreams(), Tell("error", {"reason": "no"})]
    assert [type(effect) for effect in effects[2:]] == [Finished, Publish]
    reset = discovered.job(Op.RESET)
    assert discovered.submit(reset) == [CallWorker(reset, RunHook("reset"), 13.0)]


def test_a_worker_that_dies_on_the_way_up_is_gone(discovered: Device) -> None:
    job = discovered.job(Op.CONNECT)
    discovered.submit(job)
    discovered.machine.spawned(job)
    effects = discovered.answer(job, error=Indeterminate("died"), fatal=True, gone=True)
    assert [type(effect) for effect in effects] == [Dismiss, Tell, Finished, Publish]
    assert discovered.machine.idle


def test_acquisition_that_fails_during_a_hook_fails_the_job(discovered: Device) -> None:
    job = discovered.job(Op.CONNECT)
    discovered.submit(job)
    discovered.machine.spawned(job)
    discovered.hear(wire_messages.AcquisitionFailed("cable cut"))
    effects = discovered.answer(job)
    assert str(the_error(effects)) == "acquisition failed: cable cut"
    assert discovered.face.state is S.ERROR


def test_acquisition_that_fails_during_a_reset_is_mended_by_it(connected: Device) -> None:
    reset = connected.job(Op.RESET)
    connected.submit(reset)
    connected.hear(wire_messages.AcquisitionFailed("cable cut"))
    connected.answer(reset)
    assert (connected.face.state, connected.face.reason) == (S.DISCONNECTED, "")


# -- a scan as a step --------------------------------------------------------------------------


def test_connect_scans_for_what_is_unknown(discovered: Device) -> None:
    discovered.missing()
    job = discovered.job(Op.CONNECT)
    assert discovered.submit(job) == [ScanFirst(job)]
    discovered.found()
    assert discovered.machine.scanned(job, discovered.now) == [Spawn(job)]


def test_connect_fails_where_the_scan_finds_nothing(discovered: Device) -> None:
    discovered.missing()
    job = discovered.job(Op.CONNECT)
    discovered.submit(job)
    effects = discovered.machine.scanned(job, discovered.now)
    error = the_error(effects)
    assert isinstance(error, UnknownDevice)
    assert str(error) == "a is not there: a scan did not find it"
    assert discovered.machine.idle


def test_a_scan_for_an_abandoned_job_is_of_no_interest(discovered: Device) -> None:
    discovered.missing()
    job = discovered.job(Op.CONNECT)
    discovered.submit(job)
    discovered.machine.abandon(HostLost("over"))
    assert discovered.machine.scanned(job, discovered.now) == []


# -- commands ----------------------------------------------------------------------------------


def test_a_quick_command_is_not_seen(connected: Device) -> None:
    before = connected.face.copy()
    job = connected.command()
    assert connected.submit(job) == [
        ShowActive(job, 0.05),
        CallWorker(job, RunCommand("send", {}), 15.0),
    ]
    assert connected.face.state is S.ACTIVE
    connected.wait(0.04)
    assert connected.answer(job, 7) == [Finished(job, Outcome(7), S.CONNECTED)]
    assert connected.face == before
    assert connected.face.since == before.since


def test_the_driver_says_how_long_its_command_may_take(connected: Device) -> None:
    job = connected.command(limit=0.7)
    assert connected.submit(job)[1] == CallWorker(job, RunCommand("send", {}), 0.7)


def test_a_command_that_takes_a_while_is_seen(connected: Device) -> None:
    job = connected.command("sleep")
    connected.submit(job)
    began = connected.now.clock
    connected.wait(0.05)
    (shown,) = faces(connected.machine.show_active(job))
    assert shown == Face(0.0, S.ACTIVE, S.CONNECTED, by="ann", operation="sleep")
    assert shown.since == began
    connected.wait(1.0)
    effects = connected.answer(job)
    (shown,) = faces(effects)
    assert shown == Face(0.0, S.CONNECTED, S.ACTIVE, by="ann", operation="sleep")
    assert shown.since == connected.now.clock
    assert isinstance(effects[0], Finished)


def test_a_command_that_is_over_is_not_shown_as_active(connected: Device) -> None:
    job = connected.command()
    connected.submit(job)
    connected.answer(job)
    assert connected.machine.show_active(job) == []
    other = connected.command()
    connected.submit(other)
    assert connected.machine.show_active(job) == []


def test_a_doubt_of_a_scan_outlives_an_unseen_command(connected: Device) -> None:
    connected.missing()
    job = connected.command()
    connected.submit(job)
    assert connected.face.reason == ""
    assert connected.missing() == [], "ACTIVE proves that it is there"
    connected.answer(job)
    assert connected.face.reason == "not found by the last scan"


def test_a_command_that_is_refused_leaves_the_device_alone(connected: Device) -> None:
    job = connected.command()
    connected.submit(job)
    outcome = Outcome(error=CommandFailed("no"))
    assert connected.machine.answered(job, outcome, connected.now) == [
        Finished(job, outcome, S.CONNECTED)
    ]


def test_a_command_that_fails_for_good_leads_to_error(connected: Device) -> None:
    connected.start_stream()
    job = connected.command(by="bob")
    connected.submit(job)
    effects = connected.answer(job, error=DriverError("cable cut"), fatal=True)
    assert effects[:2] == [HaltStreams(), Tell("error", {"reason": "cable cut"})]
    assert [type(effect) for effect in effects[2:]] == [Finished, Publish]
    assert outcomes(effects)[0][2] is S.ERROR
    (shown,) = faces(effects)
    assert (shown.state, shown.previous, shown.reason) == (S.ERROR, S.ACTIVE, "cable cut")
    assert (shown.streams["can"].state, shown.streams["can"].by) == ("stopped", "host")
    assert not connected.machine.idle, "the worker is kept for the reset"


def test_a_command_whose_worker_is_gone(connected: Device) -> None:
    job = connected.command()
    connected.submit(job)
    late = Timeout("send did not end within 15 s")
    effects = connected.answer(job, error=late, fatal=True, gone=True)
    assert [type(effect) for effect in effects] == [Dismiss, Tell, Finished, Publish]
    assert the_error(effects) is late
    assert connected.machine.idle
    assert connected.exit() == [], "its end is known"


def test_what_becomes_of_an_abandoned_command_is_of_no_interest(connected: Device) -> None:
    job = connected.command()
    connected.submit(job)
    connected.machine.abandon(HostLost("over"))
    assert connected.answer(job, error=Indeterminate("killed"), fatal=True, gone=True) == []


# -- the queue ---------------------------------------------------------------------------------


def test_jobs_run_one_at_a_time_in_their_turns(connected: Device) -> None:
    first, second = connected.command("one"), connected.command("two")
    connected.submit(first)
    assert connected.submit(second) == []
    assert connected.machine.queued == 1
    assert not connected.machine.is_running(second)
    effects = connected.answer(first)
    assert effects == [
        Finished(first, Outcome(), S.CONNECTED),
        ShowActive(second, 0.05),
        CallWorker(second, RunCommand("two", {}), 15.0),
    ]
    assert connected.machine.queued == 0


def test_a_failure_is_answered_and_shown_before_the_next_job_is(connected: Device) -> None:
    first, second = connected.command("one"), connected.command("two")
    connected.submit(first)
    connected.submit(second)
    effects = connected.answer(first, error=DriverError("x"), fatal=True)
    assert [type(effect) for effect in effects] == [HaltStreams, Tell, Finished, Publish, Finished]
    assert [job for job, _, _ in outcomes(effects)] == [first, second]
    assert isinstance(outcomes(effects)[1][1].error, BadState)


def test_reset_goes_before_commands_that_wait(connected: Device) -> None:
    running, waiting, reset = connected.command(), connected.command(), connected.job(Op.RESET)
    for job in (running, waiting, reset):
        connected.submit(job)
    effects = connected.answer(running)
    assert effects[-1] == CallWorker(reset, RunHook("reset"), 13.0)
    assert waiting not in [job for job, _, _ in outcomes(effects)]


def test_a_job_that_follows_a_failure_is_not_ended_by_it(connected: Device) -> None:
    first, reset = connected.command(), connected.job(Op.RESET)
    connected.submit(first)
    connected.submit(reset)
    effects = connected.answer(first, error=DriverError("x"), fatal=True)
    assert effects[-1] == CallWorker(reset, RunHook("reset"), 13.0)
    assert connected.machine.is_running(reset)


def test_a_full_queue_refuses(connected: Device) -> None:
    connected.submit(connected.command())
    for _ in range(job_queue.LENGTH):
        connected.submit(connected.command())
    with pytest.raises(Busy):
        connected.submit(connected.command())
    assert connected.machine.queued == job_queue.LENGTH


def test_a_job_past_its_deadline_is_never_started(connected: Device) -> None:
    running, late, punctual = (
        connected.command(),
        connected.command("slow", within=1.0),
        connected.command("quick", within=1.5),
    )
    for job in (running, late, punctual):
        connected.submit(job)
    connected.wait(1.0)
    effects = connected.answer(running)
    assert [job for job, _, _ in outcomes(effects)] == [running, late]
    error = outcomes(effects)[1][1].error
    assert isinstance(error, Expired)
    assert str(error) == "slow waited past its deadline and was not started"
    assert effects[-1] == CallWorker(punctual, RunCommand("quick", {}), 15.0)


# -- the worker's doings -----------------------------------------------------------------------


def test_a_stream_that_a_command_starts_is_its_clients(connected: Device) -> None:
    start = connected.command("start", by="ann", args={"fd": True})
    connected.submit(start)
    assert connected.hear(StreamChanged("can", "r1", running=True)) == [], "shown with its end"
    effects = connected.answer(start)
    (shown,) = faces(effects)
    assert (shown.by, shown.operation, shown.state) == ("ann", "start", S.CONNECTED)
    assert shown.streams == {
        "can": StreamStatus(state="running", stream="r1", by="ann", args={"fd": True})
    }
    assert isinstance(effects[0], Finished)


def test_a_stream_that_starts_without_a_job_is_the_hosts(connected: Device) -> None:
    (shown,) = faces(connected.hear(StreamChanged("can", "r1", running=True)))
    assert shown.streams["can"] == StreamStatus(state="running", stream="r1", by="host")
    assert (shown.by, shown.operation) == ("orchestrator", "connect"), "who did the last step"


def test_a_stream_that_ends_by_itself_is_the_hosts(connected: Device) -> None:
    connected.start_stream()
    (shown,) = faces(connected.hear(ENDED_BY_ITSELF))
    assert (shown.streams["can"].state, shown.streams["can"].by) == ("stopped", "host")


@pytest.mark.parametrize(("by_itself", "by"), [(True, "host"), (False, "bob")])
def test_a_stream_that_ends_during_a_command(connected: Device, by_itself: bool, by: str) -> None:
    connected.start_stream()
    stop = connected.command("stop", by="bob")
    connected.submit(stop)
    assert connected.hear(StreamChanged("can", "r1", running=False, by_itself=by_itself)) == []
    (shown,) = faces(connected.answer(stop))
    assert (shown.streams["can"].state, shown.streams["can"].by) == ("stopped", by)
    assert (shown.by, shown.operation) == ("bob", "stop")


def test_the_end_of_an_earlier_run_is_no_news(connected: Device) -> None:
    connected.start_stream("r2")
    assert connected.hear(StreamChanged("can", "r1", running=False)) == []
    assert connected.hear(StreamChanged("uart", "r2", running=False)) == []
    assert connected.face.streams["can"].state == "running"
    job = connected.command(by="bob")
    connected.submit(job)
    connected.hear(StreamChanged("can", "r1", running=False))
    assert faces(connected.answer(job)) == []


@pytest.mark.parametrize("on", [True, False])
def test_acquisition_begins_and_ends(connected: Device, on: bool) -> None:
    if not on:
        connected.hear(wire_messages.Acquiring(True))
    (shown,) = faces(connected.hear(wire_messages.Acquiring(on)))
    assert shown.acquiring is on
    assert connected.hear(wire_messages.Acquiring(on)) == []


def test_acquisition_that_fails_leads_to_error(connected: Device) -> None:
    connected.start_stream()
    connected.hear(wire_messages.Acquiring(True))
    effects = connected.hear(wire_messages.AcquisitionFailed("cable cut"))
    reason = "acquisition failed: cable cut"
    assert effects[:2] == [HaltStreams(), Tell("error", {"reason": reason})]
    (shown,) = faces(effects[2:])
    assert (shown.state, shown.reason, shown.by, shown.operation) == (S.ERROR, reason, "host", "")
    assert (shown.streams["can"].state, shown.streams["can"].by) == ("stopped", "host")
    assert not shown.acquiring


def test_acquisition_that_fails_during_a_command_leaves_its_outcome_alone(
    connected: Device,
) -> None:
    job = connected.command()
    connected.submit(job)
    effects = connected.hear(wire_messages.AcquisitionFailed("cable cut"))
    assert [type(effect) for effect in effects] == [HaltStreams, Tell, Publish]
    assert connected.machine.show_active(job) == [], "it is not active any more"
    assert connected.answer(job, 5) == [Finished(job, Outcome(5), S.ERROR)]
    assert (connected.face.state, connected.face.by) == (S.ERROR, "host")


def test_lost_input_is_told(connected: Device) -> None:
    event = wire_messages.InputFailed(Code.DRIVER_ERROR, "not this", 3)
    assert connected.hear(event) == [
        Tell("input_failed", {"code": Code.DRIVER_ERROR, "reason": "not this", "n": 3})
    ]


def test_a_drivers_own_event_is_told_under_its_name(connected: Device) -> None:
    event = wire_messages.DriverReported("happened", {"index": 1})
    assert connected.hear(event) == [Tell("driver.happened", {"data": {"index": 1}})]
    with pytest.raises(ValueError, match="lower-case letters"):
        connected.hear(wire_messages.DriverReported("Not a name", {}))


def test_dropped_events_are_told(connected: Device) -> None:
    assert connected.hear(wire_messages.EventsDropped(4)) == [Tell("events_dropped", {"n": 4})]


def test_a_hint_of_new_hardware_is_not_for_devices(connected: Device) -> None:
    assert connected.hear(wire_messages.HardwareChanged()) == []


def test_lost_frames_are_shown(connected: Device) -> None:
    connected.start_stream()
    (shown,) = faces(connected.machine.frames_dropped({"can": {"bus": 2}}))
    assert shown.streams["can"].dropped == {"bus": 2}
    assert connected.machine.frames_dropped({"can": {"bus": 2}}) == []


def test_lost_frames_are_shown_with_the_end_of_a_job(connected: Device) -> None:
    connected.start_stream()
    job = connected.command("pause", by="bob")
    connected.submit(job)
    assert connected.machine.frames_dropped({"can": {"bus": 2}}) == []
    (shown,) = faces(connected.answer(job))
    assert shown.streams["can"].dropped == {"bus": 2}
    assert (shown.by, shown.operation) == ("bob", "pause")


# -- the worker's end --------------------------------------------------------------------------


def test_a_worker_that_dies_while_nothing_runs(connected: Device) -> None:
    connected.start_stream()
    effects = connected.exit("worker died: signal SIGKILL")
    assert effects[0] == Tell("error", {"reason": "worker died: signal SIGKILL"})
    (shown,) = faces(effects)
    assert len(effects) == 2
    assert (shown.state, shown.reason) == (S.ERROR, "worker died: signal SIGKILL")
    assert (shown.by, shown.operation) == ("host", "")
    assert (shown.streams["can"].state, shown.streams["can"].by) == ("stopped", "host")
    assert connected.machine.idle


def test_a_worker_that_dies_in_error_changes_no_word(connected: Device) -> None:
    connected.hear(wire_messages.AcquisitionFailed("cable cut"))
    assert connected.exit() == []
    assert connected.face.reason == "acquisition failed: cable cut"
    assert connected.machine.idle
    reset = connected.job(Op.RESET)
    assert not any(isinstance(effect, CallWorker) for effect in connected.submit(reset))


def test_a_worker_ends_once(connected: Device) -> None:
    connected.exit()
    for _ in range(10):
        assert connected.exit() == []
    assert not connected.face.quarantined


# -- quarantine --------------------------------------------------------------------------------


def deaths(device: Device, *pauses: float) -> None:
    """One death, and one more after each pause."""
    device.die()
    for pause in pauses:
        device.connect()
        device.wait(pause)
        device.die()


def test_five_deaths_within_a_minute_end_in_quarantine(connected: Device) -> None:
    deaths(connected, 15.0, 15.0, 15.0)
    assert not connected.face.quarantined
    connected.connect()
    connected.wait(15.0)
    (shown,) = faces(connected.die())
    assert shown.quarantined
    reason = "quarantined after 5 deaths within 60 s, the last: exit status 3"
    assert shown.reason == reason
    effects = connected.submit(connected.job(Op.RESET))
    error = the_error(effects)
    assert isinstance(error, Quarantined)
    assert str(error) == (f"a is {reason}; when the cause is mended, release it: sat release a")
    assert isinstance(the_error(connected.submit(connected.command())), Quarantined)


def test_five_deaths_in_more_than_a_minute_do_not(connected: Device) -> None:
    deaths(connected, 15.0, 15.0, 15.0, 15.1)
    assert not connected.face.quarantined
    connected.connect()
    connected.wait(14.9)
    connected.die()
    assert connected.face.quarantined, "the last five count"


def test_deaths_without_a_job_count_as_well(connected: Device) -> None:
    for _ in range(4):
        connected.exit()
        connected.connect()
    connected.exit()
    assert connected.face.quarantined
    assert connected.face.reason.startswith("quarantined after 5 deaths")


def test_a_device_in_quarantine_may_be_closed(connected: Device) -> None:
    deaths(connected, 1.0, 1.0, 1.0, 1.0)
    close = connected.job(Op.CLOSE)
    effects = connected.submit(close)
    assert outcomes(effects) == [(close, Outcome(CHANGED), S.DISCONNECTED)]
    assert connected.face.quarantined


def test_a_released_device_starts_with_a_clean_record(connected: Device) -> None:
    assert connected.machine.release() == []
    deaths(connected, 1.0, 1.0, 1.0, 1.0)
    (shown,) = faces(connected.machine.release())
    assert not shown.quarantined
    assert shown.state is S.ERROR
    connected.connect()
    deaths(connected, 1.0, 1.0, 1.0)
    assert not connected.face.quarantined


# -- client data, restarts and the host's end --------------------------------------------------


def test_data_needs_a_connected_device(connected: Device) -> None:
    connected.machine.check_takes_data()
    connected.submit(connected.command())
    connected.machine.check_takes_data()
    connected.exit()
    with pytest.raises(BadState, match="data needs a connected device, a is error; connect it"):
        connected.machine.check_takes_data()


def test_a_restart_closes_the_device_and_says_why(connected: Device) -> None:
    (call,) = connected.machine.restart("its plugin was reloaded", connected.now)
    assert isinstance(call, CallWorker)
    assert (call.request, call.timeout) == (RunHook("close"), 14.0)
    assert call.job.deadline == connected.now.monotonic + 14.0
    (shown,) = faces(connected.answer(call.job))
    assert (shown.state, shown.reason) == (S.DISCONNECTED, "its plugin was reloaded")
    assert (shown.by, shown.operation) == ("host", "close")


def test_only_a_device_with_a_worker_is_closed_by_the_host(discovered: Device) -> None:
    assert discovered.machine.close(200.0, discovered.now) == []
    discovered.connect()
    (call,) = discovered.machine.close(200.0, discovered.now)
    assert isinstance(call, CallWorker)
    assert (call.job.deadline, call.job.by, call.job.reason) == (200.0, "host", "")


def test_a_device_that_many_want_closed_needs_no_more_of_it(connected: Device) -> None:
    connected.submit(connected.command())
    for _ in range(job_queue.LENGTH):
        connected.submit(connected.job(Op.CLOSE))
    assert connected.machine.close(200.0, connected.now) == []


def test_at_the_hosts_end_every_job_is_answered(connected: Device) -> None:
    running, waiting, reset = connected.command(), connected.command(), connected.job(Op.RESET)
    for job in (running, waiting, reset):
        connected.submit(job)
    stopping = HostLost("host is stopping")
    assert connected.machine.abandon(stopping) == [
        Kill(),
        Finished(running, Outcome(error=stopping), S.ACTIVE),
        Finished(reset, Outcome(error=stopping), S.ACTIVE),
        Finished(waiting, Outcome(error=stopping), S.ACTIVE),
    ]
    assert connected.machine.queued == 0
    connected.exit("")
    assert connected.machine.idle


def test_at_the_hosts_end_an_idle_device_has_nothing_to_do(discovered: Device) -> None:
    assert discovered.machine.abandon(HostLost("over")) == []
