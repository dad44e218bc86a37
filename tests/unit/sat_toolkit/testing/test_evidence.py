"""What the rules look at: wrong args, shared state, refusals, frames."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from sat_toolkit.core.commands import Command
from sat_toolkit.core.stream_manager import StreamData, StreamType
from sat_toolkit.errors import BadArgs, CommandFailed
from sat_toolkit.testing import Bench, Violation, evidence, subject_of
from sat_toolkit.testing.bench import Rig
from tests.unit.sdk_fakes import FakeDriver, datum


class Driver(FakeDriver):
    stream_types = (StreamType.CUSTOM,)
    shared: list[int] = []


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench(subject_of(Driver, frames_within=0.5)) as bench:
        yield bench


@pytest.fixture
def rig(bench: Bench) -> Rig:
    return bench.rig().up()


def fake(rig: Rig) -> FakeDriver:
    driver = rig.runner.driver
    assert isinstance(driver, FakeDriver)
    return driver


def test_args_that_a_schema_refuses() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "any": {}, "text": {"type": "string"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    found = evidence.misfits(Command("go", "", schema, None))
    assert found == [{}, {"no_such_arg": 1}, {"n": "x"}, {"text": 17}]
    assert evidence.misfits(Command("go", "", {"type": "object"}, None)) == []


def test_state_that_all_instances_share_is_seen_to_change() -> None:
    before = evidence.class_state(Driver)
    assert before["Driver.shared"] == []
    Driver.shared.append(1)
    assert evidence.class_state(Driver) != before
    Driver.shared.clear()


def test_a_refusal_has_to_be_of_the_right_kind(rig: Rig) -> None:
    fake(rig).does["command"] = CommandFailed("no")
    evidence.require_refusal(rig, "go", {}, CommandFailed)
    with pytest.raises(Violation, match="fails with CommandFailed: no, where BadArgs is due"):
        evidence.require_refusal(rig, "go", {}, BadArgs)
    fake(rig).does["command"] = lambda *args: "fine"
    with pytest.raises(Violation, match="is not refused, it answers 'fine'"):
        evidence.require_refusal(rig, "go", {}, BadArgs)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"channel": "other"}, "the channel is 'other', not 'dev0'"),
        ({"stream_type": "uart"}, "no StreamType"),
        ({"stream_type": StreamType.UART}, "stream_types lacks StreamType.UART"),
        ({"action": "data"}, "no StreamAction"),
        ({"timestamp": 1.5}, "is not of today"),
        ({"timestamp": "now"}, "is not of today"),
        ({"data": object()}, "the data is a object"),
    ],
)
def test_a_frame_says_what_it_is(bench: Bench, rig: Rig, change: dict[str, Any], says: str) -> None:
    good: StreamData = replace(datum(), timestamp=time.time())
    evidence.check_frame(bench, rig, good)
    with pytest.raises(Violation, match=says):
        evidence.check_frame(bench, rig, replace(good, **change))


def test_frames_on_another_channel_are_said_to_be(bench: Bench, rig: Rig) -> None:
    driver = fake(rig)

    def astray() -> None:
        while driver.is_acquiring.is_set():
            driver.stream_wrapper.broadcast_data(datum("elsewhere"))
            driver.is_acquiring.wait(0.001)

    driver.does["loop"] = astray
    rig.start()
    with pytest.raises(Violation, match=r"were sent on another channel than the device's id"):
        evidence.frames_of(bench, rig)
    rig.stop()


def test_a_stream_that_has_died_is_told_by_what_it_died_of(bench: Bench, rig: Rig) -> None:
    fake(rig).does["loop"] = OSError("the port is gone")
    rig.start()
    rig.recorder.wait_failure()
    for check in (evidence.check_alive, evidence.check_open, evidence.stop):
        with pytest.raises(Violation, match="the port is gone"):
            check(rig)


def test_real_hardware_is_asked_for_its_status_only(bench: Bench) -> None:
    needs_nothing = {"type": "object"}
    assert evidence.may_call(bench, Command("status", "", needs_nothing, None))
    assert not evidence.may_call(bench, Command("go", "", needs_nothing, None))
    assert not evidence.may_call(bench, Command("status", "", {"required": ["n"]}, None))


def test_open_files_are_counted() -> None:
    before = evidence.open_files()
    with open("/dev/null"):
        assert evidence.open_files() == before + 1
    assert evidence.open_files() == before
