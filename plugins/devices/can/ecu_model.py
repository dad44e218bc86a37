"""The simulated car: what it does at a time, the frames that say so, and what it answers to a
tester.

PURE: everything is a function of the seconds since the car was started; no clock, no bus, no
randomness. The frames and their periods are those of `sat_ecu.dbc`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import can
import cantools

DBC_PATH: Final = Path(__file__).with_name("sat_ecu.dbc")
FUNCTIONAL_REQUEST_ID: Final = 0x7DF
PHYSICAL_REQUEST_ID: Final = 0x7E0
RESPONSE_ID: Final = 0x7E8

CYCLE_S: Final = 60.0
CRUISE_KMH: Final = 100.0
_IDLE_RPM: Final = 800.0
_RPM_PER_KMH: Final = (0.0, 110.0, 62.0, 42.0, 32.0, 26.0, 21.0)
_SHIFT_UP_KMH: Final = (0.0, 20.0, 38.0, 58.0, 78.0, 95.0)

_CURRENT_DATA: Final = 0x01
_NEGATIVE: Final = 0x7F
_SERVICE_NOT_SUPPORTED: Final = 0x11
_SUBFUNCTION_NOT_SUPPORTED: Final = 0x12
_PADDING: Final = 0x55


@dataclass(frozen=True)
class CarState:
    """The car at one moment: km/h, rpm, percent, Nm, degrees Celsius, volt, ampere."""

    speed: float
    acceleration: float
    gear: int
    engine_speed: float
    throttle: float
    engine_load: float
    torque: float
    coolant: float
    oil: float
    braking: bool
    driver_door_open: bool
    locked: bool


def car_at(seconds: float) -> CarState:
    """The car `seconds` after its start: a drive that repeats each minute, with an engine that
    warms up."""
    phase = seconds % CYCLE_S
    speed, acceleration = _speed(phase)
    gear = 0 if speed < 1 else sum(speed >= limit for limit in _SHIFT_UP_KMH)
    engine_speed = max(_IDLE_RPM + 15 * math.sin(seconds * 5), speed * _RPM_PER_KMH[gear])
    throttle = min(100.0, max(0.0, 12 * acceleration + speed * 0.2))
    return CarState(
        speed=speed,
        acceleration=acceleration,
        gear=gear,
        engine_speed=engine_speed,
        throttle=throttle,
        engine_load=min(100.0, 15 + 0.85 * throttle),
        torque=3 * throttle - 10 if acceleration >= 0 else -30.0,
        coolant=90 - 70 * math.exp(-seconds / 90),
        oil=95 - 75 * math.exp(-seconds / 180),
        braking=acceleration < -0.5,
        driver_door_open=1 <= phase < 3,
        locked=speed > 10,
    )


def _speed(phase: float) -> tuple[float, float]:
    """Speed in km/h and its rate in km/h per second: stand, accelerate, cruise, brake, stand."""
    if 5 <= phase < 25:
        return _ramp((phase - 5) / 20, 0.0, CRUISE_KMH, 20)
    if 25 <= phase < 40:
        angle = 2 * math.pi * (phase - 25) / 15
        return CRUISE_KMH + 5 * math.sin(angle), 5 * math.cos(angle) * 2 * math.pi / 15
    if 40 <= phase < 55:
        return _ramp((phase - 40) / 15, CRUISE_KMH, 0.0, 15)
    return 0.0, 0.0


def _ramp(part: float, start: float, end: float, duration: float) -> tuple[float, float]:
    value = start + (end - start) * (1 - math.cos(math.pi * part)) / 2
    return value, (end - start) * math.pi * math.sin(math.pi * part) / 2 / duration


def _engine_data(car: CarState, cycle: int) -> dict[str, float]:
    return {
        "EngineSpeed": car.engine_speed,
        "Throttle": car.throttle,
        "EngineLoad": car.engine_load,
        "EngineTorque": car.torque,
        "EngineDataAlive": cycle % 16,
    }


def _engine_temp(car: CarState, _cycle: int) -> dict[str, float]:
    return {"CoolantTemp": car.coolant, "OilTemp": car.oil, "IntakeAirTemp": 25}


def _powertrain(car: CarState, cycle: int) -> dict[str, float]:
    return {
        "VehicleSpeed": car.speed,
        "Gear": car.gear,
        "BrakePressed": car.braking,
        "PowertrainAlive": cycle % 16,
    }


def _wheel_speeds(car: CarState, cycle: int) -> dict[str, float]:
    # A slow slalom: the outer wheels turn faster.
    curve = 0.02 * math.sin(cycle * 0.02 * 0.5)
    left, right = car.speed * (1 + curve), car.speed * (1 - curve)
    return {
        "WheelSpeedFL": left,
        "WheelSpeedFR": right,
        "WheelSpeedRL": left,
        "WheelSpeedRR": right,
    }


def _doors(car: CarState, _cycle: int) -> dict[str, float]:
    closed = dict.fromkeys(("DoorFR", "DoorRL", "DoorRR", "Trunk"), 0)
    return {"DoorFL": car.driver_door_open, "Locked": car.locked, **closed}


def _battery(car: CarState, _cycle: int) -> dict[str, float]:
    return {
        "BatteryVoltage": 14.2 - 0.3 * car.engine_load / 100,
        "BatteryCurrent": 4.5,
        "StateOfCharge": 87,
    }


_SIGNALS: Final[dict[str, Callable[[CarState, int], dict[str, float]]]] = {
    "EngineData": _engine_data,
    "EngineTemp": _engine_temp,
    "Powertrain": _powertrain,
    "WheelSpeeds": _wheel_speeds,
    "Doors": _doors,
    "BatteryStatus": _battery,
}


def load_database() -> Any:
    """The cantools database of `sat_ecu.dbc`, checked strictly."""
    return cantools.database.load_file(DBC_PATH, strict=True)


class CyclicFrames:
    """The car's cyclic frames in the order in which they are due.

    `rate` multiplies all frequencies: 1.0 is 222 frames/s. The car's own time is not changed by it.
    """

    def __init__(self, rate: float = 1.0) -> None:
        if not rate > 0:
            raise ValueError(f"rate must be above 0, not {rate}")
        database = load_database()
        self._messages = [database.get_message_by_name(name) for name in _SIGNALS]
        self._periods: list[float] = [
            message.cycle_time / 1000 / rate for message in self._messages
        ]
        self._cycles = [0] * len(self._messages)

    @property
    def next_due(self) -> float:
        """Seconds after the start at which the next frame is due."""
        return min(
            cycle * period for cycle, period in zip(self._cycles, self._periods, strict=True)
        )

    def due(self, now: float) -> Iterator[can.Message]:
        """The frames due up to `now` (seconds since the start). Their content is that of the time
        they were due."""
        while (at := self.next_due) <= now:
            for index, period in enumerate(self._periods):
                if self._cycles[index] * period == at:
                    yield self._encode(index, at)
                    self._cycles[index] += 1

    def skip_to(self, now: float) -> int:
        """Leave out what was due before `now`, as after a pause of the process; how many frames
        that is."""
        skipped = 0
        for index, period in enumerate(self._periods):
            cycle = max(self._cycles[index], math.ceil(now / period))
            skipped += cycle - self._cycles[index]
            self._cycles[index] = cycle
        return skipped

    def _encode(self, index: int, at: float) -> can.Message:
        message = self._messages[index]
        signals = _SIGNALS[message.name](car_at(at), self._cycles[index])
        return can.Message(
            arbitration_id=message.frame_id,
            is_extended_id=message.is_extended_frame,
            data=message.encode(signals, strict=True),
        )


def answer(request: can.Message, seconds: float) -> can.Message | None:
    """The response of the ECU to a tester's single-frame OBD-II request at `seconds`; None for any
    other frame.

    Mode 01 knows the pids 0x00 (what is supported), 0x05 (coolant), 0x0C (engine speed) and 0x0D
    (vehicle speed); everything else gets a negative response.
    """
    if (
        request.arbitration_id not in (FUNCTIONAL_REQUEST_ID, PHYSICAL_REQUEST_ID)
        or request.is_extended_id
    ):
        return None
    if request.is_remote_frame or request.is_error_frame or not request.data:
        return None
    length = request.data[0]
    body = bytes(request.data[1 : 1 + length])
    if not 1 <= length <= 7 or len(body) != length:
        return None
    return _response(_answer_body(body, car_at(seconds)))


def _answer_body(body: bytes, car: CarState) -> bytes:
    service = body[0]
    if service != _CURRENT_DATA:
        return bytes((_NEGATIVE, service, _SERVICE_NOT_SUPPORTED))
    value = _current_data(body[1], car) if len(body) == 2 else None
    if value is None:
        return bytes((_NEGATIVE, service, _SUBFUNCTION_NOT_SUPPORTED))
    return bytes((service + 0x40, body[1])) + value


def _current_data(pid: int, car: CarState) -> bytes | None:
    match pid:
        case 0x00:
            supported = sum(1 << (32 - known) for known in (0x05, 0x0C, 0x0D))
            return supported.to_bytes(4, "big")
        case 0x05:
            return bytes((round(car.coolant) + 40,))
        case 0x0C:
            return round(car.engine_speed * 4).to_bytes(2, "big")
        case 0x0D:
            return bytes((round(car.speed),))
        case _:
            return None


def _response(body: bytes) -> can.Message:
    data = (bytes((len(body),)) + body).ljust(8, bytes((_PADDING,)))
    return can.Message(arbitration_id=RESPONSE_ID, is_extended_id=False, data=data)
