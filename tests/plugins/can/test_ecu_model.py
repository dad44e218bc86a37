"""The simulated car: a function of time whose frames the DBC decodes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import can
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.devices.can.ecu_model import CyclicFrames, answer, car_at, load_database


@given(st.floats(0, 1e7))
def test_the_car_stays_within_what_a_car_does(seconds: float) -> None:
    car = car_at(seconds)
    assert 0 <= car.speed <= 110
    assert 700 <= car.engine_speed <= 4500
    assert 0 <= car.throttle <= 100
    assert 0 <= car.gear <= 6
    assert 19 <= car.coolant <= 90
    assert car == car_at(seconds)
    assert not (car.driver_door_open and car.speed)


def test_the_engine_warms_up_and_the_car_drives() -> None:
    assert car_at(0).coolant == pytest.approx(20)
    assert car_at(600).coolant == pytest.approx(90, abs=0.2)
    assert car_at(2).driver_door_open
    assert car_at(25).speed == pytest.approx(100)
    assert car_at(20).gear > car_at(10).gear


def test_a_second_of_traffic_has_the_frames_of_the_dbc() -> None:
    frames = list(CyclicFrames().due(0.9999))
    assert Counter(frame.arbitration_id for frame in frames) == {
        0x100: 100,
        0x101: 10,
        0x110: 50,
        0x200: 50,
        0x300: 2,
        0x18FF50E5: 10,
    }
    assert {frame.arbitration_id for frame in frames if frame.is_extended_id} == {0x18FF50E5}


@given(st.floats(0, 1e5), st.sampled_from([0.1, 1.0, 3.0]))
def test_whenever_it_is_every_frame_decodes_to_the_car(seconds: float, rate: float) -> None:
    database, cyclic = load_database(), CyclicFrames(rate)
    cyclic.skip_to(seconds)
    frames = list(cyclic.due(seconds + 1.0 / rate))
    assert len(frames) > 100
    for frame in frames:
        decoded = database.decode_message(frame.arbitration_id, bytes(frame.data))
        if "VehicleSpeed" in decoded:
            assert decoded["VehicleSpeed"] == pytest.approx(car_at(seconds).speed, abs=13 / rate)


def test_alive_counters_count_without_a_gap() -> None:
    database = load_database()
    frames = [frame for frame in CyclicFrames().due(1.0) if frame.arbitration_id == 0x100]
    alive = [
        database.decode_message(0x100, bytes(frame.data))["EngineDataAlive"] for frame in frames
    ]
    assert alive == [index % 16 for index in range(len(alive))]


def test_the_schedule_does_not_drift_and_a_pause_is_skipped() -> None:
    cyclic = CyclicFrames()
    for step in range(1, 1000):
        list(cyclic.due(step * 0.0107))
    assert sum(cyclic._cycles) == pytest.approx(222 * 999 * 0.0107, abs=7)
    skipped = cyclic.skip_to(100.0)
    assert skipped == pytest.approx(222 * (100 - 999 * 0.0107), abs=7)
    assert cyclic.next_due >= 100.0


def request(*data: int, number: int = 0x7DF, **flags: Any) -> can.Message:
    return can.Message(arbitration_id=number, data=data, **{"is_extended_id": False, **flags})


@pytest.mark.parametrize("number", [0x7DF, 0x7E0])
@pytest.mark.parametrize(
    ("data", "response"),
    [
        ((2, 1, 0x00), "06410008180000"),
        ((2, 1, 0x05), "03410582"),  # 90 degrees, offset 40
        ((2, 1, 0x0C), "04410c"),
        ((2, 1, 0x0D), "03410d"),
        ((2, 1, 0x2F), "037f0112"),
        ((1, 1), "037f0112"),
        ((2, 9, 0x02), "037f0911"),
    ],
)
def test_what_the_ecu_answers(number: int, data: tuple[int, ...], response: str) -> None:
    reply = answer(request(*data, number=number), seconds=3600.0)
    assert reply is not None
    assert (reply.arbitration_id, reply.is_extended_id, reply.dlc) == (0x7E8, False, 8)
    assert reply.data.hex().startswith(response)


def test_speed_and_engine_speed_are_the_cars() -> None:
    car = car_at(22.0)
    speed, engine = (answer(request(2, 1, pid), 22.0) for pid in (0x0D, 0x0C))
    assert speed is not None
    assert engine is not None
    assert speed.data[3] == round(car.speed)
    assert int.from_bytes(engine.data[3:5], "big") / 4 == pytest.approx(car.engine_speed, abs=0.25)


@pytest.mark.parametrize(
    "frame",
    [
        request(2, 1, 0, number=0x7E1),
        request(2, 1, 0, is_extended_id=True),
        request(),
        request(0),
        request(8, 1, 0),
        request(3, 1, 0),
        request(is_remote_frame=True, dlc=8),
    ],
)
def test_what_is_no_request_gets_no_answer(frame: can.Message) -> None:
    assert answer(frame, 0.0) is None


def test_a_rate_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        CyclicFrames(0)
