"""CAN frames between their three forms: a stream's dict, a command's args and python-can's
`Message`.

PURE: no I/O, no clock. What a person or a program may write is checked here and nowhere else; each
FrameError says what would be accepted.

The stream's dict is ``{"id": 291, "ext", "fd", "brs", "esi", "rtr", "err", "tx", "data":
"deadbeef"}`` with false flags left out; a remote frame carries ``dlc`` and empty data.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

import can
from can.typechecking import CanFilter

from sat_toolkit.core.frame_block import BRS, ERROR, EXTENDED, FDF, REMOTE
from sat_toolkit.errors import BadArgs

MAX_STANDARD_ID: Final = 0x7FF
MAX_EXTENDED_ID: Final = 0x1FFF_FFFF
MAX_CLASSIC_LENGTH: Final = 8
FD_LENGTHS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64)

# <linux/can/error.h>
_ERROR_CONTROLLER: Final = 0x004
_ERROR_RX_OVERFLOW: Final = 0x01

_CAN_FRAME: Final = struct.Struct("<IBxxx8s")
_CANFD_FRAME: Final = struct.Struct("<IBBxx64s")

_FD_LENGTHS_TEXT: Final = "0 to 8, 12, 16, 20, 24, 32, 48 or 64 bytes"
_NO_REMOTE_FD: Final = "CAN FD has no remote frames: leave out fd or remote"
_NO_ERROR_FRAMES: Final = "error frames are reported by a bus and cannot be sent"

_DICT_KEYS: Final = frozenset({"id", "ext", "fd", "brs", "esi", "rtr", "err", "tx", "data", "dlc"})
_FILTER_KEYS: Final = frozenset({"id", "mask", "extended"})


class FrameError(BadArgs, ValueError):
    """A frame or filter that no bus could carry; the message says what would be accepted."""


class FrameDict(TypedDict, total=False):
    """A frame as it travels on a stream. `id` and `data` are always there."""

    id: int
    ext: bool
    fd: bool
    brs: bool
    esi: bool
    rtr: bool
    err: bool
    tx: bool
    dlc: int
    data: str


def parse_id(value: object, extended: bool | None = None, what: str = "id") -> tuple[int, bool]:
    """The arbitration id and whether it is an extended one.

    `value` is an integer or a string such as "0x123". Without `extended` an id above 0x7FF is an
    extended one. Raises FrameError.
    """
    number = _integer(value, what)
    if extended is None:
        extended = number > MAX_STANDARD_ID
    limit = MAX_EXTENDED_ID if extended else MAX_STANDARD_ID
    if not 0 <= number <= limit:
        kind = "an extended (29-bit)" if extended else "a standard (11-bit)"
        raise FrameError(f"{what} {value!r} is out of range: {kind} id is 0 to {limit:#x}")
    return number, extended


def parse_data(text: object, *, fd: bool = False) -> bytes:
    """A frame's payload from hex digits, which may be spaced: "deadbeef", "DE AD BE EF". Raises
    FrameError."""
    if not isinstance(text, str):
        raise FrameError(f'data must be a string of hex digits such as "deadbeef", not {text!r}')
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise FrameError(
            f'data {text!r} is not hex: two digits a byte, spaces between bytes allowed, such as "de ad be ef"'
        ) from None
    if fd and len(data) not in FD_LENGTHS:
        raise FrameError(f"{len(data)} bytes is no length of a CAN FD frame: {_FD_LENGTHS_TEXT}")
    if not fd and len(data) > MAX_CLASSIC_LENGTH:
        hint = ' (up to 64 with "fd": true)' if len(data) in FD_LENGTHS else ""
        raise FrameError(f"{len(data)} bytes of data: a classic CAN frame carries 0 to 8{hint}")
    return data


def build_message(
    arbitration_id: object,
    data: object = "",
    *,
    extended: bool | None = None,
    fd: bool = False,
    brs: bool = False,
    remote: bool = False,
    dlc: object = None,
) -> can.Message:
    """A frame to be sent. Raises FrameError when no bus could carry it.

    `dlc` is for remote frames, 0 to 8; on others it may repeat the length of the data.
    """
    number, is_extended = parse_id(arbitration_id, extended)
    payload = parse_data(data, fd=fd)
    if brs and not fd:
        raise FrameError('brs (bit rate switch) is for CAN FD frames: give "fd": true too')
    if dlc is not None and (not isinstance(dlc, int) or isinstance(dlc, bool)):
        raise FrameError(f"dlc must be an integer from 0 to 8, not {dlc!r}")
    if remote:
        _check_remote(payload, fd, dlc)
    elif dlc is not None and dlc != len(payload):
        raise FrameError(
            f"dlc {dlc} does not match {len(payload)} bytes of data: leave it out, it follows the data"
        )
    return can.Message(
        arbitration_id=number,
        is_extended_id=is_extended,
        is_fd=fd,
        bitrate_switch=brs,
        is_remote_frame=remote,
        dlc=(dlc or 0) if remote else len(payload),
        data=payload,
        is_rx=False,
    )


def message_from_args(args: Mapping[str, Any]) -> can.Message:
    """The frame that the args of `send` describe. Raises FrameError."""
    return build_message(
        args.get("id"),
        args.get("data", ""),
        extended=args.get("extended"),
        fd=bool(args.get("fd")),
        brs=bool(args.get("brs")),
        remote=bool(args.get("remote")),
        dlc=args.get("dlc"),
    )


def wire_frame(can_id: int, length: int, flags: int, data: bytes) -> bytes:
    """The kernel's ``can_frame`` or ``canfd_frame`` of a record's fields. Raises FrameError when it
    cannot be sent."""
    if can_id & ERROR:
        raise FrameError(_NO_ERROR_FRAMES)
    if not can_id & EXTENDED:
        parse_id(can_id & MAX_EXTENDED_ID, extended=False)
    if not flags & FDF:
        if length > MAX_CLASSIC_LENGTH:
            raise FrameError(f"length {length}: a classic CAN frame carries 0 to 8 bytes")
        return _CAN_FRAME.pack(can_id, length, b"" if can_id & REMOTE else data[:length])
    if can_id & REMOTE:
        raise FrameError(_NO_REMOTE_FD)
    if length not in FD_LENGTHS:
        raise FrameError(f"{length} bytes is no length of a CAN FD frame: {_FD_LENGTHS_TEXT}")
    return _CANFD_FRAME.pack(can_id, length, FDF | flags & BRS, data[:length])


def wire_message(message: can.Message) -> bytes:
    """The kernel's ``can_frame`` or ``canfd_frame`` of a message. Raises FrameError when it cannot
    be sent."""
    can_id = message.arbitration_id
    can_id |= (message.is_extended_id and EXTENDED) | (message.is_remote_frame and REMOTE)
    flags = (message.is_fd and FDF) | (message.bitrate_switch and BRS)
    return wire_frame(can_id, message.dlc, flags, bytes(message.data))


def message_from_dict(frame: object) -> can.Message:
    """The frame of a stream's dict. Raises FrameError, also for an error frame: those cannot be
    sent."""
    if not isinstance(frame, Mapping):
        raise FrameError(
            f'a frame is an object such as {{"id": 291, "data": "deadbeef"}}, not {frame!r}'
        )
    if unknown := sorted(str(key) for key in frame.keys() - _DICT_KEYS - {"t"}):
        raise FrameError(
            f"unknown key {unknown[0]!r} in a frame: it has {', '.join(sorted(_DICT_KEYS))}"
        )
    if "id" not in frame:
        raise FrameError('a frame needs an id, such as {"id": 291, "data": "deadbeef"}')
    if _flag(frame, "err"):
        raise FrameError(_NO_ERROR_FRAMES)
    return build_message(
        frame["id"],
        frame.get("data", ""),
        extended=_flag(frame, "ext"),
        fd=bool(_flag(frame, "fd")),
        brs=bool(_flag(frame, "brs")),
        remote=bool(_flag(frame, "rtr")),
        dlc=frame.get("dlc"),
    )


def message_to_dict(message: can.Message) -> FrameDict:
    """The stream's dict of a frame that a bus delivered. Never raises: what was received is carried
    as it is."""
    frame: FrameDict = {"id": message.arbitration_id}
    if message.is_extended_id:
        frame["ext"] = True
    if message.is_fd:
        frame["fd"] = True
    if message.bitrate_switch:
        frame["brs"] = True
    if message.error_state_indicator:
        frame["esi"] = True
    if message.is_error_frame:
        frame["err"] = True
    if not message.is_rx:
        frame["tx"] = True
    if message.is_remote_frame:
        frame["rtr"] = True
        frame["dlc"] = message.dlc
    frame["data"] = message.data.hex()
    return frame


def is_overrun(message: can.Message) -> bool:
    """Whether this is SocketCAN's error frame for a controller whose receive buffer ran over."""
    return (
        message.is_error_frame
        and bool(message.arbitration_id & _ERROR_CONTROLLER)
        and len(message.data) > 1
        and bool(message.data[1] & _ERROR_RX_OVERFLOW)
    )


