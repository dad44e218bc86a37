"""What may be asked of a host, and what is answered; on workers that do as the test says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sat_bus.contract import bin_batch, topics
from sat_bus.service.request_desk import RequestDesk
from sat_bus.transport.bus import Inbound
from sat_host.bus.publisher import HostPublisher
from sat_host.bus.requests import HostRequests
from sat_host.bus.stream_publisher import StreamPublisher
from sat_host.delivery import DeliveryChanges
from sat_host.devices.device import HostedDevice
from sat_host.devices.drivers import Driver
from sat_host.devices.inventory import Inventory
from sat_host.devices.scanner import Scanner
from sat_host.outcome import Outcome
from sat_host.pool.handle import WorkerHandle
from sat_host.wire_messages import (
    Describe,
    RunCommand,
    RunHook,
    Scan,
    SendFrames,
    StreamChanged,
    TakeInput,
)
from sat_toolkit.core.device_spec import DeviceState as S
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import CommandFailed, DriverError, Indeterminate
from tests.unit.sat_host.fakes import LoopRig
from tests.unit.sat_host.host_fakes import HEADER, Worker, Workers, device_info, plugin

HOST = "sat/1/lab/host/bench"
DEVICE = "sat/1/lab/dev/bench/drv_x/a"
BLOCK = FrameBlock.pack([{"t": 1.0, "id": 1}, {"t": 1.0, "id": 2}])


class Rig(LoopRig):
    """The requests of a host that has one driver with one device, and all that is published."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, bytes]] = []
        self.workers = Workers()
        self.inventory = Inventory("bench")
        bus: Any = self
        self.publisher = HostPublisher(
            bus, self.loop, self.inventory, site="lab", boot="2000-bb", family="lab"
        )
        self.streams = StreamPublisher(bus, "lab", "bench", "2000-bb")
        self.scanner = Scanner(
            self.inventory, self.loop, self.workers, self.publisher, self.streams
        )
        self.desk = RequestDesk("lab", "bench", "2000-bb", self, self.loop.now)
        self.requests = HostRequests(
            self.desk, self.loop, self.inventory, self.scanner, self.publisher, self.streams
        )
        self.ids = 0
        self.driver = self.add("drv_x")
        self.scanner.scan(self.driver)

    def add(self, name: str) -> Driver:
        driver = Driver(plugin(name), self.loop, self)
        self.inventory.add_driver(driver)
        driver.start()
        return driver

    # -- a bus, and the owner of the driver

    def publish(self, topic: str, payload: bytes, **how: Any) -> bool:
        self.sent.append((topic, payload))
        return True

    def spawn_scanner(self, driver: Driver) -> WorkerHandle:
        return self.workers.spawn(f"{driver.name}/scan", driver.plugin, None, driver)

    def described(self, driver: Driver) -> None: ...

    def hardware_changed(self, driver: Driver) -> None: ...

    # -- what the test does

    @property
    def device(self) -> HostedDevice:
        return self.inventory.device("drv_x", "a")

    @property
    def worker(self) -> Worker:
        return self.workers.of("drv_x/a")

    def send(self, topic: str, payload: bytes) -> None:
        match = topics.parse("lab", topic)
        assert match is not None
        self.requests.handle(Inbound(topic, payload, arrived=self.clock.now), match)

    def ask(self, topic: str, args: Any, **envelope: Any) -> str:
        """Send a request; the topic of its reply."""
        self.ids += 1
        reply_to = f"sat/1/lab/reply/ann/{self.ids}"
        envelope = {"args": args, "request_id": f"r{self.ids}", "reply_to": reply_to, **envelope}
        self.send(topic, json.dumps(envelope).encode())
        return reply_to

    def replies(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for sent, payload in self.sent if sent == topic]

    def reply(self, topic: str) -> dict[str, Any]:
        """The one reply on `topic`."""
        (reply,) = self.replies(topic)
        return reply

    def operate(self, op: str, args: Any = None, **envelope: Any) -> dict[str, Any]:
        args = {"device": "a"} if args is None else args
        return self.reply(self.ask(f"{HOST}/req/{op}", args, **envelope))

    def command(self, name: str = "echo", args: Any = None, **envelope: Any) -> str:
        args = {"text": "x"} if args is None and name == "echo" else args or {}
        return self.ask(f"{DEVICE}/cmd/{name}", args, **envelope)

    def events(self) -> list[dict[str, Any]]:
        return self.replies(f"{DEVICE}/event")


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def connected(rig: Rig) -> Rig:
    assert rig.operate("connect")["status"] == "ok"
    return rig


