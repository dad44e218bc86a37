"""What living hosts are asked for and when, and what must not be said of those that are gone."""

from __future__ import annotations

from typing import Any

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Birth, DriverInfo, Manifest, Meta, Status
from sat_orchestrator.fleet import presence
from sat_orchestrator.fleet.effects import Resync, ScanWanted, WriteLost
from sat_orchestrator.fleet.table import KnownHost, Presence, Row
from sat_toolkit.core.device_spec import DeviceState

KEY = Key("bench", "drv_x", "can0")
BOOT = "2000-bb"


def host(**fields: Any) -> KnownHost:
    birth = Birth(
        boot=BOOT, family="can", drivers=[DriverInfo(name="drv_x")], manifest=Manifest(count=1, rev=1),
        epoch_seen=0, version="0", clock=0.0,
    )  # fmt: skip
    known = KnownHost("bench", timer=0.0, boot=BOOT, birth=birth, presence=Presence.ALIVE)
    known.scan_at = 100.0
    for name, value in fields.items():
        setattr(known, name, value)
    return known


def row(**fields: Any) -> Row:
    status = {
        "state": DeviceState.CONNECTED, "previous": DeviceState.UNKNOWN, "since": 0.0, "rev": 1, "boot": BOOT,
        "by": "host",
    }  # fmt: skip
    return Row(KEY, Status(**{**status, **fields}), meta=Meta(name="can0", device_type="CAN"))


def test_a_scan_is_due_each_period() -> None:
    known = host()
    assert presence.due(known, [row()], 99.9, 10.0) == []
    assert presence.due(known, [row()], 100.0, 10.0) == [ScanWanted("bench")]
    assert presence.due(known, [row()], 109.9, 10.0) == []
    assert presence.due(known, [row()], 110.0, 10.0) == [ScanWanted("bench")]


def test_only_a_living_host_that_is_ready_is_asked_to_scan() -> None:
    for fields in ({"presence": Presence.AWAITED}, {"presence": Presence.GONE}, {"word": "init"}):
        assert presence.due(host(**fields), [row()], 200.0, 10.0) == []


def test_what_is_missing_is_asked_for_at_growing_distances() -> None:
    known = host(scan_at=1e9)
    asked = [
        now / 4
        for now in range(480)
        if presence.due(known, [], now / 4, 10.0) == [Resync("bench", "0 of 1 devices are known")]
    ]
    assert asked == [0.0, 2.0, 6.0, 14.0, 30.0, 60.0, 90.0]


def test_who_has_told_everything_is_given_a_moment_before_it_is_asked_again() -> None:
    known = host(scan_at=1e9, resyncs=4)
    assert presence.due(known, [row()], 50.0, 10.0) == []
    assert known.resyncs == 0
    assert presence.due(known, [], 50.9, 10.0) == []
    assert presence.due(known, [], 51.0, 10.0) == [Resync("bench", "0 of 1 devices are known")]


def test_the_truth_is_missing_in_words() -> None:
    assert presence.missing_truth(host(), [row()]) == ""
    assert presence.missing_truth(host(birth=None), [row()]) == "its birth is missing"
    assert presence.missing_truth(host(), [row(quality="lost")]) == "can0 is shown as lost"
    without_meta = row()
    without_meta.meta = None
    for incomplete in (
        without_meta,
        row(boot="1000-aa"),
        row(boot="1000-aa", quality="lost"),
        Row(KEY),
    ):
        told = presence.missing_truth(host(), [incomplete])
        assert told == "0 of 1 devices are known"


def test_more_than_was_promised_is_enough() -> None:
    assert presence.missing_truth(host(), [row(), row()]) == ""


def test_what_still_looks_alive_is_corrected_and_corrected_again_after_a_second() -> None:
    device = row()
    device.status_at = 10.0
    assert presence.to_correct([device], 10.9) == []
    assert presence.to_correct([device], 11.0) == [WriteLost(KEY)]
    assert presence.to_correct([device], 11.9) == []
    assert presence.to_correct([device], 12.0) == [WriteLost(KEY)]


def test_when_a_host_is_lost_it_is_corrected_at_once_but_not_twice() -> None:
    device = row()
    device.status_at = 10.0
    assert presence.to_correct([device], 10.0, at_once=True) == [WriteLost(KEY)]
    assert presence.to_correct([device], 10.5, at_once=True) == []


def test_what_is_lost_already_or_was_never_told_is_left_alone() -> None:
    told = [row(quality="lost"), Row(KEY)]
    assert presence.to_correct(told, 100.0, at_once=True) == []
