"""What readers of the bus see of a device."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from sat_bus.contract.messages import CommandInfo, Meta, Status, StreamStatus
from sat_host.devices.face import Face, describe
from sat_toolkit.core.commands import Command
from sat_toolkit.core.device_spec import DeviceState as S
from sat_toolkit.core.lifecycle import IllegalTransition

RUNNING = StreamStatus(state="running", stream="r1", by="ann", args={"fd": True})
OTHERS: dict[str, Any] = {
    "state": S.ERROR,
    "previous": S.ERROR,
    "by": "ann",
    "reason": "x",
    "operation": "x",
    "acquiring": True,
    "quarantined": True,
    "streams": {"can": RUNNING},
}


@pytest.fixture
def face() -> Face:
    face = Face(100.0, S.CONNECTED, S.INITIALIZED, by="ann", operation="connect")
    face.stream_runs("can", "r1", "ann", {"fd": True})
    return face


def test_a_new_face_is_unknown() -> None:
    assert Face(5.0) == Face(
        5.0, S.UNKNOWN, S.UNKNOWN, by="host", reason="", operation="", streams={}
    )
    assert not Face(5.0).acquiring
    assert not Face(5.0).quarantined


@pytest.mark.parametrize("name", [f.name for f in fields(Face) if f.name != "since"])
def test_each_part_counts_for_a_reader(name: str) -> None:
    face = Face(5.0)
    setattr(face, name, OTHERS[name])
    assert face != Face(5.0)


def test_the_time_alone_does_not_count() -> None:
    assert Face(5.0) == Face(6.0)


def test_a_copy_keeps_what_was(face: Face) -> None:
    copy = face.copy()
    assert copy == face
    assert copy.since == 100.0
    face.stream_runs("uart", "r2", "bob", {})
    face.move(S.ACTIVE, 101.0)
    assert (copy.state, copy.since, set(copy.streams)) == (S.CONNECTED, 100.0, {"can"})


def test_its_message_says_it_all(face: Face) -> None:
    face.reason, face.acquiring, face.quarantined = "why", True, True
    assert face.status(7, "boot-1") == Status(
        state=S.CONNECTED,
        previous=S.INITIALIZED,
        since=100.0,
        rev=7,
        boot="boot-1",
        by="ann",
        reason="why",
        operation="connect",
        acquiring=True,
        streams={"can": RUNNING},
        quarantined=True,
    )


def test_a_move_remembers_where_it_came_from(face: Face) -> None:
    face.move(S.DISCONNECTED, 101.0, "enough")
    assert (face.state, face.previous, face.since) == (S.DISCONNECTED, S.CONNECTED, 101.0)
    assert face.reason == "enough"
    face.move(S.INITIALIZED, 102.0)
    assert face.reason == ""


def test_a_move_to_where_it_is_changes_the_reason_alone(face: Face) -> None:
    face.move(S.CONNECTED, 101.0, "why")
    assert (face.state, face.previous, face.since) == (S.CONNECTED, S.INITIALIZED, 100.0)
    assert face.reason == "why"


def test_a_move_that_the_lifecycle_does_not_have_changes_nothing(face: Face) -> None:
    before = face.copy()
    with pytest.raises(IllegalTransition):
        face.move(S.DISCOVERED, 101.0, "why")
    assert face == before
    assert face.since == 100.0


def test_who_did_what(face: Face) -> None:
    face.credit("bob", "reset")
    assert (face.by, face.operation) == ("bob", "reset")


def test_a_stream_that_runs_is_shown_beside_others(face: Face) -> None:
    args = {"baud": 9600}
    face.stream_runs("uart", "r2", "bob", args)
    args["baud"] = 1
    assert face.streams == {
        "can": RUNNING,
        "uart": StreamStatus(state="running", stream="r2", by="bob", args={"baud": 9600}),
    }


def test_a_stream_that_stops_keeps_what_was_known(face: Face) -> None:
    face.stream_runs("uart", "r2", "bob", {})
    assert face.stream_stopped("can", "r1", "bob")
    assert face.streams["can"] == StreamStatus(
        state="stopped", stream="r1", by="bob", args={"fd": True}
    )
    assert face.streams["uart"].state == "running"


@pytest.mark.parametrize(("kind", "run_id"), [("can", "r0"), ("uart", "r1")])
def test_the_end_of_another_stream_is_none_of_ours(face: Face, kind: str, run_id: str) -> None:
    assert not face.stream_stopped(kind, run_id, "bob")
    assert face.streams == {"can": RUNNING}


def test_when_all_streams_are_over_those_that_had_stopped_keep_who_stopped_them(
    face: Face,
) -> None:
    face.acquiring = True
    face.stream_runs("uart", "r2", "ann", {})
    face.stream_stopped("uart", "r2", "ann")
    face.streams_over("host")
    assert not face.acquiring
    assert {kind: (s.state, s.by) for kind, s in face.streams.items()} == {
        "can": ("stopped", "host"),
        "uart": ("stopped", "ann"),
    }


def test_lost_frames_of_running_streams_are_news_once(face: Face) -> None:
    face.stream_runs("uart", "r2", "ann", {})
    face.stream_stopped("uart", "r2", "ann")
    lost = {"can": {"bus": 2}, "uart": {"bus": 3}, "adc": {"bus": 4}}
    assert face.frames_dropped(lost)
    assert not face.frames_dropped(lost)
    assert {kind: s.dropped for kind, s in face.streams.items()} == {"can": {"bus": 2}, "uart": {}}
    assert not face.frames_dropped({})
    assert face.streams["can"].dropped == {"bus": 2}


def test_a_device_is_described_with_what_its_driver_declares() -> None:
    info = {"name": "Bench", "device_type": "CAN", "attributes": {"a": 1}, "hardware_id": "s-1"}
    send = Command("send", "Sends", {"type": "object"}, 500)
    meta = describe(info, {"send": send}, ["can"])
    assert meta == Meta(
        name="Bench",
        device_type="CAN",
        attributes={"a": 1},
        hardware_id="s-1",
        commands={
            "send": CommandInfo(description="Sends", parameters={"type": "object"}, timeout_ms=500)
        },
        streams=["can"],
    )


def test_a_device_may_have_little_to_say() -> None:
    meta = describe({"name": "Bench", "device_type": "CAN"}, {}, [])
    assert (meta.attributes, meta.hardware_id, meta.commands, meta.streams) == ({}, None, {}, [])


def test_a_start_command_shows_that_it_takes_a_delivery() -> None:
    start = Command("start", parameters={"type": "object", "properties": {"fd": {}}})
    meta = describe({"name": "x", "device_type": "CAN"}, {"start": start}, ["can"])
    assert set(meta.commands["start"].parameters["properties"]) == {"fd", "stream"}