def failure(reply: dict[str, Any]) -> tuple[str, str]:
    assert reply["status"] == "error"
    return reply["code"], reply["message"]


# -- commands ----------------------------------------------------------------------------------


def test_a_command_runs_and_its_result_is_the_reply(connected: Rig) -> None:
    topic = connected.command("echo", {"text": "x"})
    assert connected.worker.calls[-1][:2] == (RunCommand("echo", {"text": "x"}), 30.0)
    assert connected.replies(topic) == []
    connected.clock.now += 0.02
    connected.worker.answer(Outcome({"text": "x"}))
    reply = connected.reply(topic)
    assert (reply["status"], reply["result"], reply["state"]) == ("ok", {"text": "x"}, "connected")
    assert (reply["host"], reply["boot"], reply["duration_ms"]) == ("bench", "2000-bb", 20.0)


def test_the_driver_says_how_long_a_command_may_take(connected: Rig) -> None:
    connected.command("sleep")
    assert connected.worker.calls[-1][1] == 0.7


def test_a_command_that_the_driver_refuses(connected: Rig) -> None:
    topic = connected.command()
    connected.worker.answer(Outcome(error=CommandFailed("no")))
    reply = connected.reply(topic)
    assert failure(reply) == ("driver_error", "no")
    assert reply["state"] == "connected"


def test_a_command_that_leads_to_error(connected: Rig) -> None:
    topic = connected.command()
    connected.worker.answer(Outcome(error=DriverError("cable cut"), fatal=True))
    reply = connected.reply(topic)
    assert (failure(reply)[0], reply["state"]) == ("driver_error", "error")
    order = [sent for sent, _ in connected.sent]
    assert order.index(topic) < order.index(f"{DEVICE}/status", order.index(topic))
    assert order[order.index(topic) + 1 :] == [f"{DEVICE}/status", f"{DEVICE}/state"]


@pytest.mark.parametrize(
    ("topic", "args", "code", "message"),
    [
        (f"{DEVICE}/cmd/echo", {"text": 5}, "bad_args", "echo: args.text"),
        (f"{DEVICE}/cmd/dance", {}, "unknown_command", "drv_x has: echo, sleep, start"),
        (f"{DEVICE}b/cmd/echo", {"text": ""}, "unknown_device", "did you mean bench/drv_x/a?"),
        ("sat/1/lab/dev/bench/drv_y/a/cmd/echo", {}, "unknown_driver", "bench has: drv_x"),
    ],
)
def test_a_command_that_makes_no_sense(
    connected: Rig, topic: str, args: Any, code: str, message: str
) -> None:
    reply = connected.reply(connected.ask(topic, args))
    assert reply["code"] == code
    assert message in reply["message"]
    assert "state" not in reply


def test_a_command_needs_a_connected_device(rig: Rig) -> None:
    reply = rig.reply(rig.command())
    assert (reply["code"], reply["state"]) == ("bad_state", "discovered")


def test_who_asks_is_shown(connected: Rig) -> None:
    topic = connected.command("start")
    connected.device.on_event(StreamChanged("can", "r1", running=True))
    connected.worker.answer(Outcome())
    assert connected.reply(topic)["status"] == "ok"
    status = connected.replies(f"{DEVICE}/status")[-1]
    assert status["streams"]["can"]["by"] == "ann"


def test_one_job_too_many_is_refused(connected: Rig) -> None:
    topics_ = [connected.command() for _ in range(18)]
    assert failure(connected.reply(topics_[-1]))[0] == "busy"
    assert connected.replies(topics_[-2]) == []


# -- deadlines ---------------------------------------------------------------------------------


