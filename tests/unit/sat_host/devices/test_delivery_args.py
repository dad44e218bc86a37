"""What a start says of the delivery of streams, apart from what is the driver's own."""

from __future__ import annotations

from typing import Any

import pytest

from sat_host.delivery import DeliveryChanges
from sat_host.devices.delivery_args import take_delivery, with_delivery
from sat_toolkit.core.commands import Command
from sat_toolkit.errors import BadArgs

START = Command("start", "", {"type": "object"}, None)
OWN_STREAM = Command("start", "", {"type": "object", "properties": {"stream": {}}}, None)


@pytest.mark.parametrize(
    ("command", "streams"),
    [(Command("stop", "", {"type": "object"}, None), ["can"]), (START, []), (OWN_STREAM, ["can"])],
)
def test_args_that_are_the_drivers_own_are_left_alone(command: Command, streams: list[str]) -> None:
    assert take_delivery(command, streams, {"stream": "x"}) == ({"stream": "x"}, DeliveryChanges())
    assert with_delivery(command, streams) == command.parameters


def test_the_delivery_is_taken_out_of_the_args() -> None:
    args = {"fd": True, "stream": {"formats": ["json", "bin"], "window_ms": 50, "max_hz": 5}}
    assert take_delivery(START, ["can"], args) == (
        {"fd": True},
        DeliveryChanges(("json", "bin"), 50, 5),
    )
    assert "stream" in args


def test_a_start_may_say_nothing_of_it() -> None:
    assert take_delivery(START, ["can"], {"fd": True}) == ({"fd": True}, DeliveryChanges())


@pytest.mark.parametrize("delivery", [{"formats": []}, {"speed": 1}, 5, {"max_hz": {"x": 1}}])
def test_a_delivery_that_makes_no_sense_is_refused_with_what_does(delivery: Any) -> None:
    with pytest.raises(BadArgs, match=r"^stream: .+; accepted: formats, window_ms, max_hz$"):
        take_delivery(START, ["can"], {"stream": delivery})


def test_bin_alone_is_refused_where_there_are_no_can_frames() -> None:
    with pytest.raises(BadArgs, match="this device has uart, adc; json is accepted"):
        take_delivery(START, ["uart", "adc"], {"stream": {"formats": ["bin"]}})
    both = {"formats": ["bin", "json"]}
    assert take_delivery(START, ["uart"], {"stream": both})[1].formats == ("bin", "json")
    _, changes = take_delivery(START, ["uart", "can"], {"stream": {"formats": ["bin"]}})
    assert changes == DeliveryChanges(("bin",))


def test_a_start_command_declares_the_delivery_that_the_host_takes_out() -> None:
    command = Command("start", "", {"type": "object", "properties": {"fd": {"type": "boolean"}}})
    schema = with_delivery(command, ["can"])
    assert set(schema["properties"]) == {"fd", "stream"}
    assert set(schema["properties"]["stream"]["properties"]) == {"formats", "window_ms", "max_hz"}
    assert "how frames are delivered" in schema["properties"]["stream"]["description"]
    assert "stream" not in command.parameters["properties"]
    assert set(with_delivery(START, ["can"])["properties"]) == {"stream"}
