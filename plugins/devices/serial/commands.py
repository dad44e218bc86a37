"""The commands of the serial driver as data: text and JSON Schema. What they do is the driver's."""

from __future__ import annotations

from typing import Any, Final

from plugins.devices.serial.framing import LINES, NEWLINES, RAW, Framing
from plugins.devices.serial.ports import (
    BYTESIZES,
    MAX_BAUD_RATE,
    MAX_READ_CHUNK,
    PARITIES,
    STOPBITS,
)

MAX_WRITE: Final = 16_384
EXPECT_DEFAULT_MS: Final = 5_000
EXPECT_MAX_MS: Final = 60_000
BREAK_DEFAULT_MS: Final = 250

_TEXT: Final[dict[str, Any]] = {"type": "string", "maxLength": MAX_WRITE}
_HEX: Final[dict[str, Any]] = {
    "type": "string",
    "maxLength": 3 * MAX_WRITE,
    "pattern": r"^\s*([0-9A-Fa-f]{2}\s*)*$",
    "description": 'bytes in hex, spaces allowed: "deadbeef", "DE AD"',
}
_NEWLINE: Final[dict[str, Any]] = {
    "enum": list(NEWLINES),
    "default": "none",
    "description": "end of line to add: lf, crlf, cr or none",
}


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


_SETTINGS: Final = _object(
    {
        "baud_rate": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_BAUD_RATE,
            "description": "bit/s",
        },
        "bytesize": {"enum": list(BYTESIZES), "description": "data bits"},
        "parity": {"enum": list(PARITIES), "description": "none, even, odd, mark, space"},
        "stopbits": {"enum": list(STOPBITS)},
        "rtscts": {"type": "boolean", "description": "flow control by RTS and CTS"},
        "xonxoff": {"type": "boolean", "description": "flow control by XON and XOFF"},
        "dtr": {"type": "boolean", "description": "level of the line DTR"},
        "rts": {"type": "boolean", "description": "level of the line RTS"},
    }
)

_EXPECT: Final = _object(
    {
        "pattern": {
            "type": "string",
            "minLength": 1,
            "maxLength": 1024,
            "description": "regular expression (Python's)",
        },
        "text": {
            "type": "string",
            "minLength": 1,
            "maxLength": 1024,
            "description": "the text itself",
        },
        "send": {
            **_TEXT,
            "description": "text to write first; what was received before it is not looked at",
        },
        "newline": _NEWLINE,
        "timeout_ms": {
            "type": "integer",
            "minimum": 1,
            "maximum": EXPECT_MAX_MS,
            "default": EXPECT_DEFAULT_MS,
            "description": "how long to wait, in milliseconds",
        },
    },
    oneOf=[{"required": ["pattern"]}, {"required": ["text"]}],
    dependentRequired={"newline": ["send"]},
)

COMMANDS: Final[dict[str, Any]] = {
    "start": {
        "description": "Start streaming what is received; a stream that runs is begun anew when its framing changes",
        "parameters": _object(
            {
                "framing": {
                    "enum": [LINES, RAW],
                    "default": LINES,
                    "description": "lines: one frame a line; raw: one frame each time something is read",
                },
                "max_length": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_READ_CHUNK,
                    "default": Framing.max_length,
                    "description": "with lines: a longer line is cut, in bytes",
                },
                "idle_ms": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 60_000,
                    "default": int(Framing.idle * 1000),
                    "description": "with lines: silence after which a line begun is sent as it is, such as a prompt",
                },
            }
        ),
    },
    "stop": {"description": "Stop streaming; the port stays open", "parameters": _object({})},
    "status": {
        "description": "Port, settings in short, whether it streams and how, and counters in bytes",
        "parameters": _object({}),
    },
    "write": {
        "description": "Write text or bytes; answers with the number of bytes written",
        "parameters": _object(
            {"text": _TEXT, "hex": _HEX, "newline": _NEWLINE},
            oneOf=[{"required": ["text"]}, {"required": ["hex"]}],
        ),
        "timeout_ms": 60_000,
    },
    "expect": {
        "description": "Wait until what is received matches; answers with the match, its groups and what came before. "
        "It looks at what came since the last write or match",
        "parameters": _EXPECT,
        "timeout_ms": EXPECT_MAX_MS + 60_000,
    },
    "settings": {
        "description": "Show the line's settings and modem lines, after changing those given; "
        "changes hold until reset or close",
        "parameters": _SETTINGS,
    },
    "send_break": {
        "description": "Hold the line in the break condition",
        "parameters": _object(
            {
                "duration_ms": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 5_000,
                    "default": BREAK_DEFAULT_MS,
                    "description": "how long, in milliseconds",
                }
            }
        ),
    },
}