def test_a_command_that_does_not_end_in_time(connected: Rig) -> None:
    topic = connected.command("echo", timeout_ms=1500)
    connected.pass_time(1.25)
    assert connected.replies(topic) == []
    connected.pass_time(0.25)
    reply = connected.reply(topic)
    assert failure(reply) == (
        "timeout",
        "echo did not end within 1.5 s; its effect is unknown",
    )
    assert "state" not in reply
    connected.worker.answer(Outcome())
    assert len(connected.replies(topic)) == 1
    assert connected.loop.errors == 0


def test_a_command_that_could_not_start_in_time(connected: Rig) -> None:
    running = connected.command()
    late = connected.command("sleep", timeout_ms=500)
    connected.pass_time(0.5)
    assert failure(connected.reply(late)) == (
        "expired",
        "sleep could not start within 0.5 s and never will",
    )
    connected.worker.answer(Outcome())
    assert connected.reply(running)["status"] == "ok"
    assert connected.worker.requests.count(RunCommand("sleep", {})) == 0
    assert len(connected.replies(late)) == 1


def test_a_client_has_ten_seconds_and_an_orchestrator_seventy(connected: Rig) -> None:
    del connected.workers.answers[RunHook("close")]
    command = connected.command()
    connected.pass_time(9.75)
    assert connected.replies(command) == []
    connected.pass_time(0.25)
    assert failure(connected.reply(command))[0] == "timeout"
    connected.worker.answer(Outcome())
    closing = connected.ask(f"{HOST}/req/close", {"device": "a"})
    connected.pass_time(69.75)
    assert connected.replies(closing) == []
    connected.pass_time(0.25)
    assert failure(connected.reply(closing)) == (
        "timeout",
        "close did not end within 70 s; its effect is unknown",
    )


def test_a_request_that_waited_for_us_too_long_is_not_run(connected: Rig) -> None:
    match = topics.parse("lab", f"{DEVICE}/cmd/echo")
    assert match is not None
    calls = len(connected.worker.calls)
    old = Inbound(f"{DEVICE}/cmd/echo", b'{"text":"x"}', arrived=connected.clock.now - 10.0)
    connected.requests.handle(old, match)
    assert connected.reply(f"{DEVICE}/res/echo")["code"] == "expired"
    assert len(connected.worker.calls) == calls


