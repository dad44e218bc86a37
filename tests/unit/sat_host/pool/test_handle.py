"""A worker as its host sees it: calls settled once, silence and floods noticed, its end explained."""

from __future__ import annotations

import socket

import pytest

from sat_bus.service.loop import WorkLoop
from sat_bus.service.tasks import Promise
from sat_host import wire
from sat_host.outcome import Outcome
from sat_host.pool.handle import EVENTS_PER_SECOND, EXIT_GRACE, WorkerHandle
from sat_host.pool.multiplexer import Multiplexer
from sat_host.wire_messages import (
    Acquiring,
    Answer,
    Asked,
    BatchHeader,
    Call,
    CommandSpec,
    Describe,
    Description,
    EventsDropped,
    Exit,
    Halt,
    Ping,
    Pong,
    Refusal,
    RunCommand,
    RunHook,
    Scan,
    SendFrames,
    StreamBatch,
)
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import BadArgs, Busy, Code, Indeterminate, Timeout
from tests.unit.sat_host.fakes import CONFIGURE, FakeMultiplexer, FakeOwner, FakeWorker, LoopRig
from tests.waiting import eventually

CONNECT = RunHook("connect")
HEADER = BatchHeader("can", "json", "r", 1, {}, b"{")


@pytest.fixture
def rig() -> LoopRig:
    return LoopRig()


@pytest.fixture
def owner() -> FakeOwner:
    return FakeOwner()


@pytest.fixture
def multiplexer() -> FakeMultiplexer:
    return FakeMultiplexer()


@pytest.fixture
def worker(rig: LoopRig, owner: FakeOwner, multiplexer: FakeMultiplexer) -> FakeWorker:
    return FakeWorker(rig, owner, multiplexer)


def failure(outcome: Promise[Outcome]) -> tuple[type, str, bool, bool]:
    result = outcome.result()
    return type(result.error), str(result.error), result.fatal, result.gone


def test_the_first_message_says_what_it_is_for(worker: FakeWorker) -> None:
    assert worker.sent == [CONFIGURE]
    assert worker.alive


def test_answers_find_their_calls_in_any_order(rig: LoopRig, worker: FakeWorker) -> None:
    first, second = worker.call(CONNECT, 5.0), worker.call(RunCommand("go", {"n": 1}), 5.0)
    assert worker.sent[1:] == [Asked(1, CONNECT), Asked(2, RunCommand("go", {"n": 1}))]
    worker.says(Answer(2, {"a": 1}), Refusal(1, Code.BAD_ARGS, "no", fatal=True))
    assert not first.settled, "the multiplexer's thread settles nothing"
    rig.settle()
    assert second.result() == Outcome({"a": 1})
    assert failure(first) == (BadArgs, "no", True, False)


def test_an_answer_to_no_call_is_ignored(
    rig: LoopRig, worker: FakeWorker, owner: FakeOwner
) -> None:
    worker.says(Answer(9), Pong())
    rig.settle()
    assert worker.alive
    assert owner.events == []


def test_the_results_of_a_host_s_own_calls_are_types(rig: LoopRig, worker: FakeWorker) -> None:
    description = Description({"go": CommandSpec("x", {})}, ["can"], 1.0)
    described, scanned = worker.call(Describe(), 5.0), worker.call(Scan(), 5.0)
    worker.says(Answer(1, description), Answer(2, [{"device_id": "d"}]))
    rig.settle()
    assert described.result().result == description
    assert scanned.result().result == [{"device_id": "d"}]


@pytest.mark.parametrize("request_", [Describe(), Scan()])
def test_a_result_that_is_not_what_was_asked_for_ends_the_worker(
    rig: LoopRig, worker: FakeWorker, request_: Call
) -> None:
    outcome = worker.call(request_, 5.0)
    worker.says(Answer(1, "nonsense"))
    rig.settle()
    kind, text, fatal, gone = failure(outcome)
    assert (kind, fatal, gone) == (Indeterminate, True, True)
    name = type(request_).__name__
    assert text.startswith(f"worker sent what is no message: the answer to {name}: ")
    assert worker.kills == [text]


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (CONNECT, "connect"),
        (RunCommand("go", {}), "go"),
        (SendFrames(FrameBlock(b"")), "sending"),
        (Scan(), "scan"),
        (Describe(), "describe"),
    ],
)
def test_a_call_that_outlives_its_timeout_costs_the_worker(
    rig: LoopRig, worker: FakeWorker, owner: FakeOwner, request_: Call, word: str
) -> None:
    outcome = worker.call(request_, 1.5)
    worker.says(Pong())
    rig.pass_time(1.25)
    assert not outcome.settled
    rig.pass_time(0.5)
    text = f"{word} did not end within 1.5 s"
    assert failure(outcome) == (Timeout, text, True, True)
    assert worker.kills == owner.exits == [text]


def test_an_answer_in_time_is_the_only_one(rig: LoopRig, worker: FakeWorker) -> None:
    outcome = worker.call(CONNECT, 1.0)
    worker.says(Answer(1, "first"), Answer(1, "second"))
    rig.pass_time(2.0)
    assert outcome.result() == Outcome("first")
    assert worker.kills == []


