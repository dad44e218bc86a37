"""The rules by themselves, on drivers in this process: the good one holds each, and each fault is
noticed by the rule that is about it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
from sat_toolkit.errors import CommandFailed
from sat_toolkit.models.Device_Model import Device
from sat_toolkit.testing import RULES, Bench, Violation, subject_of
from sat_toolkit.testing.rules import Rule


class Good(BaseDeviceDriver):
    """Streams numbers and answers questions; nothing to complain of."""

    stream_types = (StreamType.CUSTOM,)
    supported_commands = {"status": "how it is", "start": "stream", "stop": "no more"}

    def _scan_impl(self) -> list[Device]:
        return [Device("one", "One", "Custom", {"port": 1}), Device("two", "Two", "Custom", {})]

    def _initialize_impl(self, device: Device) -> bool:
        return True

    _connect_impl = _reset_impl = _close_impl = _initialize_impl

    def _command_impl(
        self, device: Device, command: str, args: dict[str, Any] | None = None
    ) -> Any:
        match command:
            case "status":
                return {"well": True}
            case "start":
                return self.start_streaming(device)
            case "stop":
                return self.stop_streaming(device)
        raise CommandFailed(f"unknown command {command}")

    def _acquisition_loop(self) -> None:
        running, device = self.is_acquiring, self.device
        assert device is not None
        while running.is_set():
            self.stream_wrapper.broadcast_data(
                StreamData(StreamType.CUSTOM, device.device_id, time.time(), StreamSource.SERVER,
                           StreamAction.DATA, {"value": 1})
            )  # fmt: skip
            time.sleep(0.005)


class FindsNothing(Good):
    def _scan_impl(self) -> list[Device]:
        return []


class LosesAttributes(Good):
    def _scan_impl(self) -> list[Device]:
        return [Device("one", "One", "Custom", {"pair": (1, 2)})]


class AnswersNoJson(Good):
    def _command_impl(
        self, device: Device, command: str, args: dict[str, Any] | None = None
    ) -> Any:
        return object() if command == "status" else super()._command_impl(device, command, args)


class DiesAtOnce(Good):
    def _acquisition_loop(self) -> None:
        raise OSError("no port")


class Silent(Good):
    def _acquisition_loop(self) -> None:
        while self.is_acquiring.is_set():
            time.sleep(0.005)


def rule(name: str) -> Rule:
    (found,) = [rule for rule in RULES if rule.check.__name__ == name]
    return found


def run(rule: Rule, driver: type[BaseDeviceDriver]) -> None:
    rule.run(Bench(subject_of(driver, frames_within=0.3)))


def test_each_rule_has_a_name_of_its_own_and_says_what_to_do() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert [rule.name for rule in RULES if not rule.fix] == []
    checks = [rule.check for rule in RULES]
    assert [rule.name for rule in RULES if rule.needs and rule.needs not in checks] == []


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_good_driver_holds_every_rule(rule: Rule) -> None:
    run(rule, Good)


@pytest.mark.parametrize(
    ("name", "driver", "says"),
    [
        ("scan", FindsNothing, "the scan finds no device"),
        ("scan", LosesAttributes, "these attributes change when they travel as JSON"),
        ("results", AnswersNoJson, "status"),
        ("stream", DiesAtOnce, "no port"),
        ("stream", Silent, "0 of 1 frames came within"),
    ],
)
def test_a_fault_is_noticed(name: str, driver: type[BaseDeviceDriver], says: str) -> None:
    with pytest.raises(Violation, match=says):
        run(rule(name), driver)