def test_a_fault_of_our_own_is_an_answer_too(
    connected: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    connected.driver.commands = {"echo": None}  # type: ignore[dict-item]
    code, message = failure(connected.reply(connected.command()))
    assert code == "internal"
    assert message.startswith("AttributeError: 'NoneType'")
    assert connected.loop.errors == 1
    assert "NoneType" in caplog.text


# -- client data -------------------------------------------------------------------------------


def test_client_data_is_handed_on_without_a_reply(connected: Rig) -> None:
    connected.sent.clear()
    connected.send(f"{DEVICE}/in/can/json", b'{"frames": [{"id": 1}, {"id": 2}]}')
    assert connected.worker.told == [TakeInput("can", [{"id": 1}, {"id": 2}])]
    assert connected.sent == []


def test_client_data_that_cannot_be_taken_is_answered(connected: Rig) -> None:
    answer = f"{DEVICE}/res/in"
    connected.send(f"{DEVICE}/in/can/json", b'{"frames": [7]}')
    connected.worker.full = True
    connected.send(f"{DEVICE}/in/can/json", b'{"id": 1}')
    connected.send("sat/1/lab/dev/bench/drv_x/b/in/can/json", b'{"id": 1}')
    codes = [reply["code"] for reply in connected.replies(answer)]
    assert codes == ["bad_args", "busy"]
    (other,) = connected.replies("sat/1/lab/dev/bench/drv_x/b/res/in")
    assert other["code"] == "unknown_device"


def bin_payload(**header: Any) -> bytes:
    size = len(bytes(BLOCK.records)) // 2
    head = {"t0": 1.0, "n": 2, "size": size, "seq": 0, "stream": "x", **header}
    return bin_batch.join(json.dumps(head).encode(), bytes(BLOCK.records))


def send_frames(rig: Rig, stream: str = "can", **header: Any) -> None:
    rig.sent.clear()
    rig.send(f"{DEVICE}/in/{stream}/bin", bin_payload(**header))


SENT = {"sent": 1, "failed": [{"index": 1, "reason": "bus off"}, {"index": 2, "reason": "full"}]}


def test_frames_are_sent_and_each_is_accounted_for(connected: Rig) -> None:
    send_frames(connected, request_id="q1")
    request = connected.worker.requests[-1]
    assert isinstance(request, SendFrames)
    assert bytes(request.block.records) == bytes(BLOCK.records)
    connected.worker.answer(Outcome(SENT))
    reply = connected.reply(f"{DEVICE}/res/in")
    assert (reply["status"], reply["result"], reply["request_id"]) == ("ok", SENT, "q1")
    assert connected.events() == []


def test_who_names_a_reply_topic_is_answered_there(connected: Rig) -> None:
    send_frames(connected, reply_to="sat/1/lab/reply/ann/f1")
    connected.worker.answer(Outcome(SENT))
    assert connected.reply("sat/1/lab/reply/ann/f1")["result"] == SENT
    assert connected.events() == []


def test_frames_that_nobody_asked_about_fail_in_an_event(connected: Rig) -> None:
    send_frames(connected)
    connected.worker.answer(Outcome(SENT))
    (event,) = connected.events()
    assert (event["event"], event["code"], event["reason"], event["n"]) == (
        "input_failed",
        "driver_error",
        "full",
        2,
    )
    assert connected.replies(f"{DEVICE}/res/in") == []
    connected.sent.clear()
    send_frames(connected)
    connected.worker.answer(Outcome({"sent": 2, "failed": []}))
    assert connected.sent == []


def test_frames_that_are_not_sent_in_time(connected: Rig) -> None:
    send_frames(connected, timeout_ms=500, request_id="q1")
    connected.pass_time(0.25)
    assert connected.sent == []
    connected.pass_time(0.25)
    assert failure(connected.reply(f"{DEVICE}/res/in")) == (
        "timeout",
        "the frames were not all sent in time; what became of them is unknown",
    )
    connected.worker.answer(Outcome(SENT))
    assert len(connected.replies(f"{DEVICE}/res/in")) == 1
    assert connected.loop.errors == 0


def test_frames_of_a_worker_that_dies(connected: Rig) -> None:
    send_frames(connected)
    connected.worker.answer(Outcome(error=Indeterminate("died"), fatal=True, gone=True))
    assert failure(connected.reply(f"{DEVICE}/res/in")) == ("indeterminate", "died")


def test_bin_is_for_can_frames(connected: Rig) -> None:
    send_frames(connected, "uart")
    assert failure(connected.reply(f"{DEVICE}/res/in")) == (
        "bad_args",
        "bin is for CAN frames: publish to in/can/bin, or to in/uart/json",
    )


def test_frames_need_a_connected_device(rig: Rig) -> None:
    send_frames(rig)
    assert rig.reply(f"{DEVICE}/res/in")["code"] == "bad_state"


# -- lifecycle ---------------------------------------------------------------------------------


def test_a_device_is_connected_for_the_orchestrator(rig: Rig) -> None:
    reply = rig.operate("connect")
    assert (reply["status"], reply["state"]) == ("ok", "connected")
    assert reply["result"] == {"changed": True, "message": ""}
    status = rig.replies(f"{DEVICE}/status")[-1]
    assert (status["state"], status["by"], status["operation"]) == (
        "connected",
        "orchestrator",
        "connect",
    )
    again = rig.operate("connect", {"device": "a", "driver": "drv_x"})
    assert again["message"] == "Device already connected"
    assert again["result"] == {"changed": False, "message": "Device already connected"}


@pytest.mark.parametrize(
    ("op", "state"),
    [("initialize", "initialized"), ("reset", "disconnected"), ("close", "disconnected")],
)
def test_each_step_of_the_lifecycle(rig: Rig, op: str, state: str) -> None:
    reply = rig.operate(op)
    assert (reply["status"], reply["state"]) == ("ok", state)
    assert (RunHook(op) in rig.worker.requests) if op == "initialize" else True


def test_a_step_that_fails(rig: Rig) -> None:
    rig.workers.answers[RunHook("connect")] = Outcome(error=DriverError("no"), fatal=True)
    reply = rig.operate("connect")
    assert failure(reply) == ("driver_error", "no")
    assert reply["state"] == "error"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"device": "ghost"}, "unknown_device"),
        ({"device": "a", "driver": "drv_y"}, "unknown_driver"),
        ({"device": "ghost", "driver": "drv_x"}, "unknown_device"),
        ({}, "bad_args"),
    ],
)
def test_a_device_that_is_not_there(rig: Rig, args: Any, code: str) -> None:
    for op in ("connect", "forget", "release"):
        assert failure(rig.operate(op, args))[0] == code