def test_a_death_settles_every_call_and_is_told(
    rig: LoopRig, worker: FakeWorker, owner: FakeOwner, multiplexer: FakeMultiplexer
) -> None:
    outcomes = [worker.call(CONNECT, 5.0), worker.call(RunCommand("go", {}), 5.0)]
    worker.on_closed("")
    assert not outcomes[0].settled, "the multiplexer's thread settles nothing"
    rig.settle()
    assert [failure(o) for o in outcomes] == [(Indeterminate, "ended", True, True)] * 2
    assert owner.exits == ["ended"]
    assert multiplexer.removed == [worker.channel]
    worker.kill("again")
    assert owner.exits == ["ended"]
    assert not worker.alive


def test_a_call_to_a_dead_worker_is_settled_at_once(rig: LoopRig, worker: FakeWorker) -> None:
    worker.kill()
    assert failure(worker.call(CONNECT, 5.0)) == (
        Indeterminate, "the worker of drv_x/d is gone", True, True,
    )  # fmt: skip
    rig.pass_time(6.0)


def test_what_does_not_fit_into_the_buffer_is_refused(worker: FakeWorker) -> None:
    worker.tell(Halt())
    assert worker.sent[-1] == Halt()
    worker.channel.full = True
    with pytest.raises(Busy, match="drv_x/d does not take its input; try again later"):
        worker.tell(Halt())
    assert failure(worker.call(CONNECT, 5.0))[0] is Indeterminate


def test_frames_go_straight_on_and_events_by_way_of_the_loop(
    rig: LoopRig, worker: FakeWorker, owner: FakeOwner
) -> None:
    worker.says(Acquiring(True), StreamBatch(HEADER, b"[1]"))
    assert owner.frames == [(HEADER, b"[1]")]
    assert owner.events == []
    rig.settle()
    assert owner.events == [Acquiring(True)]


def test_a_dismissed_worker_may_end_by_itself_and_is_then_killed(
    rig: LoopRig, worker: FakeWorker, owner: FakeOwner
) -> None:
    worker.dismiss()
    assert worker.sent[-1] == Exit()
    worker.says(Acquiring(False), StreamBatch(HEADER, b"[]"))
    rig.pass_time(EXIT_GRACE - 0.25)
    assert worker.kills == []
    rig.pass_time(0.5)
    assert worker.kills == [""]
    assert (owner.frames, owner.events, owner.exits) == ([], [], []), "it hears no more of it"


def test_silence_ends_a_worker_that_was_heard_before(
    rig: LoopRig, worker: FakeWorker, owner: FakeOwner
) -> None:
    rig.pass_time(10.0)
    assert worker.sent.count(Ping()) == 10
    assert worker.kills == [], "it may take long to load"
    worker.says(Pong())
    rig.pass_time(2.9)
    assert worker.kills == []
    rig.pass_time(1.5)
    assert worker.kills == owner.exits == ["worker has not answered for 3 s"]
    sent = len(worker.sent)
    rig.pass_time(5.0)
    assert len(worker.sent) == sent, "nobody asks a dead worker"


def test_a_sign_of_life_in_time_keeps_it(rig: LoopRig, worker: FakeWorker) -> None:
    for _ in range(5):
        worker.says(Pong())
        rig.pass_time(2.5)
    assert worker.kills == []


def test_after_a_gap_of_the_host_silence_is_forgiven(rig: LoopRig, worker: FakeWorker) -> None:
    worker.forgive()
    rig.pass_time(8.0)
    assert worker.kills == [], "one that was never heard is not waited for"
    worker.says(Pong())
    rig.clock.now += 60.0
    worker.forgive()
    rig.settle()
    assert worker.kills == []


def test_an_end_that_keeps_its_socket_open_is_noticed(
    rig: LoopRig, worker: FakeWorker, owner: FakeOwner
) -> None:
    worker.ended = True
    rig.pass_time(1.25)
    assert owner.exits == ["ended"]


def test_a_flood_of_events_is_refused(rig: LoopRig, worker: FakeWorker) -> None:
    rig.clock.now = 200.5
    events = [EventsDropped(1)] * EVENTS_PER_SECOND
    worker.says(*events, Pong(), StreamBatch(HEADER, b"[]"))
    rig.clock.now = 201.0
    worker.says(*events)
    with pytest.raises(BufferError, match="more than 1000 events in a second"):
        worker.says(EventsDropped(1))


def test_what_is_no_message_is_said_to_be_so(worker: FakeWorker) -> None:
    with pytest.raises(wire.WireError, match="worker sent what is no message: bad prefix"):
        worker.on_bytes(b"\xff" * 16)


class Lying(WorkerHandle):
    """A worker of a real multiplexer, nothing but its end of the socket."""

    def kill(self, reason: str = "") -> None: ...

    def wait(self, timeout: float) -> None: ...

    def _has_ended(self) -> bool:
        return False

    def _on_eof(self, problem: str = "") -> None: ...


def test_the_reason_is_that_of_the_closing_not_that_it_is_closed(owner: FakeOwner) -> None:
    """A call to a worker whose channel has just been closed says why, before the end of the worker
    is told."""
    multiplexer = Multiplexer("test")
    loop = WorkLoop("test")  # which does not run: no end is told yet
    multiplexer.start()
    ours, theirs = socket.socketpair()
    worker = Lying("drv/one", CONFIGURE, loop, multiplexer, owner, ours)
    with theirs:
        theirs.sendall(b"\xff" * 16)
        assert eventually(lambda: worker.call(CONNECT, 1.0).settled)
    multiplexer.stop()
    assert str(worker.call(CONNECT, 1.0).result().error).startswith(
        "the worker of drv/one is gone: worker sent what is no message"
    )
