"""Frames: what goes in comes out, and what no bus could carry is refused with what would be
accepted."""

from __future__ import annotations

from typing import Any

import can
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.devices.can import frames
from sat_toolkit.errors import BadArgs


@st.composite
def frame_dicts(draw: st.DrawFn) -> dict[str, object]:
    extended = draw(st.booleans())
    kind = draw(st.sampled_from(["classic", "fd", "remote"]))
    # Only extended frames have ids above 0x7FF, but an extended one may have a small id.
    frame: dict[str, object] = {"id": draw(st.integers(0, 0x1FFFFFFF if extended else 0x7FF))}
    if extended:
        frame["ext"] = True
    if kind == "fd":
        frame["fd"] = True
        if draw(st.booleans()):
            frame["brs"] = True
    if kind == "remote":
        return frame | {"rtr": True, "dlc": draw(st.integers(0, 8)), "data": ""}
    length = draw(st.sampled_from(frames.FD_LENGTHS)) if kind == "fd" else draw(st.integers(0, 8))
    return frame | {"data": draw(st.binary(min_size=length, max_size=length)).hex()}


@given(frame_dicts())
def test_a_frame_survives_the_way_to_a_message_and_back(frame: dict[str, object]) -> None:
    message = frames.message_from_dict(frame)
    message.is_rx = True
    assert frames.message_to_dict(message) == frame


@given(
    st.integers(0, 0x7FF),
    st.binary(max_size=8),
    st.booleans(),
    st.booleans(),
    st.floats(0, 2e9, allow_nan=False),
)
def test_a_received_error_frame_or_own_frame_is_marked(
    number: int, data: bytes, error: bool, received: bool, stamp: float
) -> None:
    message = can.Message(
        timestamp=stamp,
        arbitration_id=number,
        is_extended_id=False,
        is_error_frame=error,
        is_rx=received,
        data=data,
    )
    expected = {"id": number, "data": data.hex()}
    expected |= {"err": True} if error else {}
    expected |= {} if received else {"tx": True}
    assert frames.message_to_dict(message) == expected


@pytest.mark.parametrize(
    ("value", "extended", "expected"),
    [
        (0x123, None, (0x123, False)),
        ("0x123", None, (0x123, False)),
        ("0X7ff", None, (0x7FF, False)),
        (0x800, None, (0x800, True)),
        ("0x18FF50E5", None, (0x18FF50E5, True)),
        (0x123, True, (0x123, True)),
        (0x7FF, False, (0x7FF, False)),
    ],
)
def test_ids(value: object, extended: bool | None, expected: tuple[int, bool]) -> None:
    assert frames.parse_id(value, extended) == expected


@pytest.mark.parametrize(
    "value",
    [-1, True, 1.0, None, "", "0x", "123", "0x-1", "0x1_0", "0x12 ", 0x20000000, "0x20000000"],
)
def test_no_ids(value: object) -> None:
    with pytest.raises(frames.FrameError, match=r"0x123|29-bit|11-bit"):
        frames.parse_id(value)


def test_a_standard_id_is_checked_when_asked_for() -> None:
    with pytest.raises(frames.FrameError, match=r"11-bit.*0x7ff"):
        frames.parse_id(0x800, extended=False)


def test_spaced_hex_is_data() -> None:
    assert frames.parse_data("DE AD be ef") == b"\xde\xad\xbe\xef"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"data": "abc"}, "two digits a byte"),
        ({"data": "zz"}, "hex"),
        ({"data": 5}, "string of hex"),
        ({"data": "00" * 9}, "0 to 8"),
        ({"data": "00" * 12}, '"fd": true'),
        ({"data": "00" * 9, "fd": True}, "12, 16"),
        ({"data": "00" * 65, "fd": True}, "64 bytes"),
        ({"brs": True}, '"fd": true'),
        ({"remote": True, "data": "00"}, "no data"),
        ({"remote": True, "fd": True}, "no remote frames"),
        ({"remote": True, "dlc": 9}, "0 to 8"),
        ({"data": "0011", "dlc": 3}, "leave it out"),
        ({"dlc": True}, "integer"),
    ],
)
def test_what_no_bus_could_carry_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(frames.FrameError, match=says) as caught:
        frames.build_message(0x100, **arguments)
    assert isinstance(caught.value, BadArgs)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        ("t123", "an object such as"),
        ({"data": ""}, "needs an id"),
        ({"id": 1, "length": 2}, "unknown key 'length'"),
        ({"id": 1, "fd": 1}, "fd must be true or false"),
        ({"id": 1, "err": True}, "cannot be sent"),
        ({"id": 0x800, "ext": False}, "11-bit"),
    ],
)
def test_what_is_no_frame_is_refused(frame: object, says: str) -> None:
    with pytest.raises(frames.FrameError, match=says):
        frames.message_from_dict(frame)


def test_a_frame_of_a_stream_may_be_sent_back_as_it_is() -> None:
    message = frames.message_from_dict({"t": 1.5, "id": 0x123, "tx": True, "data": "01"})
    assert (message.arbitration_id, bytes(message.data)) == (0x123, b"\x01")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"id": 0x100}, {"can_id": 0x100, "can_mask": 0x1FFFFFFF}),
        ({"id": "0x100", "mask": "0x700"}, {"can_id": 0x100, "can_mask": 0x700}),
        ({"id": 0x100, "extended": False}, {"can_id": 0x100, "can_mask": 0x7FF, "extended": False}),
        ({"id": 0x18FF50E5}, {"can_id": 0x18FF50E5, "can_mask": 0x1FFFFFFF, "extended": True}),
        ({"id": 1, "extended": True}, {"can_id": 1, "can_mask": 0x1FFFFFFF, "extended": True}),
    ],
)
def test_filters(entry: dict[str, Any], expected: Any) -> None:
    assert frames.parse_filters([entry]) == [expected]
    assert frames.parse_filters([frames.filter_to_dict(expected)]) == [expected]


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ("0x100", "must be a list"),
        ([0x100], r"filters\[0\] must be an object"),
        ([{"id": 1}, {"mask": 1}], r"filters\[1\] must be an object"),
        ([{"id": 1, "ext": True}], r"filters\[0\]"),
        ([{"id": 0x800, "extended": False}], r"filters\[0\]\.id.*11-bit"),
        ([{"id": 1, "mask": 0x800, "extended": False}], r"filters\[0\]\.mask.*11-bit"),
        ([{"id": 1, "extended": "yes"}], "true or false"),
    ],
)
def test_no_filters(filters: object, says: str) -> None:
    with pytest.raises(frames.FrameError, match=says):
        frames.parse_filters(filters)


def test_an_overrun_of_the_controller_is_told_from_other_errors() -> None:
    overrun = can.Message(
        arbitration_id=0x4, is_error_frame=True, data=bytes((0, 1, 0, 0, 0, 0, 0, 0))
    )
    warning = can.Message(
        arbitration_id=0x4, is_error_frame=True, data=bytes((0, 4, 0, 0, 0, 0, 0, 0))
    )
    data = can.Message(arbitration_id=0x4, data=bytes((0, 1)))
    assert [frames.is_overrun(message) for message in (overrun, warning, data)] == [
        True,
        False,
        False,
    ]