def test_the_orchestrator_starts_a_stream(connected: Rig) -> None:
    args = {
        "driver": "drv_x",
        "device": "a",
        "stream": "can",
        "args": {"stream": {"window_ms": 20}},
    }
    topic = connected.ask(f"{HOST}/req/start", args)
    assert connected.worker.requests[-1] == RunCommand("start", {}, DeliveryChanges(window_ms=20))
    connected.device.on_event(StreamChanged("can", "r1", running=True))
    connected.worker.answer(Outcome({"started": True}))
    reply = connected.reply(topic)
    assert (reply["result"], reply["state"]) == ({"started": True}, "connected")
    assert "message" not in reply or reply["message"] == ""
    status = connected.replies(f"{DEVICE}/status")[-1]
    assert status["streams"]["can"]["by"] == "orchestrator"
    assert status["streams"]["can"]["args"] == {"stream": {"window_ms": 20}}


def test_a_start_that_fails_or_makes_no_sense(connected: Rig) -> None:
    args = {"driver": "drv_x", "device": "a", "stream": "can"}
    topic = connected.ask(f"{HOST}/req/start", args)
    connected.worker.answer(Outcome(error=CommandFailed("no")))
    reply = connected.reply(topic)
    assert (failure(reply), reply["state"]) == (("driver_error", "no"), "connected")
    assert failure(connected.operate("start", {"device": "a"}))[0] == "bad_args"
    assert failure(connected.operate("start", {**args, "device": "b"}))[0] == "unknown_device"


# -- the host's own requests -------------------------------------------------------------------


def test_an_unknown_request_is_told_what_there_is(rig: Rig) -> None:
    assert failure(rig.operate("dance")) == (
        "unknown_command",
        "unknown request 'dance'; a host takes: close, connect, forget, initialize, release, "
        "reload, reset, resync, scan, start",
    )


def test_an_orchestrator_that_was_superseded_is_fenced(rig: Rig) -> None:
    assert rig.operate("initialize", epoch=4)["status"] == "ok"
    assert rig.publisher.epoch_seen == 4
    assert failure(rig.operate("close", epoch=3)) == ("fenced", "epoch 3 is over; 4 has been seen")
    assert rig.device.state is S.INITIALIZED
    assert rig.operate("close", epoch=4)["status"] == "ok"
    assert rig.operate("resync", {}, epoch=6)["status"] == "ok"
    assert rig.operate("resync", {})["status"] == "ok"
    assert rig.publisher.epoch_seen == 6


def test_an_unknown_request_fences_nobody(rig: Rig) -> None:
    rig.operate("dance", epoch=9)
    assert rig.publisher.epoch_seen == 0


def test_a_scan_lists_what_it_found(rig: Rig) -> None:
    rig.workers.find("a", "b")
    assert rig.operate("scan", {})["result"] == {
        "devices": [
            {"driver": "drv_x", "device": "a", "state": "discovered", "new": False},
            {"driver": "drv_x", "device": "b", "state": "discovered", "new": True},
        ],
        "errors": {},
    }


