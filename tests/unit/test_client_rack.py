"""A rack on a site made by hand: names, requests with one outcome, streams, and the times when
things are away."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_bus.transport.memory import MemoryBroker, MemoryBus
from sat_cli.brokers.tcp_ports import find_free_port
from sat_client import Failed, Offline, Rack, Sent
from sat_toolkit import errors
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.frame_block import FrameBlock
from tests.brokers import embedded_broker
from tests.unit.client_site import SITE, FakeSite


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def site(broker: MemoryBroker) -> Iterator[FakeSite]:
    site = FakeSite(broker)
    site.orchestrator()
    site.device("ecu")
    site.born(devices=1)
    yield site
    site.close()


@pytest.fixture
def rack(broker: MemoryBroker, site: FakeSite) -> Iterator[Rack]:
    with Rack(site=SITE, client="tester", bus=MemoryBus(broker, "tester")) as rack:
        yield rack


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[BaseException]]:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except errors.SatError as error:
            caught.append(error)

    thread = threading.Thread(target=run, name="test/caller")
    thread.start()
    return thread, caught


def until(condition: Callable[[], bool], timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        threading.Event().wait(0.005)


def test_what_is_retained_is_there_when_open_returns(rack: Rack) -> None:
    assert [str(d.key) for d in rack.devices()] == ["bench-can/drv_socketcan/ecu"]
    assert rack.hosts()["bench-can"].state == "ready"
    ecu = rack.device("ecu")
    assert ecu.state is DeviceState.CONNECTED
    assert ecu.meta is not None
    assert ecu.meta.name == "the ecu"
    assert (ecu.host, ecu.driver, ecu.id) == ("bench-can", "drv_socketcan", "ecu")


def test_do_returns_the_result(rack: Rack, site: FakeSite) -> None:
    assert rack.device("ecu").do("send", id=0x123, data="deadbeef") == {
        "args": {"id": 0x123, "data": "deadbeef"}
    }
    topic, request = site.asked[0]
    assert topic == "sat/1/lab/dev/bench-can/drv_socketcan/ecu/cmd/send/tester"
    assert request.boot == site.boot
    assert request.timeout_ms == 10_000
    assert request.reply_to == f"sat/1/lab/reply/tester/{request.request_id}"


@pytest.mark.parametrize(
    "error", [errors.BadArgs, errors.UnknownCommand, errors.Busy, errors.DriverError]
)
def test_do_raises_the_error_of_the_replys_code(
    rack: Rack, site: FakeSite, error: type[errors.SatError]
) -> None:
    def refuse(match: topics.Match, request: m.Request) -> Any:
        raise error("because")

    site.answer = refuse
    with pytest.raises(error, match="because"):
        rack.device("ecu").do("send")


def test_request_hands_out_a_reply_that_reports_an_error(rack: Rack, site: FakeSite) -> None:
    def refuse(match: topics.Match, request: m.Request) -> Any:
        raise errors.BadState("not now")

    site.answer = refuse
    reply = rack.device("ecu").request("send")
    assert (reply.status, reply.code) == ("error", "bad_state")


def test_no_reply_is_a_timeout_that_says_what_may_be_wrong(rack: Rack, site: FakeSite) -> None:
    def silent(match: topics.Match, request: m.Request) -> Any:
        raise FakeSite.Silence

    site.answer = silent
    with pytest.raises(errors.Timeout, match=r"bench-can.*sat doctor"):
        rack.device("ecu").do("send", timeout=0.01)


def test_a_late_reply_is_counted_and_ignored(rack: Rack, site: FakeSite) -> None:
    site.bus.publish("sat/1/lab/reply/tester/nobody", m.Reply(status="ok").encode())
    until(lambda: rack.requests.late == 1)
    assert rack.device("ecu").do("send") == {"args": {}}


def test_a_device_that_is_not_there_is_refused_at_once(rack: Rack) -> None:
    with pytest.raises(errors.UnknownDevice, match="ecu"):
        rack.device("abs")


def test_a_command_to_a_lost_host_is_refused_at_once(rack: Rack, site: FakeSite) -> None:
    ecu = rack.device("ecu")
    site.host_state("lost")
    until(lambda: ecu.state is DeviceState.UNKNOWN)
    with pytest.raises(errors.HostLost, match="bench-can"):
        ecu.do("send")
    assert site.asked == []


def test_a_host_lost_during_a_command_ends_the_wait(rack: Rack, site: FakeSite) -> None:
    def lose(match: topics.Match, request: m.Request) -> Any:
        site.host_state("lost")
        raise FakeSite.Silence

    site.answer = lose
    before = time.monotonic()
    with pytest.raises(errors.Indeterminate, match="bench-can"):
        rack.device("ecu").do("send", timeout=30.0)
    assert time.monotonic() - before < 10.0


def test_offline_a_request_is_refused_and_nothing_is_sent_later(
    rack: Rack, site: FakeSite, broker: MemoryBroker
) -> None:
    ecu = rack.device("ecu")
    broker.stop()
    until(lambda: not rack.connected)
    with pytest.raises(Offline, match="nothing was sent"):
        ecu.do("send")
    broker.start()
    until(lambda: rack.connected and site.bus.connected)
    assert ecu.do("status") == {"args": {}}
    assert [topic.split("/")[-2] for topic, _ in site.asked] == ["status"]


def test_closing_the_rack_ends_a_wait(rack: Rack, site: FakeSite) -> None:
    def silent(match: topics.Match, request: m.Request) -> Any:
        raise FakeSite.Silence

    site.answer = silent
    thread, caught = in_thread(lambda: rack.device("ecu").do("send", timeout=30.0))
    until(lambda: len(site.asked) == 1)
    rack.close()
    thread.join(5.0)
    assert [type(error) for error in caught] == [Offline]


def test_set_names_level_and_streams(rack: Rack, site: FakeSite) -> None:
    rack.device("ecu").set("connected", {"can": {"batch": 10}})
    topic, request = site.asked[0]
    assert topic.endswith("/ecu/set/tester")
    assert request.args == {"level": "connected", "streams": {"can": {"batch": 10}}}


def test_set_refuses_a_word_of_its_own(rack: Rack, site: FakeSite) -> None:
    with pytest.raises(errors.BadArgs, match="auto"):
        rack.device("ecu").set("flying")
    assert site.asked == []


@pytest.mark.parametrize("op", ["initialize", "connect", "reset", "close"])
def test_the_lifecycle_goes_to_the_orchestrator(rack: Rack, site: FakeSite, op: str) -> None:
    getattr(rack.device("ecu"), op)()
    topic, request = site.asked[0]
    assert topic == f"sat/1/lab/orch/req/{op}/tester"
    assert request.args == {"host": "bench-can", "driver": "drv_socketcan", "device": "ecu"}


@pytest.mark.parametrize("state", ["offline", None])
def test_without_an_orchestrator_nobody_waits(
    rack: Rack, site: FakeSite, state: str | None
) -> None:
    if state is None:
        site.publish(topics.ORCHESTRATOR_STATE, None)
    else:
        site.orchestrator(state)
    until(lambda: rack.orchestrator is None or rack.orchestrator.state == "offline")
    rack.orchestrator_grace = 0.05
    with pytest.raises(errors.HostLost, match="sat orchestrator"):
        rack.device("ecu").connect()
    with pytest.raises(errors.HostLost, match="sat orchestrator"):
        rack.device("ecu").set("connected")


def test_wait_for_returns_when_the_device_is_there(rack: Rack, site: FakeSite) -> None:
    ecu = rack.device("ecu")
    thread, caught = in_thread(lambda: ecu.wait_for("disconnected", 10.0))
    site.status("ecu", "disconnected")
    thread.join(5.0)
    assert not thread.is_alive()
    assert caught == []


def test_wait_for_connected_takes_active(rack: Rack, site: FakeSite) -> None:
    site.status("ecu", "active")
    ecu = rack.device("ecu")
    until(lambda: ecu.state is DeviceState.ACTIVE)
    ecu.wait_for("connected", 0.01)


def test_wait_for_says_where_the_device_is_and_why(rack: Rack, site: FakeSite) -> None:
    site.status("ecu", "error", reason="the adapter was pulled")
    until(lambda: rack.device("ecu").state is DeviceState.ERROR)
    with pytest.raises(errors.Timeout, match=r"is error \(the adapter was pulled\), not connected"):
        rack.device("ecu").wait_for("connected", 0.2)


def test_a_watch_sees_batches_and_what_is_missing(rack: Rack, site: FakeSite) -> None:
    with rack.device("ecu").watch("can") as watch:
        site.batch(0, 3)
        site.batch(5, 1, kernel=2)
        first, second = watch.get(5.0), watch.get(5.0)
    assert first is not None
    assert second is not None
    assert [f["id"] for f in first.frames] == [0, 1, 2]
    assert (first.type, first.missed) == ("can", 0)
    assert (second.missed, second.dropped) == (2, {"kernel": 2})


def test_a_watch_takes_the_form_that_is_published_unless_it_names_one(
    rack: Rack, site: FakeSite
) -> None:
    ecu = rack.device("ecu")
    with (
        ecu.watch("can") as both,
        ecu.watch("can", form="json") as plain,
        ecu.frames("can", form="bin") as frames,
    ):
        site.packed_batch(0, 3)
        site.batch(3, 1, stream="s2")
        assert [both.get(5.0).batch.form for _ in range(2)] == ["bin", "json"]
        assert plain.get(5.0).batch.stream == "s2"
        assert next(iter(frames))["id"] == 0
    with pytest.raises(errors.BadArgs, match="auto, json, bin are accepted"):
        ecu.watch("can", form="xml")  # type: ignore[arg-type]


def test_closing_the_rack_ends_its_readers(site: FakeSite) -> None:
    with Rack(site=SITE, bus=MemoryBus(site.broker, "short")) as rack:
        watch, feed = rack.watch(), rack.feed(topics.DEVICE_EVENT)
    assert (list(watch), list(feed)) == ([], [])


def test_two_watches_of_one_device_do_not_disturb_each_other(rack: Rack, site: FakeSite) -> None:
    one, two = rack.device("ecu").watch("can"), rack.device("ecu").watch("can")
    with two:
        with one:
            site.batch(0, 1)
            assert one.get(5.0) is not None
        site.batch(1, 1)
        assert [two.get(5.0).batch.seq for _ in range(2)] == [0, 1]


def test_send_goes_to_the_devices_input(rack: Rack, site: FakeSite) -> None:
    rack.device("ecu").send({"id": 0x123, "data": "ff"})
    until(lambda: site.inputs == [b'{"frames":[{"id":291,"data":"ff"}]}'])


def test_packed_frames_are_answered_one_by_one(rack: Rack, site: FakeSite) -> None:
    site.answer = lambda match, request: {
        "sent": 2,
        "failed": [{"index": 1, "reason": "no such id"}],
    }
    frames: list[dict[str, Any]] = [
        {"id": 1, "data": "00"},
        {"id": 2, "data": ""},
        {"id": 3, "rtr": True, "dlc": 4},
    ]
    assert rack.device("ecu").send_frames(frames) == Sent(2, (Failed(1, "no such id"),))
    ((header, block),) = site.packed
    assert [frame["id"] for frame in block.frames()] == [1, 2, 3]
    assert header["reply_to"] == f"sat/1/lab/reply/{rack.client}/{header['request_id']}"


@pytest.mark.parametrize(("fd", "parts"), [(False, [4096, 904]), (True, [3264, 1736])])
def test_more_frames_than_a_host_takes_at_once_go_in_parts(
    rack: Rack, site: FakeSite, fd: bool, parts: list[int]
) -> None:
    site.answer = lambda match, request: {"sent": 0, "failed": [{"index": 0, "reason": "never"}]}
    sent = rack.device("ecu").send_frames({"id": i, "data": "", "fd": fd} for i in range(5000))
    assert [len(block) for _, block in site.packed] == parts
    assert sent == Sent(0, (Failed(0, "never"), Failed(parts[0], "never")))


def test_packed_frames_may_go_without_an_answer(rack: Rack, site: FakeSite) -> None:
    block = FrameBlock.pack([{"id": 1, "data": "00"}])
    assert rack.device("ecu").send_frames(block, confirm=False) is None
    until(lambda: [header for header, _ in site.packed] == [{"n": 1, "size": 24}])


def test_frames_that_are_none_and_refusals_are_errors(rack: Rack, site: FakeSite) -> None:
    with pytest.raises(errors.BadArgs, match=r"frame 1: .*id"):
        rack.device("ecu").send_frames([{"id": 1, "data": ""}, {"data": ""}])

    def refuse_the_second(match: topics.Match, request: m.Request) -> dict[str, Any]:
        if len(site.packed) > 1:
            raise errors.Busy("the queue is full")
        return {"sent": 4096, "failed": []}

    site.answer = refuse_the_second
    with pytest.raises(errors.Busy) as caught:
        rack.device("ecu").send_frames({"id": 1, "data": ""} for _ in range(5000))
    assert caught.value.__notes__ == ["4096 of 5000 frames were in the batches before"]


def test_send_to_a_lost_host_is_refused(rack: Rack, site: FakeSite) -> None:
    site.host_state("lost")
    until(lambda: rack.device("ecu").state is DeviceState.UNKNOWN)
    with pytest.raises(errors.HostLost):
        rack.device("ecu").send({"id": 0x123, "data": "ff"})


def test_what_the_broker_forgot_is_forgotten_after_a_reconnect(
    rack: Rack, site: FakeSite, broker: MemoryBroker
) -> None:
    broker.wipe()
    broker.cut("tester")
    until(lambda: rack.devices() == [] and rack.connected)
    site.device("ecu")
    until(lambda: [d.id for d in rack.devices()] == ["ecu"])


def test_retained_messages_survive_a_reconnect(rack: Rack, broker: MemoryBroker) -> None:
    broker.cut("tester")
    until(lambda: rack.connected)
    assert rack.requests.echo("probe", threading.Event().set)
    assert [d.id for d in rack.devices()] == ["ecu"]


def test_without_a_broker_open_says_so() -> None:
    broker = MemoryBroker()
    broker.stop()
    with pytest.raises(Offline, match="sat doctor"):
        Rack("mqtt://me:secret@nowhere:1883", bus=MemoryBus(broker, "t")).open(0.1)


def test_where_nothing_listens_open_says_so_soon() -> None:
    rack = Rack(f"mqtt://127.0.0.1:{find_free_port()}")
    with pytest.raises(Offline, match=r"within 0\.5 s .*Connection refused"):
        rack.open(60, refused_timeout=0.5)


def test_a_broker_that_is_silent_is_given_the_whole_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        rack = Rack(f"mqtt://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(Offline, match=r"within 0\.7 s"):
            rack.open(0.7, refused_timeout=0.2)


def test_a_broker_that_comes_up_in_that_time_is_reached(caplog: pytest.LogCaptureFixture) -> None:
    with embedded_broker() as broker:
        broker.kill()
        rack = Rack(broker.url)
        thread, caught = in_thread(lambda: rack.open(10, refused_timeout=10))
        until(lambda: "Connection refused" in caplog.text)
        broker.start()
        thread.join(10)
        assert caught == []
        assert rack.connected
        rack.close()


def test_a_password_never_reaches_a_message() -> None:
    broker = MemoryBroker()
    broker.stop()
    with pytest.raises(Offline) as caught:
        Rack("mqtt://me:secret@nowhere:1883", bus=MemoryBus(broker, "t")).open(0.1)
    assert "secret" not in str(caught.value)


def test_the_user_of_the_url_is_the_client_that_a_broker_can_vouch_for() -> None:
    assert Rack("mqtt://anna:x@bench").client == "anna"


def test_a_closed_rack_says_that_it_is_closed() -> None:
    with pytest.raises(Offline, match="not open"):
        _ = Rack("mqtt://bench").requests
