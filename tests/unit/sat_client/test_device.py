"""A device of a rack: commands, what is desired of it, waiting for a state, frames for it."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_client import Rack
from sat_toolkit import errors
from sat_toolkit.core.device_spec import DeviceState
from tests.unit.client_site import FakeSite, in_thread, until


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


def test_a_command_to_a_lost_host_is_refused_at_once(rack: Rack, site: FakeSite) -> None:
    ecu = rack.device("ecu")
    site.host_state("lost")
    until(lambda: ecu.state is DeviceState.UNKNOWN)
    with pytest.raises(errors.HostLost, match="bench-can"):
        ecu.do("send")
    assert site.asked == []


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


def test_send_to_a_lost_host_is_refused(rack: Rack, site: FakeSite) -> None:
    site.host_state("lost")
    until(lambda: rack.device("ecu").state is DeviceState.UNKNOWN)
    with pytest.raises(errors.HostLost):
        rack.device("ecu").send({"id": 0x123, "data": "ff"})