def test_a_scan_waits_for_all_drivers_and_tells_what_failed(rig: Rig) -> None:
    other = rig.add("drv_y")
    rig.workers.wait_with(Scan)
    topic = rig.ask(f"{HOST}/req/scan", {})
    rig.workers.of("drv_x/scan").answer(Outcome([device_info("a")]))
    assert rig.replies(topic) == []
    rig.workers.of("drv_y/scan").answer(Outcome(error=DriverError("no")))
    result = rig.reply(topic)["result"]
    assert [device["device"] for device in result["devices"]] == ["a"]
    assert result["errors"] == {"drv_y": "no"}
    assert other.scanned


def test_a_scan_may_be_for_one_driver(rig: Rig) -> None:
    other = rig.add("drv_y")
    rig.workers.find("c")
    result = rig.operate("scan", {"driver": "drv_y"})["result"]
    assert [device["device"] for device in result["devices"]] == ["c"]
    assert other.scanned
    assert rig.workers.of("drv_x/scan").requests.count(Scan()) == 1
    assert failure(rig.operate("scan", {"driver": "drv_z"}))[0] == "unknown_driver"
    assert failure(rig.operate("scan", {"drivers": []}))[0] == "bad_args"


def test_a_host_without_drivers_finds_nothing() -> None:
    rig = Rig()
    rig.inventory._drivers.clear()
    rig.inventory._devices.clear()
    assert rig.operate("scan", {})["result"] == {"devices": [], "errors": {}}


def test_drivers_are_loaded_again(rig: Rig) -> None:
    other = rig.add("drv_y")
    assert rig.operate("reload", {})["result"] == {"drivers": ["drv_x", "drv_y"]}
    assert rig.operate("reload", {"driver": "drv_y"})["result"] == {"drivers": ["drv_y"]}
    described = [w.name for w in rig.workers.workers if Describe() in w.requests]
    assert described == [
        "drv_x/scan",
        "drv_y/scan",
        "drv_x/scan",
        "drv_y/scan",
        "drv_y/scan",
    ]
    assert other.reloading
    assert failure(rig.operate("reload", {"driver": "drv_z"}))[0] == "unknown_driver"


def test_everything_is_published_again(rig: Rig) -> None:
    rig.sent.clear()
    assert rig.operate("resync", {})["result"] == {"devices": 1}
    assert {f"{HOST}/state", f"{DEVICE}/status"} <= {topic for topic, _ in rig.sent}


@pytest.mark.parametrize("closed", [True, False])
def test_a_device_that_is_at_rest_can_be_forgotten(rig: Rig, closed: bool) -> None:
    if closed:
        rig.operate("close")
    rig.device.on_frames(HEADER, b"[]")
    assert rig.streams.dropped("drv_x", "a") == {"can": {}}
    rig.sent.clear()
    assert rig.operate("forget")["result"] == {"forgotten": "a"}
    assert list(rig.inventory.devices) == []
    assert rig.streams.dropped("drv_x", "a") == {}
    assert (f"{DEVICE}/status", b"") in rig.sent
    rig.operate("scan", {})
    assert rig.device.state is S.DISCOVERED


def test_a_device_in_use_cannot_be_forgotten(connected: Rig) -> None:
    assert failure(connected.operate("forget")) == (
        "bad_state",
        "a is connected; close it first, then forget it",
    )
    assert connected.device.state is S.CONNECTED


def test_a_device_that_is_about_to_be_used_cannot_be_forgotten(rig: Rig) -> None:
    rig.workers.wait_with(RunHook("initialize"))
    rig.ask(f"{HOST}/req/initialize", {"device": "a"})
    assert failure(rig.operate("forget"))[0] == "bad_state"


def test_a_quarantine_is_ended(connected: Rig) -> None:
    assert connected.operate("release")["result"] == {"released": False}
    for _ in range(5):
        connected.device.on_exit("died")
        connected.operate("reset")
        connected.operate("connect")
    refused = connected.operate("reset")
    assert (refused["code"], refused["state"]) == ("quarantined", "error")
    released = connected.operate("release")
    assert (released["result"], released["state"]) == ({"released": True}, "error")


def test_what_is_refused_is_counted(rig: Rig) -> None:
    rig.send(f"{DEVICE}/cmd/echo", b"")
    assert rig.requests.counts["empty"] == 1