def parse_filters(filters: object) -> list[CanFilter]:
    """python-can's acceptance filters from a list of ``{id, mask, extended}``; [] accepts
    everything.

    A frame passes when it matches one entry: ``frame id & mask == id & mask``. The mask defaults to
        all
    bits; without `extended` both standard and extended frames are compared, unless only an extended
    one can have the id. Raises FrameError.
    """
    if not isinstance(filters, Sequence) or isinstance(filters, str | bytes):
        raise FrameError(
            f'filters must be a list such as [{{"id": "0x100", "mask": "0x700"}}], not {filters!r}'
        )
    return [_parse_filter(index, entry) for index, entry in enumerate(filters)]


def filter_to_dict(can_filter: CanFilter) -> dict[str, Any]:
    """A filter as the `filter` command takes it."""
    entry: dict[str, Any] = {"id": can_filter["can_id"], "mask": can_filter["can_mask"]}
    if "extended" in can_filter:
        entry["extended"] = can_filter["extended"]
    return entry


def _parse_filter(index: int, entry: object) -> CanFilter:
    where = f"filters[{index}]"
    if not isinstance(entry, Mapping) or "id" not in entry or entry.keys() - _FILTER_KEYS:
        raise FrameError(
            f"{where} must be an object with id, and mask and extended where wanted, not {entry!r}"
        )
    extended = _flag(entry, "extended")
    can_id, wide = parse_id(entry["id"], extended, f"{where}.id")
    all_bits = MAX_STANDARD_ID if extended is False else MAX_EXTENDED_ID
    mask, _ = parse_id(entry.get("mask", all_bits), extended is not False, f"{where}.mask")
    result: CanFilter = {"can_id": can_id, "can_mask": mask}
    if extended is not None or wide:
        result["extended"] = wide
    return result


def _check_remote(payload: bytes, fd: bool, dlc: int | None) -> None:
    if fd:
        raise FrameError(_NO_REMOTE_FD)
    if payload:
        raise FrameError(
            "a remote frame carries no data: leave data out and give its length as dlc"
        )
    if dlc is not None and not 0 <= dlc <= MAX_CLASSIC_LENGTH:
        raise FrameError(f"dlc {dlc} is out of range: a remote frame asks for 0 to 8 bytes")


def _integer(value: object, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value[:2].lower() == "0x":
        digits = value[2:]
        if digits and all(digit in "0123456789abcdefABCDEF" for digit in digits):
            return int(digits, 16)
    raise FrameError(
        f'{what} must be an integer such as 291 or a string such as "0x123", not {value!r}'
    )


def _flag(entry: Mapping[str, Any], key: str) -> bool | None:
    value = entry.get(key)
    if value is not None and not isinstance(value, bool):
        raise FrameError(f"{key} must be true or false, not {value!r}")
    return value
