"""The commands of the CAN driver as data: text and JSON Schema. What they do is the driver's."""

from __future__ import annotations

from typing import Any, Final

from plugins.devices.can.frames import MAX_EXTENDED_ID

_ID: Final[dict[str, Any]] = {
    "type": ["integer", "string"],
    "minimum": 0,
    "maximum": MAX_EXTENDED_ID,
    "pattern": "^0[xX][0-9A-Fa-f]{1,8}$",
    "description": 'arbitration id: an integer such as 291 or a string such as "0x123"',
}

_FILTER: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "id": _ID,
        "mask": {
            **_ID,
            "description": "bits of the id that count: a frame passes when its id & mask == id & mask; "
            "without it all bits count",
        },
        "extended": {
            "type": "boolean",
            "description": "only extended (29-bit) frames, or only standard (11-bit) ones; without it both",
        },
    },
    "required": ["id"],
    "additionalProperties": False,
}

_FILTERS: Final[dict[str, Any]] = {
    "type": "array",
    "items": _FILTER,
    "maxItems": 256,
    "description": "acceptance filters: a frame passes when it matches one of them; [] lets everything pass",
}

_FRAME: Final[dict[str, Any]] = {
    "id": _ID,
    "data": {
        "type": "string",
        "maxLength": 256,
        "default": "",
        "description": 'payload in hex, spaces allowed: "deadbeef", "DE AD"; up to 8 bytes, with fd up to 64',
    },
    "extended": {
        "type": "boolean",
        "description": "an extended (29-bit) id; without it an id above 0x7FF is an extended one",
    },
    "fd": {"type": "boolean", "default": False, "description": "a CAN FD frame"},
    "brs": {"type": "boolean", "default": False, "description": "CAN FD bit rate switch; needs fd"},
    "remote": {
        "type": "boolean",
        "default": False,
        "description": "a remote frame: dlc and no data",
    },
    "dlc": {
        "type": "integer",
        "minimum": 0,
        "maximum": 64,
        "description": "length that a remote frame asks for, 0 to 8; on others it follows the data",
    },
}

_SEND: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        **_FRAME,
        "period_ms": {
            "type": "number",
            "minimum": 1,
            "maximum": 3_600_000,
            "description": "send again and again with this period in milliseconds; a frame of the same id that is "
            "being sent so is replaced",
        },
        "count": {
            "type": "integer",
            "minimum": 1,
            "description": "with period_ms: how many times; without it until stopped",
        },
        "stop": {
            "type": "boolean",
            "default": False,
            "description": "end the cyclic sending of this id, or without an id of all; nothing is sent",
        },
        "frames": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": _FRAME,
                "required": ["id"],
                "additionalProperties": False,
            },
            "minItems": 1,
            "maxItems": 1000,
            "description": "several frames, sent once in this order; nothing else stands beside them",
        },
    },
    "anyOf": [
        {"required": ["id"]},
        {"properties": {"stop": {"const": True}}, "required": ["stop"]},
        {"required": ["frames"]},
    ],
    "dependentRequired": {"count": ["period_ms"]},
    "dependentSchemas": {"frames": {"maxProperties": 1}},
    "additionalProperties": False,
}

COMMANDS: Final[dict[str, Any]] = {
    "start": {
        "description": "Start streaming the frames of the bus",
        "parameters": {
            "type": "object",
            "properties": {"filters": _FILTERS},
            "additionalProperties": False,
        },
    },
    "stop": {
        "description": "Stop streaming; cyclic sending goes on",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    },
    "status": {
        "description": "Interface, channel, health of link and controller, load, counters, filters, cyclic frames",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    },
    "send": {
        "description": "Send a frame once, or cyclically with period_ms, and answer with it; or send several frames, "
        "and answer with how many were sent and which failed",
        "parameters": _SEND,
    },
    "filter": {
        "description": "Choose which frames are received; holds until it is changed, reset or closed",
        "parameters": {
            "type": "object",
            "properties": {"filters": _FILTERS},
            "required": ["filters"],
            "additionalProperties": False,
        },
    },
}
